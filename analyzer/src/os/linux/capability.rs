//! Capabilities (include/uapi/linux/capability.h).

use object::{Uint, layout};

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
    /// The capability sets of `cred`, as bits: two words of 32, one of 64 since Linux commit f122a08b197d (v6.3); little-endian
    /// kernels store both alike.
    pub struct Capabilities / CapabilitiesLayout = "cred" {
        /// What programs may inherit.
        inheritable: Uint = "cap_inheritable",
        /// What may be made effective.
        permitted: Uint = "cap_permitted",
        /// What is in force.
        effective: Uint = "cap_effective",
        /// The bound of what can be gained.
        bounding: Uint = "cap_bset",
        /// What unprivileged programs keep, from v4.3.
        ambient: Uint = "cap_ambient",
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
    use crate::os::linux::testkit::Memory;

    #[test]
    fn sets_are_named() {
        assert_eq!(LastCapability(40).names(0x1ff_ffff_ffff), ["all"]);
        assert_eq!(LastCapability(40).names(0x2401), ["chown", "net_bind_service", "net_raw"]);
        assert_eq!(LastCapability(40).names(0), Vec::<String>::new());
        assert_eq!(LastCapability(41).names(1 << 41), ["cap_41"]);
    }

    #[test]
    fn a_set_of_two_words_is_one_number() {
        let structs = r#"{
            "cred": [16, {"cap_effective": [8, ["kernel_cap_struct"]]}],
            "kernel_cap_struct": [8, {"cap": [0, ["Array", {"count": 2, "target": "unsigned int"}]]}]
        }"#;
        let target = Memory::default().bytes(0x1008, &[1, 0, 0, 0, 2, 0, 0, 0]).target(structs, &[]);
        assert_eq!(Capabilities::at(&target, 0x1000).effective(), Ok(Uint(0x2_0000_0001)));
    }
}
