//! Probes that tell the right profile from a wrong one.
//!
//! A probe agrees, disagrees, or is torn: its memory is missing or was zeroed. One that disagrees refuses the profile; torn
//! ones prove nothing, so a damaged image is still identified as long as one probe agrees.

use std::sync::Arc;

use memory::{AddressSpace, VirtualSpace};
use object::{Missing, Ptr, Read, Target, Text};
use profile::Profile;

use super::kernel::{self, Layout};
use super::process::Process;
use super::roots;
use crate::table::text_of;

/// What a probe found.
#[derive(PartialEq, Eq)]
enum Probe {
    /// What was expected.
    Agrees,
    /// Memory that is missing or zeroed.
    Torn,
}

/// Tests a profile that claims to describe the kernel at `layout`. The error says which probe disagrees.
pub(super) fn verify(
    profile: &Arc<Profile>,
    physical: &Arc<dyn AddressSpace>,
    layout: Layout,
) -> Result<(), String> {
    let target = plain_target(profile, physical, layout);
    let pointer = target.types().model().pointer_size();
    if u32::from(pointer) * 8 != if layout.paging.bits == 32 { 32 } else { 64 } {
        return Err(format!("the profile is of a {}-bit kernel", u32::from(pointer) * 8));
    }
    let probes = [process_list(&target)?, system_process(&target)?];
    if probes.contains(&Probe::Agrees) {
        Ok(())
    } else {
        Err("nothing that could confirm the profile is readable in the image".to_owned())
    }
}

/// Physical address of the page table root of the process System, where that root maps the kernel as well.
pub(super) fn system_dtb(
    profile: &Arc<Profile>,
    physical: &Arc<dyn AddressSpace>,
    layout: Layout,
) -> Option<u64> {
    let target = plain_target(profile, physical, layout);
    let system = target.read_ptr(target.symbol("PsInitialSystemProcess").ok()?).ok()?;
    let dtb = Process::at(&target, system).dtb().ok()? & layout.paging.root;
    let space = VirtualSpace::new(Arc::clone(physical), layout.paging, dtb);
    let same = space.translate(system) == target.space().translate(system);
    (same && roots::version(&space, layout.paging.bits == 32).is_some()).then_some(dtb)
}

/// The kernel by its hardware page tables alone.
fn plain_target(profile: &Arc<Profile>, physical: &Arc<dyn AddressSpace>, layout: Layout) -> Target {
    let space = VirtualSpace::new(Arc::clone(physical), layout.paging, layout.dtb);
    Target::new(Arc::new(kernel::types(Arc::clone(profile))), Arc::new(space), layout.base, 0)
}

fn symbol(target: &Target, name: &str) -> Result<u64, String> {
    target.symbol(name).map_err(|missing: Missing| missing.to_string())
}

/// The list of processes leads from its head to a node that leads back.
fn process_list(target: &Target) -> Result<Probe, String> {
    let head = symbol(target, "PsActiveProcessHead")?;
    let width = u64::from(target.types().model().pointer_size());
    let Ok(first) = target.read_ptr(head) else { return Ok(Probe::Torn) };
    if first == 0 {
        return Ok(Probe::Torn);
    }
    match target.read_ptr(first.wrapping_add(width)) {
        Ok(back) if back == head => Ok(Probe::Agrees),
        // A list that changed while memory was copied still has nodes in kernel memory.
        Ok(back) if target.space().translate(back).is_ok() => Ok(Probe::Torn),
        Ok(_) => Err(format!("PsActiveProcessHead does not head a list: {first:#x}")),
        Err(_) if is_kernel_address(target, first) => Ok(Probe::Torn),
        Err(_) => Err(format!("PsActiveProcessHead does not point into the kernel: {first:#x}")),
    }
}

fn is_kernel_address(target: &Target, addr: u64) -> bool {
    match target.types().model().pointer_size() {
        4 => addr >= roots::KERNEL_HALF_32,
        _ => addr >= roots::KERNEL_HALF,
    }
}

/// The process System has the id 4 (8 in Windows 2000) and its name.
fn system_process(target: &Target) -> Result<Probe, String> {
    let Ok(system) = target.read_ptr(symbol(target, "PsInitialSystemProcess")?) else {
        return Ok(Probe::Torn);
    };
    if system == 0 {
        return Ok(Probe::Torn);
    }
    let process = Process::at(target, system);
    let name: Read<Text> = process.image_file_name();
    match (name, process.unique_process_id()) {
        (Ok(Text(name)), Ok(Ptr(4 | 8))) if name == b"System" => Ok(Probe::Agrees),
        (Ok(Text(name)), Ok(Ptr(pid))) if !name.is_empty() || pid != 0 => {
            let shown = text_of(&name);
            Err(format!(
                "the process System has the id {pid} and the name {shown:?}; the profile is of another kernel"
            ))
        }
        _ => Ok(Probe::Torn),
    }
}
