//! Host names and the kernel's banner (include/linux/utsname.h, init/version.c).

use std::collections::BTreeSet;

use object::{Ptr, Read, Target, Text, layout};

use super::{Kernel, Task};
use crate::error::Error;
use crate::table::text_of;

/// Longest banner that is read.
const MAX_BANNER: usize = 1024;

layout! {
    /// `uts_namespace`: what `uname(2)` tells inside of it.
    pub struct UtsNamespace / UtsNamespaceLayout = "uts_namespace" {
        /// Host name, padded with NUL.
        raw_nodename: Text = "name.nodename",
        /// NIS domain name, padded with NUL.
        raw_domainname: Text = "name.domainname",
        /// Inode number of the namespace, as `/proc/PID/ns/uts` shows it.
        inum: u32 = "ns.inum | proc_inum",
    }

    struct NsProxy / NsProxyLayout = "nsproxy" {
        uts: Ptr = "uts_ns",
    }
}

impl UtsNamespace<'_> {
    /// The host name (`nodename`).
    pub fn hostname(&self) -> Read<String> {
        self.raw_nodename().map(|Text(bytes)| text_of(&bytes))
    }

    /// The NIS domain name; `(none)` unless set.
    pub fn domainname(&self) -> Read<String> {
        self.raw_domainname().map(|Text(bytes)| text_of(&bytes))
    }
}

/// The initial UTS namespace first, then those of the tasks, by address.
pub fn namespaces<'k>(kernel: &'k Kernel, tasks: &[Task<'_>]) -> Result<Vec<UtsNamespace<'k>>, Error> {
    let target = kernel.target();
    let initial = target.symbol("init_uts_ns")?;
    let of_task = |task: &Task<'_>| {
        let Ptr(proxy) = task.nsproxy().ok().filter(|proxy| proxy.0 != 0)?;
        NsProxy::at(target, proxy).uts().ok().map(|Ptr(uts)| uts).filter(|&uts| uts != 0)
    };
    let others: BTreeSet<u64> = tasks.iter().filter_map(of_task).filter(|&uts| uts != initial).collect();
    Ok(std::iter::once(initial).chain(others).map(|addr| UtsNamespace::at(target, addr)).collect())
}

/// The kernel's banner, `Linux version ...`, as `/proc/version` shows it.
pub fn banner(target: &Target) -> Read<String> {
    let bytes = target.read_cstr(target.symbol("linux_banner")?, MAX_BANNER)?;
    Ok(text_of(bytes.trim_ascii_end()))
}
