//! Capabilities (include/uapi/linux/capability.h).

use object::{Absent, Bytes, Read, layout};

use super::Kernel;

/// Names by bit, without `CAP_`.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

layout! {
    /// The capability sets of `cred`: two words of 32 bits, one of 64 since Linux commit f122a08b197d (v6.3).
    pub struct Capabilities / CapabilitiesLayout = "cred" {
        /// What programs may inherit.
        raw_inheritable: Bytes = "cap_inheritable",
        /// What may be made effective.
        raw_permitted: Bytes = "cap_permitted",
        /// What is in force.
        raw_effective: Bytes = "cap_effective",
        /// The bound of what can be gained.
        raw_bounding: Bytes = "cap_bset",
        /// What unprivileged programs keep, from v4.3.
        raw_ambient: Bytes = "cap_ambient",
    }
}

/// Little-endian, whether stored as one word or two.
fn bits(Bytes(bytes): Bytes) -> Read<u64> {
    match bytes.len() {
        1..=8 => Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))),
        _ => Err(Absent::Malformed("capability set of unknown size")),
    }
}

impl Capabilities<'_> {
    /// Bits that are in force.
    pub fn effective(&self) -> Read<u64> {
        self.raw_effective().and_then(bits)
    }

    /// Bits that may be made effective.
    pub fn permitted(&self) -> Read<u64> {
        self.raw_permitted().and_then(bits)
    }

    /// Bits that programs may inherit.
    pub fn inheritable(&self) -> Read<u64> {
        self.raw_inheritable().and_then(bits)
    }

    /// Bits that bound what can be gained.
    pub fn bounding(&self) -> Read<u64> {
        self.raw_bounding().and_then(bits)
    }

    /// Bits that unprivileged programs keep.
    pub fn ambient(&self) -> Read<u64> {
        self.raw_ambient().and_then(bits)
    }
}

/// The highest capability a kernel knows.
#[derive(Debug, Clone, Copy)]
pub struct LastCapability(u64);

/// Reads `cap_last_cap`; kernels without it are taken to know all that we do.
#[must_use]
pub fn last_capability(kernel: &Kernel) -> LastCapability {
    let target = kernel.target();
    let read = target.symbol("cap_last_cap").ok().and_then(|symbol| target.read_u32(symbol).ok());
    LastCapability(read.filter(|last| *last < 64).map_or(NAMES.len() as u64 - 1, u64::from))
}

impl LastCapability {
    /// Names of the bits of a set, lowest first; `all` for every one the kernel knows, numbers where we know no name.
    #[must_use]
    pub fn names(self, bits: u64) -> Vec<String> {
        let all = u64::MAX >> (63 - self.0.min(63));
        if bits & all == all {
            return vec!["all".to_owned()];
        }
        let name =
            |bit: usize| NAMES.get(bit).map_or_else(|| format!("cap_{bit}"), |name| (*name).to_owned());
        (0..64).filter(|bit| bits >> bit & 1 == 1).map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_named() {
        assert_eq!(LastCapability(40).names(0x1ff_ffff_ffff), ["all"]);
        assert_eq!(LastCapability(40).names(0x2401), ["chown", "net_bind_service", "net_raw"]);
        assert_eq!(LastCapability(40).names(0), Vec::<String>::new());
        assert_eq!(LastCapability(41).names(1 << 41), ["cap_41"]);
        assert_eq!(bits(Bytes(vec![1, 0, 0, 0, 2, 0, 0, 0])), Ok(0x2_0000_0001));
    }
}
