//! The commands. One file each, named like the command, in the folder of the system it is for.
//!
//! A new command is a new file, its `pub mod` line in the folder's `mod.rs`, and its line in [`ALL`]. The tests check
//! what all commands have in common.

pub mod core;
pub mod linux;

use crate::plugin::DynPlugin;

/// All commands, in the order of the help: by what they need, then by name.
pub static ALL: &[&dyn DynPlugin] = &[
    // No image.
    &core::build_inventory::BuildInventory,
    &core::convert_profile::ConvertProfile,
    &core::dt::Dt,
    &core::dump::Dump,
    &core::info::Info,
    &core::make_symlink::MakeSymlink,
    &core::parse_pdb::ParsePdb,
    &core::peinfo::Peinfo,
    &core::profile::Profile,
    &core::version_scan::VersionScan,
    // Any image.
    &core::imagecopy::Imagecopy,
    &core::inspect_vaddr::InspectVaddr,
    &core::load_as::LoadAs,
    // Linux.
    &linux::address_resolver::AddressResolver,
    &linux::arp::Arp,
    &linux::banner::Banner,
    &linux::cpuinfo::Cpuinfo,
    &linux::dmesg::Dmesg,
    &linux::find_dtb::FindDtb,
    &linux::find_kaslr::FindKaslr,
    &linux::hostname::Hostname,
    &linux::ifconfig::Ifconfig,
    &linux::iomem::Iomem,
    &linux::lsmod::Lsmod,
    &linux::lsof::Lsof,
    &linux::maps::Maps,
    &linux::memmap::Memmap,
    &linux::mount::Mount,
    &linux::netstat::Netstat,
    &linux::psaux::Psaux,
    &linux::pslist::Pslist,
    &linux::pstree::Pstree,
    &linux::psxview::Psxview,
    &linux::vtop::Vtop,
];

/// The command of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn DynPlugin> {
    ALL.iter().copied().find(|plugin| plugin.name() == name)
}

#[cfg(test)]
mod tests;
