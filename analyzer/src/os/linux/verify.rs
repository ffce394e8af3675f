//! Probes that tell the right profile from a wrong one.
//!
//! A probe agrees, disagrees, or is torn: its memory is missing or was zeroed. One that disagrees refuses the profile; torn
//! ones prove nothing, so a damaged image is still identified as long as one probe agrees, or the pointers in the kernel's image do.

use std::sync::Arc;

use memory::{AddressSpace, VirtualSpace};
use object::{Missing, Target};
use profile::Profile;
use profile::names::release_of_banner;

use super::arch::shifted;
use super::kernel::{Layout, image_piece, target};
use super::linear::Linear;
use super::remains;
use super::vmcoreinfo::VmcoreInfo;
use crate::table::text_of;

/// Bytes of the smallest page.
const PAGE: u64 = 4096;

/// What a probe found.
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
    vmcoreinfo: &[(VmcoreInfo, String)],
) -> Result<(), String> {
    let physical = shifted(physical, layout.ram_start);
    let tables = Arc::new(VirtualSpace::new(Arc::clone(&physical), layout.paging, layout.dtb));
    let space = Linear::new(tables, image_piece(profile, &layout).into_iter().collect());
    let target = target(Arc::clone(profile), Arc::new(space), layout.slide);
    let idle = idle_task(&target)?;
    let (banner, text) = banner(profile, &target)?;
    let mut agreed = matches!(idle, Probe::Agrees) || matches!(banner, Probe::Agrees);
    for (info, source) in vmcoreinfo {
        // VMCOREINFO of another kernel (a crash kernel's, or a nested guest's) says nothing about this one.
        let same = text.as_deref().is_none_or(|banner| release_of_banner(banner) == Some(info.release()));
        let place = info.kernel_offset().is_none_or(|offset| offset == layout.slide);
        if same && place {
            let symbols = agrees(&target, info).map_err(|reason| format!("{source}: {reason}"))?;
            agreed |= symbols > 0;
        }
    }
    let by_pointers = || {
        remains::slide(profile, &*physical, layout.physical_shift)
            .is_some_and(|(slide, _)| slide == layout.slide)
    };
    if agreed || by_pointers() {
        Ok(())
    } else {
        Err("nothing that could confirm the profile is readable in the image".to_owned())
    }
}

/// `init_task` is the idle task of the first CPU: its name is known and its pid is 0.
fn idle_task(target: &Target) -> Result<Probe, String> {
    let init = target.symbol("init_task").map_err(|missing| missing.to_string())?;
    let offset =
        |field| target.offset_of("task_struct", field).map_err(|missing: Missing| missing.to_string());
    let Ok(name) = target.read_cstr(init.wrapping_add(offset("comm")?), 16) else { return Ok(Probe::Torn) };
    match name.as_slice() {
        b"" => return Ok(Probe::Torn),
        b"swapper/0" | b"swapper" => {}
        other => {
            let shown = text_of(other);
            return Err(format!(
                "init_task.comm is {shown:?} where swapper/0 is expected; the profile is of another kernel"
            ));
        }
    }
    match target.read_u32(init.wrapping_add(offset("pid")?)) {
        Ok(0) => Ok(Probe::Agrees),
        Ok(pid) => {
            Err(format!("init_task.pid is {pid} where 0 is expected; the profile is of another kernel"))
        }
        Err(_) => Ok(Probe::Torn),
    }
}

/// The banner in memory must be the one the profile was made from. Returns its text where it can be read.
fn banner(profile: &Profile, target: &Target) -> Result<(Probe, Option<String>), String> {
    let Ok(symbol) = target.symbol("linux_banner") else { return Ok((Probe::Torn, None)) };
    let bytes = target.read_cstr(symbol, 512).unwrap_or_default();
    if bytes.is_empty() {
        return Ok((Probe::Torn, None));
    }
    let text = String::from_utf8_lossy(&bytes);
    let expected = profile.metadata_str("Banner").map(str::trim_end);
    let end = symbol.wrapping_add(bytes.len() as u64);
    if end.is_multiple_of(PAGE) && expected.is_some_and(|banner| banner.starts_with(&*text)) {
        return Ok((Probe::Torn, None)); // it goes on in a page that was zeroed
    }
    let banner = text.trim_end().to_owned();
    if !banner.starts_with("Linux version ") {
        return Err("linux_banner is no banner; the profile is of another kernel".to_owned());
    }
    match expected {
        Some(expected) if expected != banner => {
            Err(format!("the profile is of another kernel: {expected:?}, the image runs {banner:?}"))
        }
        _ => Ok((Probe::Agrees, Some(banner))),
    }
}

/// Symbols, sizes and offsets that VMCOREINFO names must be those of the profile. Returns how many symbols agree.
fn agrees(target: &Target, info: &VmcoreInfo) -> Result<usize, String> {
    let mut symbols = 0;
    for (name, address) in info.object_symbols() {
        match target.symbol(name) {
            Ok(ours) if ours != address => {
                return Err(format!("symbol {name} is at {address:#x}, by the profile at {ours:#x}"));
            }
            Ok(_) => symbols += 1,
            Err(_) => {}
        }
    }
    for (structure, size) in info.sizes() {
        if let Ok(ours) = target.types().struct_size(structure)
            && ours != size
        {
            return Err(format!("struct {structure} has {size} bytes, by the profile {ours}"));
        }
    }
    for (structure, field, offset) in info.offsets() {
        if let Ok(ours) = target.offset_of(structure, field)
            && ours != offset
        {
            return Err(format!("field {structure}.{field} is at offset {offset}, by the profile at {ours}"));
        }
    }
    Ok(symbols)
}
