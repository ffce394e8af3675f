//! What the header of a crash dump tells a debugger, from a kernel that was identified.

use memory::{Hints, WindowsHints};

use super::{Kernel, info};
use crate::table::Time;

/// Nanoseconds between 1601 and 1970.
const EPOCH: i128 = 11_644_473_600_000_000_000;

/// The header of a dump of this kernel. What the image's own header told and the kernel does not is kept.
#[must_use]
pub fn dump_header(kernel: &Kernel, told: &Hints) -> Hints {
    let target = kernel.target();
    let told = told.windows.clone().unwrap_or_default();
    let symbol = |name: &str, old: Option<u64>| target.symbol(name).ok().or(old);
    let build = target.symbol("NtBuildNumber").ok().and_then(|at| target.read_u32(at).ok());
    // The number is a byte on XP and a u32 later; both are little endian, and no dump has 256 processors.
    let processors = target.symbol("KeNumberProcessors").ok().and_then(|at| target.read_u32(at).ok());
    let file_time = |Time(unix): Time| u64::try_from((unix + EPOCH) / 100).ok();
    let windows = WindowsHints {
        machine: Some(if kernel.is_32bit() { 0x14c } else { 0x8664 }),
        build: build.map(|build| build & 0xffff).or(told.build),
        pae: kernel.is_32bit().then(|| kernel.paging().name == memory::paging::PAE.name),
        processors: processors.map(|number| number & 0xff).filter(|number| *number > 0).or(told.processors),
        kernel_base: Some(kernel.base()),
        kdbg: symbol("KdDebuggerDataBlock", told.kdbg),
        loaded_modules: symbol("PsLoadedModuleList", told.loaded_modules),
        active_processes: symbol("PsActiveProcessHead", told.active_processes),
        pfn_database: symbol("MmPfnDatabase", told.pfn_database),
        system_time: info::now(kernel).ok().and_then(file_time).or(told.system_time),
        up_time: info::up_time(kernel).ok().map(|nanoseconds| nanoseconds / 100).or(told.up_time),
        ..told
    };
    Hints { dtb: vec![kernel.dtb()], windows: Some(windows), ..Hints::default() }
}
