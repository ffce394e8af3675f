//! Swap areas: what `/proc/swaps` lists, and which file of `--swap` belongs to which.

use std::path::Path;
use std::sync::Arc;

use memory::{AddressSpace, FileSpace, Limits};
use object::{Absent, Ptr, Read, Target, Text, Types, Uint, layout};
use profile::Profile;

use super::zram::Zram;
use super::zsmalloc::Zsmalloc;
use crate::notes::Notes;
use crate::os::linux::file::File;
use crate::os::linux::path::Paths;
use crate::session::Session;
use crate::table::text_of;

/// Most areas: `MAX_SWAPFILES` is 32 less the numbers with another meaning.
const MAX_AREAS: u64 = 32;
/// `SWP_USED`.
const USED: u64 = 1;
/// What the header page of an area ends with (`union swap_header` of include/linux/swap.h).
const SIGNATURE: &[u8] = b"SWAPSPACE2";
/// Where the header has the number of the last page.
const LAST_PAGE: u64 = 1028;
/// Bytes of pages that areas are made for.
const PAGE_SIZES: [u64; 3] = [4096, 16_384, 65_536];

/// Key of the metadata of types that are built in here.
pub(super) const BUILT_IN: &str = "BuiltIn";

/// zram and zsmalloc as compiled into 64-bit kernels from v4.14 to v5.10, whose modules tell nobody their types. What is read with them
/// is checked: an object of zsmalloc begins with its own handle.
const OLD_TYPES: &str = r#"{"$METADATA": {"arch": "AMD64", "BuiltIn": "yes"}, "$CONSTANTS": {}, "$STRUCTS": {
    "zram": [408, {"table": [0, ["Pointer", {"target": "zram_table_entry"}]],
        "mem_pool": [8, ["Pointer", {"target": "zs_pool"}]], "comp": [16, ["Pointer", {"target": "zcomp"}]]}],
    "zram_table_entry": [16, {"handle": [0, ["unsigned long"]], "flags": [8, ["unsigned long"]]}],
    "zcomp": [32, {"name": [8, ["Pointer", {"target": "char"}]]}],
    "zs_pool": [2200, {"size_class": [8, ["Array", {"count": 255, "target": "Pointer"}]]}],
    "size_class": [200, {"size": [72, ["int"]], "objs_per_zspage": [76, ["int"]], "pages_per_zspage": [80, ["int"]]}],
    "zspage": [56, {
        "class": [0, ["BitField", {"start_bit": 2, "end_bit": 11, "target": "unsigned int"}]],
        "magic": [0, ["BitField", {"start_bit": 14, "end_bit": 22, "target": "unsigned int"}]]}]}}"#;

layout! {
    struct Info / InfoLayout = "swap_info_struct" {
        flags: Uint = "flags",
        pages: Uint = "max",
        device: Ptr = "bdev",
        file: Ptr = "swap_file",
        /// A bit for each page, from v6.12.
        zeros: Ptr = "zeromap",
    }

    struct BlockDevice / BlockDeviceLayout = "block_device" {
        disk: Ptr = "bd_disk",
    }

    struct Disk / DiskLayout = "gendisk" {
        name: Text = "disk_name",
        data: Ptr = "private_data",
    }
}

/// A swap area.
pub(super) struct Area {
    /// Its number, below 32.
    pub(super) number: u64,
    /// Path of the device or file, else the name of the device.
    pub(super) name: String,
    /// Pages, the header included.
    pub(super) pages: u64,
    /// The bits of pages with nothing but zeros; 0 for none.
    zeros: Read<u64>,
    /// `struct zram` of the device.
    zram_at: Option<u64>,
    /// The device, once opened.
    pub(super) zram: Option<Read<Zram>>,
    /// The file that was given for it.
    pub(super) file: Option<SwapFile>,
}

impl Area {
    /// One of which nothing else is known.
    #[cfg(test)]
    pub(super) fn plain(number: u64, pages: u64) -> Self {
        Self { number, name: "sda".to_owned(), pages, zeros: Ok(0), zram_at: None, zram: None, file: None }
    }

    /// Whether it is a zram device.
    pub(super) fn is_zram(&self) -> bool {
        self.zram_at.is_some()
    }

    /// Takes the types its driver needs.
    pub(super) fn open_zram(&mut self, types: Read<Target>, allocator: Option<&Zsmalloc>) {
        self.zram = self.zram_at.map(|at| {
            let allocator =
                allocator.ok_or(Absent::NotApplicable("is in zram, whose allocator is not known"))?;
            Zram::new(types?, at, self.pages, allocator.clone())
        });
    }

    /// Whether a page has nothing but zeros, which is then written nowhere.
    pub(super) fn is_zero(&self, target: &Target, page: u64) -> Read<bool> {
        let map = self.zeros.clone()?;
        if map == 0 {
            return Ok(false);
        }
        let bits = target.read_u32(map.wrapping_add(page / 32 * 4))?;
        Ok(bits >> (page % 32) & 1 == 1)
    }
}

/// The areas in use.
pub(super) fn areas(target: &Target) -> Vec<Area> {
    let (Ok(table), Ok(count)) = (target.symbol("swap_info"), target.symbol("nr_swapfiles")) else {
        return Vec::new();
    };
    let count = target.read_u32(count).map_or(MAX_AREAS, u64::from).min(MAX_AREAS);
    let width = u64::from(target.types().model().pointer_size());
    let paths = Paths::new(target, None);
    let area = |number: u64| {
        let at =
            target.read_ptr(table.wrapping_add(number.wrapping_mul(width))).ok().filter(|at| *at != 0)?;
        let info = Info::at(target, at);
        let (Uint(flags), Uint(pages)) = (info.flags().ok()?, info.pages().ok()?);
        if flags & USED == 0 {
            return None;
        }
        let disk = info.device().ok().filter(|device| device.0 != 0).and_then(|Ptr(device)| {
            let Ptr(disk) = BlockDevice::at(target, device).disk().ok()?;
            let disk = Disk::at(target, disk);
            let Text(name) = disk.name().ok()?;
            Some((text_of(&name), disk.data().ok()?.0))
        });
        let path = info.file().ok().filter(|file| file.0 != 0).and_then(|Ptr(file)| {
            let location = File::at(target, file).location().ok()?;
            paths.d_path(location).ok()
        });
        let zram_at = disk.as_ref().filter(|(name, _)| name.starts_with("zram")).map(|(_, data)| *data);
        let name = path.or(disk.map(|(name, _)| name)).unwrap_or_else(|| format!("area {number}"));
        let zeros = match info.zeros() {
            Ok(Ptr(map)) => Ok(map),
            Err(Absent::NoProfile(_)) => Ok(0),
            Err(why) => Err(why),
        };
        Some(Area { number, name, pages, zeros, zram_at, zram: None, file: None })
    };
    (0..count).filter_map(area).collect()
}

/// Types of zram and zsmalloc for kernels whose modules keep none.
pub(super) fn old_types(target: &Target) -> Read<Target> {
    let is_old = !target.types().has_field("module", "btf_data");
    if !is_old || target.types().model().pointer_size() != 8 {
        return Err(Absent::NotApplicable("is in zram, whose types the kernel does not keep"));
    }
    let profile =
        Profile::parse_text(OLD_TYPES.to_owned()).map_err(|_| Absent::Malformed("built-in types"))?;
    let types = Types::new(Arc::new(profile), target.types().model(), &[]);
    Ok(Target::new(Arc::new(types), Arc::clone(target.shared_space()), 0, u64::MAX))
}

/// A file that the user gave for an area.
pub struct SwapFile {
    /// Its path.
    pub(super) name: String,
    /// Name without folders, for finding the area.
    base: String,
    pub(super) space: Arc<dyn AddressSpace>,
    /// Pages by its header; `None` where there is none.
    pages: Option<u64>,
}

impl SwapFile {
    /// Those that the session was given; what cannot be opened is noted.
    #[must_use]
    pub fn of(session: &Session) -> Vec<Self> {
        let open = |path: &std::path::PathBuf| match FileSpace::open(path, &Limits::default()) {
            Ok(space) => Some(Self::new(path, Arc::new(space))),
            Err(error) => {
                session.notes.partial(format!("cannot open swap file: {error}: {}", path.display()));
                None
            }
        };
        session.config.swap.iter().filter_map(open).collect()
    }

    fn new(path: &Path, space: Arc<dyn AddressSpace>) -> Self {
        let signed = |size: &u64| {
            let at = size - SIGNATURE.len() as u64;
            space.read_vec(at, SIGNATURE.len() as u64, SIGNATURE.len()).is_ok_and(|found| found == SIGNATURE)
        };
        let is_area = PAGE_SIZES.iter().any(signed);
        let pages = is_area.then(|| space.read_u32(LAST_PAGE).ok()).flatten();
        let base = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let pages = pages.map(|last| u64::from(last) + 1);
        Self { name: path.display().to_string(), base, space, pages }
    }
}

/// Gives each file to the area it is of: one of as many pages, best one of the same name, else in their order.
pub(super) fn match_files(areas: &mut [Area], files: Vec<SwapFile>, notes: &Notes) {
    for file in files {
        let name = file.name.clone();
        let Some(pages) = file.pages else {
            notes.partial(format!("not a swap area, it has no header: {name}"));
            continue;
        };
        let mut fitting: Vec<&mut Area> = areas
            .iter_mut()
            .filter(|area| !area.is_zram() && area.file.is_none() && area.pages == pages)
            .collect();
        fitting.sort_by_key(|area| (area.name.rsplit('/').next() != Some(file.base.as_str()), area.number));
        match fitting.into_iter().next() {
            Some(area) => {
                notes.info(format!("swap area {} ({}) is read from {name}", area.number, area.name));
                area.file = Some(file);
            }
            None => notes.partial(format!("the kernel uses no swap area of {pages} pages: {name}")),
        }
    }
}
