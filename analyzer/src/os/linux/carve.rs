//! A kernel's profile from its own memory: BTF, kallsyms, banner and build-id carved out of the image.
//!
//! Both tables lie in the kernel's read-only data, which is contiguous in physical memory. Headers that look like BTF occur
//! by the dozen, some with a whole stale copy behind them (spec: a 6.1 guest has 47), so a candidate counts only when it
//! stands where the symbol `__start_BTF` says: then the banner is at `linux_banner` too. Truth: profiles made this way give
//! the rows of those made from the kernel's DWARF, on guests of 5.10, 6.1 and 6.12.

use std::collections::BTreeSet;
use std::ops::Range;

use memchr::memmem;
use memory::{AddressSpace, CHUNK, scan};
use profile::names::BuildId;
use profile_gen::kallsyms::{self, BEFORE, BEHIND, DIGITS, Kallsyms, KernelSymbol};
use profile_gen::{Converted, ImageParts, LinuxOptions, btf, ksymtab};

use super::arch::START_KERNEL_MAP;
use super::vmcoreinfo::{MAX_LEN, VmcoreInfo};
use crate::error::Error;

/// First bytes of every BTF header: magic, version 1, no flags, 24 bytes long.
const BTF_HEADER: [u8; 8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
/// Sizes of the BTF of a kernel; distributions' have 2 to 8 MB.
const BTF_SIZES: Range<usize> = 256 << 10..64 << 20;
/// Most places of either table that are looked at.
const MAX_HITS: usize = 256;
/// Largest kernel image in memory, in bytes.
const MAX_IMAGE: u64 = 1 << 30;
/// Most bytes of a kernel's notes.
const MAX_NOTES: usize = 4096;

/// What was carved.
pub(super) struct Carved {
    /// The profile and its fitness.
    pub(super) converted: Converted,
    /// Run-time minus link-time physical address of the kernel image, where the link-time one can be told.
    pub(super) physical_shift: Option<u64>,
    /// Where the parts were found, for people.
    pub(super) found: String,
}

/// Makes the profile of the kernel in an image from the image itself.
///
/// # Errors
/// Names the part that is not there or cannot be read.
pub fn profile_of_image(space: &dyn AddressSpace) -> Result<Converted, Error> {
    carve(space).map(|carved| carved.converted).map_err(|reason| {
        Error::analysis(format!("the image holds no symbols to make a profile from: {reason}"))
            .with_hint("convert the kernel's vmlinux, or its module.ko and System.map, instead")
    })
}

/// The symbols of the kernel in an image, as the kernel keeps them for `/proc/kallsyms`.
///
/// # Errors
/// Why there are none.
pub fn kernel_symbols(space: &dyn AddressSpace) -> Result<Kallsyms, Error> {
    let (_, symbols, _) = largest_table(space, &search(space), false)
        .ok_or_else(|| Error::analysis("the image holds no readable kallsyms"))?;
    Ok(symbols)
}

/// The table of most symbols with its physical address, and how far its addresses lie from physical ones where the exported
/// symbols tell.
fn largest_table(
    space: &dyn AddressSpace,
    hits: &Hits,
    exports: bool,
) -> Option<(u64, Kallsyms, Option<u64>)> {
    let tables = hits.digits.iter().filter_map(|&at| {
        let (symbols, exported) = symbols(space, at, exports).ok()?;
        Some((at, symbols, exported))
    });
    tables.max_by_key(|(_, symbols, _)| symbols.symbols.len())
}

/// Finds the parts and converts them; the error says what is missing.
pub(super) fn carve(space: &dyn AddressSpace) -> Result<Carved, String> {
    let hits = search(space);
    let Some((at, mut symbols, exported)) = largest_table(space, &hits, true) else {
        return Err(format!("no readable kallsyms ({} places looked at)", hits.digits.len()));
    };
    let (btf_at, types, moved) = types(space, &hits, at, &symbols)?;
    let moved = moved.or(exported);
    let link_slide = hits.info.as_ref().and_then(|info| complete(&mut symbols, info, &hits.banners, moved));
    // From here on for the addresses the symbols have now.
    let moved = moved.map(|moved| moved.wrapping_add(link_slide.unwrap_or(0)));
    let read = |name: &str, max| space.read_cstr(physical(&symbols, name, moved?)?, max).ok();
    let banner = read("linux_banner", 512).and_then(|text| String::from_utf8(text).ok());
    let build_id = moved
        .and_then(|moved| build_id(space, &symbols, moved))
        .or_else(|| hits.info.as_ref().and_then(VmcoreInfo::build_id));
    let parts = ImageParts {
        btf: &types,
        kallsyms: &symbols,
        linked: link_slide.is_some(),
        banner: banner.as_deref().map(str::trim_end),
        build_id: build_id.as_ref(),
    };
    let converted =
        profile_gen::convert_image(&parts, &LinuxOptions::default()).map_err(|error| error.to_string())?;
    let physical_shift = match link_slide {
        // Of ARM64 it is where the image was loaded.
        Some(_) => moved.and_then(|moved| Some(text(&symbols)?.wrapping_add(moved))),
        None => {
            let slide = profile_gen::symbols::x86_64_slide(&symbols.list().symbols);
            moved.zip(slide).map(|(moved, slide)| moved.wrapping_add(slide).wrapping_add(START_KERNEL_MAP))
        }
    };
    let found = format!(
        "kallsyms at physical {at:#x} ({} symbols, {}), BTF at physical {btf_at:#x} ({} bytes)",
        symbols.symbols.len(),
        symbols.values,
        types.len()
    );
    Ok(Carved { converted, physical_shift, found })
}

/// Physical addresses where the tables may be.
struct Hits {
    digits: Vec<u64>,
    /// With the length by the header.
    headers: Vec<(u64, u64)>,
    /// Texts that begin like a banner.
    banners: Vec<u64>,
    /// What the kernel tells crash tools.
    info: Option<VmcoreInfo>,
}

/// What a hit is of.
enum Hit {
    Digits,
    /// With the length by the header.
    Header(u64),
    Banner,
    Info(Box<VmcoreInfo>),
}

/// One pass for everything.
fn search(space: &dyn AddressSpace) -> Hits {
    let digits = memmem::Finder::new(DIGITS);
    let header = memmem::Finder::new(&BTF_HEADER);
    let banner = memmem::Finder::new(b"Linux version ");
    let info = memmem::Finder::new(b"OSRELEASE=");
    let (found, _) = scan(space, CHUNK, MAX_LEN, |piece| {
        let address = |at: usize| piece.addr.wrapping_add(at as u64);
        let own = |at: &usize| *at < piece.own;
        let tables = digits.find_iter(piece.bytes).take_while(own).map(|at| (address(at), Hit::Digits));
        let headers = header.find_iter(piece.bytes).take_while(own).filter_map(|at| {
            let len = btf::total_len(piece.bytes.get(at..)?)?;
            BTF_SIZES.contains(&len).then(|| (address(at), Hit::Header(len as u64)))
        });
        let banners = banner.find_iter(piece.bytes).take_while(own).map(|at| (address(at), Hit::Banner));
        let infos = info.find_iter(piece.bytes).take_while(own).filter_map(|at| {
            let info = VmcoreInfo::parse(piece.bytes.get(at..)?)?;
            Some((address(at), Hit::Info(Box::new(info))))
        });
        tables.chain(headers).chain(banners).chain(infos).collect::<Vec<(u64, Hit)>>()
    });
    let mut hits = Hits { digits: Vec::new(), headers: Vec::new(), banners: Vec::new(), info: None };
    for (at, hit) in found {
        match hit {
            Hit::Digits if hits.digits.len() < MAX_HITS => hits.digits.push(at),
            Hit::Header(len) if hits.headers.len() < MAX_HITS => hits.headers.push((at, len)),
            Hit::Banner if hits.banners.len() < MAX_HITS => hits.banners.push(at),
            Hit::Info(info) => hits.info = hits.info.or(Some(*info)),
            Hit::Digits | Hit::Header(_) | Hit::Banner => {}
        }
    }
    hits
}

/// Adds what the symbols of an ARM64 kernel lack where kallsyms lists code only, and takes them back to where it was linked, which
/// only VMCOREINFO tells. By how much, where that was done.
fn complete(symbols: &mut Kallsyms, info: &VmcoreInfo, banners: &[u64], moved: Option<u64>) -> Option<u64> {
    // Only ARM64 has it.
    info.image_offset()?;
    let slide = info.kernel_offset()?;
    let known: BTreeSet<&str> = symbols.symbols.iter().map(|symbol| symbol.name.as_str()).collect();
    let data = |name: &str, address| KernelSymbol { address, kind: b'D', name: name.to_owned() };
    let mut new: Vec<KernelSymbol> = info
        .object_symbols()
        .filter(|(name, _)| !known.contains(name))
        .map(|(name, address)| data(name, address))
        .collect();
    // The first one behind the code; the log, further behind, begins with a copy.
    if !known.contains("linux_banner")
        && let (Some(text), Some(moved)) = (text(symbols), moved)
    {
        let addresses = banners.iter().map(|hit| hit.wrapping_sub(moved));
        let first = addresses.filter(|at| (1..MAX_IMAGE).contains(&at.wrapping_sub(text))).min();
        new.extend(first.map(|address| data("linux_banner", address)));
    }
    symbols.symbols.extend(new);
    for symbol in &mut symbols.symbols {
        symbol.address = symbol.address.wrapping_sub(slide);
    }
    Some(slide)
}

/// Decodes the symbols whose token table has its digits at `at`.
///
/// Where they lack data and `exports` is set, those the kernel exports are added; then, besides, what to add to run-time
/// addresses to get physical ones.
fn symbols(space: &dyn AddressSpace, at: u64, exports: bool) -> Result<(Kallsyms, Option<u64>), String> {
    // The decoder needs the alignment of the addresses.
    let start = at.saturating_sub(BEFORE as u64) & !0xfff;
    let end = at.saturating_add(BEHIND as u64);
    let len = usize::try_from(end - start).map_err(|_| "too large".to_owned())?;
    let mut bytes = vec![0; len];
    let mut missing: Vec<Range<usize>> = Vec::new();
    let place = |address: u64| usize::try_from(address - start).unwrap_or(len);
    let mut done = start;
    for run in space.runs(start, end) {
        if run.start > done {
            missing.push(place(done)..place(run.start));
        }
        done = run.end().min(end);
        if let Some(buffer) = bytes.get_mut(place(run.start)..place(done)) {
            read_pages(space, run.start, buffer, place(run.start), &mut missing);
        }
    }
    if done < end {
        missing.push(place(done)..len);
    }
    let memory = kallsyms::Memory { bytes: &bytes, missing: &missing };
    let mut symbols = kallsyms::decode(memory, place(at)).map_err(|error| error.to_string())?;
    let lacks_data = symbols.address_of("init_task").is_none();
    let exported = if exports && lacks_data { ksymtab::complete(memory, &mut symbols) } else { None };
    Ok((symbols, exported.map(|found| start.wrapping_sub(found.address))))
}

/// Reads a mapped run; pages of it that fail nevertheless are noted as missing.
fn read_pages(
    space: &dyn AddressSpace,
    start: u64,
    buffer: &mut [u8],
    at: usize,
    missing: &mut Vec<Range<usize>>,
) {
    if space.read_at(start, buffer).is_ok() {
        return;
    }
    for (page, bytes) in buffer.chunks_mut(4096).enumerate() {
        let offset = page * 4096;
        if space.read_at(start.wrapping_add(offset as u64), bytes).is_err() {
            bytes.fill(0);
            missing.push(at + offset..at + offset + bytes.len());
        }
    }
}

/// The BTF that belongs to the symbols: address, bytes, and what to add to run-time addresses of the kernel image to
/// get physical ones (absent where the symbols do not say where BTF is).
fn types(
    space: &dyn AddressSpace,
    hits: &Hits,
    near: u64,
    symbols: &Kallsyms,
) -> Result<(u64, Vec<u8>, Option<u64>), String> {
    let link = symbols.address_of("__start_BTF");
    let moved = |at: u64| link.map(|link| at.wrapping_sub(link));
    let banner = symbols.address_of("linux_banner");
    let confirmed = |at: u64| {
        let banner = banner.zip(moved(at)).map(|(banner, moved)| banner.wrapping_add(moved));
        banner.is_some_and(|banner| {
            space.read_cstr(banner, 32).is_ok_and(|text| text.starts_with(b"Linux version "))
        })
    };
    let mut candidates = hits.headers.clone();
    // Where none is confirmed (the page of the banner is missing), contents and distance decide.
    candidates.sort_by_cached_key(|&(at, _)| (!confirmed(at), at.abs_diff(near)));
    for &(at, len) in &candidates {
        let Ok(bytes) = space.read_vec(at, len, BTF_SIZES.end) else { continue };
        if btf::parse(&bytes).is_ok_and(|btf| btf.defines("task_struct") && btf.defines("module")) {
            return Ok((at, bytes, moved(at)));
        }
    }
    Err(match candidates.len() {
        0 => "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF is off, or its memory is missing)".to_owned(),
        many => format!("none of {many} places that look like BTF holds that of a kernel"),
    })
}

/// Where the image begins; kallsyms without data begins with `_stext`.
fn text(symbols: &Kallsyms) -> Option<u64> {
    symbols.address_of("_text").or_else(|| symbols.address_of("_stext"))
}

fn physical(symbols: &Kallsyms, name: &str, moved: u64) -> Option<u64> {
    symbols.address_of(name).map(|address| address.wrapping_add(moved))
}

/// The build-id in the kernel's own notes.
fn build_id(space: &dyn AddressSpace, symbols: &Kallsyms, moved: u64) -> Option<BuildId> {
    let start = physical(symbols, "__start_notes", moved)?;
    let len = physical(symbols, "__stop_notes", moved)?.checked_sub(start)?;
    profile_gen::build_id_in_notes(&space.read_vec(start, len, MAX_NOTES).ok()?)
}
