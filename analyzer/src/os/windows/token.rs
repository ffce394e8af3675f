//! Access tokens: who a process acts as, and what it may do.
//!
//! Sources: `_TOKEN` in the symbols of each kernel; numbers of privileges from the Windows SDK (winnt.h, `SE_*_PRIVILEGE`), layout of
//! SIDs from [MS-DTYP] 2.4.2.

use object::{Absent, Ptr, Read, Target, Uint, layout};

use super::Process;
use super::sid::Sid;

/// Most groups or privileges of a token that are believed.
const MAX_ENTRIES: u64 = 4096;

/// Names of privileges by number, from 2 on.
const PRIVILEGES: [&str; 35] = [
    "SeCreateTokenPrivilege",
    "SeAssignPrimaryTokenPrivilege",
    "SeLockMemoryPrivilege",
    "SeIncreaseQuotaPrivilege",
    "SeMachineAccountPrivilege",
    "SeTcbPrivilege",
    "SeSecurityPrivilege",
    "SeTakeOwnershipPrivilege",
    "SeLoadDriverPrivilege",
    "SeSystemProfilePrivilege",
    "SeSystemtimePrivilege",
    "SeProfileSingleProcessPrivilege",
    "SeIncreaseBasePriorityPrivilege",
    "SeCreatePagefilePrivilege",
    "SeCreatePermanentPrivilege",
    "SeBackupPrivilege",
    "SeRestorePrivilege",
    "SeShutdownPrivilege",
    "SeDebugPrivilege",
    "SeAuditPrivilege",
    "SeSystemEnvironmentPrivilege",
    "SeChangeNotifyPrivilege",
    "SeRemoteShutdownPrivilege",
    "SeUndockPrivilege",
    "SeSyncAgentPrivilege",
    "SeEnableDelegationPrivilege",
    "SeManageVolumePrivilege",
    "SeImpersonatePrivilege",
    "SeCreateGlobalPrivilege",
    "SeTrustedCredManAccessPrivilege",
    "SeRelabelPrivilege",
    "SeIncreaseWorkingSetPrivilege",
    "SeTimeZonePrivilege",
    "SeCreateSymbolicLinkPrivilege",
    "SeDelegateSessionUserImpersonatePrivilege",
];

layout! {
    /// `_TOKEN`.
    pub struct Token / TokenLayout = "_TOKEN" {
        /// Number of groups, the user included.
        group_count: u32 = "UserAndGroupCount",
        /// The user and the groups, an array of `_SID_AND_ATTRIBUTES`.
        groups: Ptr = "UserAndGroups",
        /// Privileges it has, a bit for each (from Vista on).
        present: u64 = "Privileges.Present",
        /// Privileges in force (from Vista on).
        enabled: u64 = "Privileges.Enabled",
        /// Privileges in force from the start (from Vista on).
        by_default: u64 = "Privileges.EnabledByDefault",
        /// Number of privileges (before Vista).
        privilege_count: u32 = "PrivilegeCount",
        /// Privileges, an array of `_LUID_AND_ATTRIBUTES` (before Vista).
        privilege_array: Ptr = "Privileges",
    }

    struct SidEntry / SidEntryLayout = "_SID_AND_ATTRIBUTES" {
        sid: Ptr = "Sid",
    }
}

/// A privilege of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privilege {
    /// Its number.
    pub number: u32,
    /// In force now.
    pub enabled: bool,
    /// In force from the start.
    pub by_default: bool,
}

impl Privilege {
    /// Its name, `None` for a number that has none.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        let index = usize::try_from(self.number).ok()?.checked_sub(2)?;
        PRIVILEGES.get(index).copied()
    }

    /// `Present`, and what else holds: `Enabled`, `Default`.
    #[must_use]
    pub fn attributes(&self) -> String {
        let mut text = "Present".to_owned();
        for (holds, word) in [(self.enabled, ",Enabled"), (self.by_default, ",Default")] {
            if holds {
                text.push_str(word);
            }
        }
        text
    }
}

/// The token of a process; not applicable for one without.
pub fn token<'k>(process: &Process<'k>) -> Read<Token<'k>> {
    let Uint(reference) = process.token()?;
    // A fast reference: the low bits, as many as allocations are aligned to, count.
    let target: &'k Target = process.target();
    let mask = if target.types().model().pointer_size() == 4 { 7 } else { 0xf };
    Ok(Token::at(target, Ptr(reference & !mask).non_null("no token")?))
}

impl Token<'_> {
    /// The privileges it has, by number.
    pub fn privileges(&self) -> Read<Vec<Privilege>> {
        match self.present() {
            Ok(present) => {
                let (enabled, by_default) = (self.enabled()?, self.by_default()?);
                let bit = |mask: u64, number: u32| mask >> number & 1 == 1;
                let all = (0..64).filter(|number| bit(present, *number));
                Ok(all
                    .map(|number| Privilege {
                        number,
                        enabled: bit(enabled, number),
                        by_default: bit(by_default, number),
                    })
                    .collect())
            }
            Err(Absent::NoProfile(_)) => self.listed(),
            Err(why) => Err(why),
        }
    }

    /// Before Vista they are an array of `_LUID_AND_ATTRIBUTES`: 8 bytes of number, 4 of attributes (winnt.h: 1 by default, 2
    /// enabled).
    fn listed(&self) -> Read<Vec<Privilege>> {
        let count = u64::from(self.privilege_count()?);
        if count > MAX_ENTRIES {
            return Err(Absent::Malformed("number of privileges of a token"));
        }
        let Ptr(array) = self.privilege_array()?;
        let mut found = Vec::new();
        for index in 0..count {
            let at = array.wrapping_add(index * 12);
            let (number, attributes) =
                (self.target().read_u32(at)?, self.target().read_u32(at.wrapping_add(8))?);
            found.push(Privilege { number, enabled: attributes & 2 != 0, by_default: attributes & 1 != 0 });
        }
        found.sort_by_key(|privilege| privilege.number);
        Ok(found)
    }

    /// Who it acts as: the user, then the groups. One that cannot be read keeps its place.
    pub fn sids(&self) -> Read<Vec<Read<Sid>>> {
        let count = u64::from(self.group_count()?);
        if count > MAX_ENTRIES {
            return Err(Absent::Malformed("number of groups of a token"));
        }
        let Ptr(array) = self.groups()?;
        let size = self.target().types().struct_size(SidEntry::STRUCT)?;
        let sid = |index: u64| {
            let Ptr(at) = SidEntry::at(self.target(), array.wrapping_add(index.wrapping_mul(size))).sid()?;
            Sid::at(self.target(), at)
        };
        Ok((0..count).map(sid).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_stand_at_their_number() {
        // Windows SDK, winnt.h.
        let named = |number| Privilege { number, enabled: false, by_default: false }.name();
        assert_eq!(named(1), None);
        assert_eq!(named(2), Some("SeCreateTokenPrivilege"));
        assert_eq!(named(10), Some("SeLoadDriverPrivilege"));
        assert_eq!(named(20), Some("SeDebugPrivilege"));
        assert_eq!(named(36), Some("SeDelegateSessionUserImpersonatePrivilege"));
        assert_eq!(named(37), None);
    }
}
