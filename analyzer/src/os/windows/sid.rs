//! Security identifiers and the names of those that are the same everywhere.
//!
//! Sources: [MS-DTYP] 2.4.2 (layout, text), 2.4.2.4 (well-known SIDs).

use std::fmt;

use object::{Absent, Read, Target};

/// Most parts of a SID (`SID_MAX_SUB_AUTHORITIES`).
const MAX_PARTS: u64 = 15;

/// A security identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sid {
    revision: u8,
    authority: u64,
    parts: Vec<u32>,
}

impl Sid {
    /// The SID at an address: revision, number of parts, authority in big-endian order, parts.
    pub fn at(target: &Target, addr: u64) -> Read<Self> {
        let head = target.read_bytes(addr, 8, 8)?;
        let malformed = Absent::Malformed("a SID");
        let [revision, count, authority @ ..] = head.as_slice() else { return Err(malformed) };
        let count = u64::from(*count);
        if *revision != 1 || count > MAX_PARTS {
            return Err(malformed);
        }
        let authority = authority.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let bytes = target.read_bytes(addr.wrapping_add(8), count * 4, 64)?;
        let parts = bytes.as_chunks::<4>().0.iter().map(|part| u32::from_le_bytes(*part)).collect();
        Ok(Self { revision: *revision, authority, parts })
    }

    /// What it is called, where that is the same on all systems.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        match (self.authority, self.parts.as_slice()) {
            // Accounts of a machine or domain.
            (5, [21, _, _, _, account]) => name_in(ACCOUNTS, *account),
            (5, [32, alias]) => name_in(BUILTIN, *alias),
            (5, [80, ..]) => Some("NT Service"),
            (5, [5, _, _]) => Some("Logon Session"),
            (5, [one]) => name_in(NT, *one),
            (16, [level]) => name_in(INTEGRITY, *level),
            (0, [0]) => Some("Nobody"),
            (1, [0]) => Some("Everyone"),
            (2, [0]) => Some("Local"),
            (2, [1]) => Some("Console Logon"),
            (3, [one]) => name_in(CREATOR, *one),
            (15, [2, 1]) => Some("All Application Packages"),
            (15, [2, 2]) => Some("All Restricted Application Packages"),
            (18, [1]) => Some("Authentication Authority Asserted Identity"),
            (18, [2]) => Some("Service Asserted Identity"),
            _ => None,
        }
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S-{}-", self.revision)?;
        // Authorities of more than 32 bits are written in hexadecimal.
        if self.authority >> 32 == 0 {
            write!(f, "{}", self.authority)?;
        } else {
            write!(f, "{:#014x}", self.authority)?;
        }
        self.parts.iter().try_for_each(|part| write!(f, "-{part}"))
    }
}

fn name_in(names: &[(u32, &'static str)], number: u32) -> Option<&'static str> {
    names.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

const CREATOR: &[(u32, &str)] = &[
    (0, "Creator Owner"),
    (1, "Creator Group"),
    (2, "Creator Owner Server"),
    (3, "Creator Group Server"),
    (4, "Owner Rights"),
];

const NT: &[(u32, &str)] = &[
    (1, "Dialup"),
    (2, "Network"),
    (3, "Batch"),
    (4, "Interactive"),
    (6, "Service"),
    (7, "Anonymous Logon"),
    (8, "Proxy"),
    (9, "Enterprise Domain Controllers"),
    (10, "Principal Self"),
    (11, "Authenticated Users"),
    (12, "Restricted Code"),
    (13, "Terminal Server User"),
    (14, "Remote Interactive Logon"),
    (15, "This Organization"),
    (17, "IUSR"),
    (18, "Local System"),
    (19, "Local Service"),
    (20, "Network Service"),
    (33, "Write Restricted Code"),
    (113, "Local Account"),
    (114, "Local Account and Member of Administrators"),
    (1000, "Other Organization"),
];

const BUILTIN: &[(u32, &str)] = &[
    (544, "Administrators"),
    (545, "Users"),
    (546, "Guests"),
    (547, "Power Users"),
    (548, "Account Operators"),
    (549, "Server Operators"),
    (550, "Print Operators"),
    (551, "Backup Operators"),
    (552, "Replicators"),
    (554, "Pre-Windows 2000 Compatible Access"),
    (555, "Remote Desktop Users"),
    (556, "Network Configuration Operators"),
    (558, "Performance Monitor Users"),
    (559, "Performance Log Users"),
    (562, "Distributed COM Users"),
    (568, "IIS Users"),
    (569, "Cryptographic Operators"),
    (573, "Event Log Readers"),
    (578, "Hyper-V Administrators"),
    (580, "Remote Management Users"),
];

const ACCOUNTS: &[(u32, &str)] = &[
    (500, "Administrator"),
    (501, "Guest"),
    (502, "KRBTGT"),
    (512, "Domain Admins"),
    (513, "Domain Users"),
    (514, "Domain Guests"),
    (515, "Domain Computers"),
    (516, "Domain Controllers"),
    (518, "Schema Admins"),
    (519, "Enterprise Admins"),
    (520, "Group Policy Creator Owners"),
];

const INTEGRITY: &[(u32, &str)] = &[
    (0, "Untrusted Mandatory Level"),
    (0x1000, "Low Mandatory Level"),
    (0x2000, "Medium Mandatory Level"),
    (0x2100, "Medium Plus Mandatory Level"),
    (0x3000, "High Mandatory Level"),
    (0x4000, "System Mandatory Level"),
    (0x5000, "Protected Process Mandatory Level"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_names_are_those_of_the_specification() {
        // [MS-DTYP] 2.4.2.1 and 2.4.2.4.
        for (authority, parts, text, name) in [
            (5, vec![18], "S-1-5-18", Some("Local System")),
            (1, vec![0], "S-1-1-0", Some("Everyone")),
            (5, vec![32, 544], "S-1-5-32-544", Some("Administrators")),
            (16, vec![0x2000], "S-1-16-8192", Some("Medium Mandatory Level")),
            (5, vec![21, 1, 2, 3, 500], "S-1-5-21-1-2-3-500", Some("Administrator")),
            (5, vec![21, 1, 2, 3, 1000], "S-1-5-21-1-2-3-1000", None),
            (0x1_0000_0000, vec![7], "S-1-0x000100000000-7", None),
        ] {
            let sid = Sid { revision: 1, authority, parts };
            assert_eq!((sid.to_string().as_str(), sid.name()), (text, name));
        }
    }
}
