//! Triage dumps: a few blocks of kernel memory at their virtual addresses, and no physical memory.
//!
//! There are no page tables to find and hardly a structure to check. The container says where the kernel was loaded and which
//! process was running; the user must name the profile, as nothing in the dump tells the build.

use std::sync::Arc;

use memory::{AddressSpace, Image, paging};
use object::Target;
use profile::Profile;

use super::kernel::{self, Layout};
use super::module::short_name;
use super::process::Process;

/// Whether an image has kernel memory by virtual address only.
pub(super) fn is_triage(image: &Image) -> bool {
    image.virtual_space.is_some() && image.space.runs(0, u64::MAX).next().is_none()
}

/// Where the kernel of a triage dump is, as its container says.
pub(super) fn layout(image: &Image) -> Layout {
    let windows = image.hints.windows.clone().unwrap_or_default();
    let driver = windows.drivers.iter().find(|driver| short_name(&driver.name) == "nt");
    // IMAGE_FILE_MACHINE_I386
    let paging = match (windows.machine, windows.pae) {
        (Some(0x14c), Some(false)) => &paging::WINDOWS_X86,
        (Some(0x14c), _) => &paging::WINDOWS_PAE,
        _ => &paging::WINDOWS_X64,
    };
    Layout {
        paging,
        dtb: image.hints.dtb.first().copied().unwrap_or(0),
        base: windows.kernel_base.or(driver.map(|driver| driver.base)).unwrap_or(0),
    }
}

/// Tests a profile against the process that a triage dump holds. The error says what disagrees.
pub(super) fn verify(
    profile: &Arc<Profile>,
    space: &Arc<dyn AddressSpace>,
    image: &Image,
) -> Result<(), String> {
    let target = Target::new(Arc::new(kernel::types(Arc::clone(profile))), Arc::clone(space), 0, 0);
    let process = image.hints.windows.as_ref().and_then(|windows| windows.process);
    let process = process.ok_or("the dump holds no process to test a profile by")?;
    let process = Process::at(&target, process);
    if process.is_plausible() {
        return Ok(());
    }
    let name = process.name().unwrap_or_default();
    Err(format!("the process of the dump reads as {name:?}; the profile is of another kernel"))
}
