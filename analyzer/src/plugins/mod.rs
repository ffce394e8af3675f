//! The commands. One file each, named like the command, in the folder of the system it is for.
//!
//! A new command is a new file, its `pub mod` line in the folder's `mod.rs`, and its line in [`ALL`]. The tests check
//! what all commands have in common. Systems may share a name: the image decides which of the commands runs.

pub mod aliases;
pub mod core;
pub mod linux;
pub mod windows;

use crate::error::Error;
use crate::os::System;
use crate::plugin::DynPlugin;

/// All commands, in the order of the help: by what they need, then by name.
pub static ALL: &[&dyn DynPlugin] = &[
    // No image.
    &core::build_index::BuildIndex,
    &core::build_inventory::BuildInventory,
    &core::build_local_profile::BuildLocalProfile,
    &core::convert_profile::ConvertProfile,
    &core::dt::Dt,
    &core::dump::Dump,
    &core::elf_sections::ElfSections,
    &core::elf_versions_needed::ElfVersionsNeeded,
    &core::elf_versions_symbols::ElfVersionsSymbols,
    &core::fetch_pdb::FetchPdb,
    &core::guess_guid::GuessGuid,
    &core::info::Info,
    &core::make_symlink::MakeSymlink,
    &core::manage_repo::ManageRepo,
    &core::parse_pdb::ParsePdb,
    &core::peinfo::Peinfo,
    &core::profile::Profile,
    &core::repo::Repo,
    &core::symlinks::Symlinks,
    &core::version_scan::VersionScan,
    // Any image.
    &core::address_resolver::AddressResolver,
    &core::aff4acquire::Aff4acquire,
    &core::cc::Cc,
    &core::dis::Dis,
    &core::ewfacquire::Ewfacquire,
    &core::grep::Grep,
    &core::imagecopy::Imagecopy,
    &core::inspect_vaddr::InspectVaddr,
    &core::load_as::LoadAs,
    &core::sigscan::Sigscan,
    &core::simple_yarascan::SimpleYarascan,
    &core::yarascan::Yarascan,
    // Linux.
    &linux::arp::Arp,
    &linux::banner::Banner,
    &linux::bash::Bash,
    &linux::boottime::Boottime,
    &linux::capabilities::CapabilitiesOf,
    &linux::check_afinfo::CheckAfinfo,
    &linux::check_creds::CheckCreds,
    &linux::check_idt::CheckIdt,
    &linux::check_inline_kernel::CheckInlineKernel,
    &linux::check_modules::CheckModules,
    &linux::check_proc_fops::CheckProcFops,
    &linux::check_syscall::CheckSyscall,
    &linux::check_task_fops::CheckTaskFops,
    &linux::check_ttys::CheckTtys,
    &linux::coredump::Coredump,
    &linux::cpuinfo::Cpuinfo,
    &linux::dmesg::Dmesg,
    &linux::ebpf::Ebpf,
    &linux::elfs::Elfs,
    &linux::envars::Envars,
    &linux::fbdev::Fbdev,
    &linux::find_dtb::FindDtb,
    &linux::find_kaslr::FindKaslr,
    &linux::ftrace::Ftrace,
    &linux::heapdump::Heapdump,
    &linux::heapinfo::Heapinfo,
    &linux::heapobjects::Heapobjects,
    &linux::heaprefs::Heaprefs,
    &linux::heapsearch::Heapsearch,
    &linux::hidden_modules::HiddenModules,
    &linux::hostname::Hostname,
    &linux::ifconfig::Ifconfig,
    &linux::iomem::Iomem,
    &linux::kallsyms::Kallsyms,
    &linux::keepassx::Keepassx,
    &linux::kthreads::Kthreads,
    &linux::library_list::LibraryList,
    &linux::lsmod::Lsmod,
    &linux::lsmod_parameters::LsmodParameters,
    &linux::lsmod_sections::LsmodSections,
    &linux::lsof::Lsof,
    &linux::malfind::Malfind,
    &linux::maps::Maps,
    &linux::mcat::Mcat,
    &linux::memdump::Memdump,
    &linux::memmap::Memmap,
    &linux::mfind::Mfind,
    &linux::mls::Mls,
    &linux::moddump::Moddump,
    &linux::modxview::Modxview,
    &linux::mount::Mount,
    &linux::netfilter::Netfilter,
    &linux::netstat::Netstat,
    &linux::notifier_chains::NotifierChains,
    &linux::pas2vas::Pas2vas,
    &linux::perf_events::PerfEvents,
    &linux::pidhashtable::Pidhashtable,
    &linux::pkt_queues::PktQueues,
    &linux::process_spoofing::ProcessSpoofing,
    &linux::psaux::Psaux,
    &linux::pscallstack::Pscallstack,
    &linux::pslist::Pslist,
    &linux::psscan::Psscan,
    &linux::pstree::Pstree,
    &linux::psxview::Psxview,
    &linux::ptrace::Ptrace,
    &linux::recover_fs::RecoverFs,
    &linux::sockscan::Sockscan,
    &linux::tracepoints::Tracepoints,
    &linux::vaddump::Vaddump,
    &linux::vadmap::Vadmap,
    &linux::vmcoreinfo::Vmcoreinfo,
    &linux::vtop::Vtop,
    &linux::zsh::Zsh,
    // Windows.
    &windows::callbacks::Callbacks,
    &windows::connections::Connections,
    &windows::connscan::Connscan,
    &windows::devicetree::Devicetree,
    &windows::dlldump::Dlldump,
    &windows::dlllist::Dlllist,
    &windows::driverirp::Driverirp,
    &windows::driverscan::Driverscan,
    &windows::dtbscan::Dtbscan,
    &windows::filescan::Filescan,
    &windows::find_dtb::FindDtb,
    &windows::handles::Handles,
    &windows::imageinfo::Imageinfo,
    &windows::kdbgscan::Kdbgscan,
    &windows::kpcr::Kpcr,
    &windows::ldrmodules::Ldrmodules,
    &windows::malfind::Malfind,
    &windows::memdump::Memdump,
    &windows::memmap::Memmap,
    &windows::moddump::Moddump,
    &windows::modscan::Modscan,
    &windows::modules::Modules,
    &windows::mutantscan::Mutantscan,
    &windows::netscan::Netscan,
    &windows::netstat::Netstat,
    &windows::object_tree::ObjectTree,
    &windows::object_types::ObjectTypes,
    &windows::pagefiles::Pagefiles,
    &windows::pas2vas::Pas2vas,
    &windows::pedump::Pedump,
    &windows::pfn::Pfn,
    &windows::phys_map::PhysMap,
    &windows::pool_tracker::PoolTracker,
    &windows::pools::Pools,
    &windows::privileges::Privileges,
    &windows::procdump::Procdump,
    &windows::procinfo::Procinfo,
    &windows::pslist::Pslist,
    &windows::psscan::Psscan,
    &windows::pstree::Pstree,
    &windows::psxview::Psxview,
    &windows::ptov::Ptov,
    &windows::raw2dmp::Raw2dmp,
    &windows::sockets::Sockets,
    &windows::sockscan::Sockscan,
    &windows::ssdt::Ssdt,
    &windows::symlinkscan::Symlinkscan,
    &windows::thrdscan::Thrdscan,
    &windows::threads::Threads,
    &windows::timers::Timers,
    &windows::times::Times,
    &windows::tokens::Tokens,
    &windows::unloaded_modules::UnloadedModules,
    &windows::vad::Vad,
    &windows::vaddump::Vaddump,
    &windows::vadmap::Vadmap,
    &windows::version_modules::VersionModules,
    &windows::virt_map::VirtMap,
    &windows::vtop::Vtop,
];

/// The commands of a name: none, one, or one for each system that has it. Names of Volatility 3 are accepted too.
#[must_use]
pub fn named(name: &str) -> Vec<&'static dyn DynPlugin> {
    let own: Vec<_> = ALL.iter().copied().filter(|plugin| plugin.name() == name).collect();
    if own.is_empty() { aliases::resolve(name) } else { own }
}

/// The one of several commands of one name that is for images of a system.
pub fn for_system(
    several: &[&'static dyn DynPlugin],
    system: System,
) -> Result<&'static dyn DynPlugin, Error> {
    let found = several.iter().copied().find(|plugin| plugin.active().system().is_none_or(|of| of == system));
    found.ok_or_else(|| {
        let name = several.first().map_or("", |plugin| plugin.name());
        Error::usage(format!("not a command for images of {}: {name}", system.name()))
    })
}

#[cfg(test)]
mod tests;
