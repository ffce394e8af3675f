//! VMware: memory (`.vmem`) with the state of the machine beside it (`.vmss` suspended, `.vmsn` snapshot), and
//! states that hold the memory themselves (older snapshots).
//!
//! ```text
//! state   magic u32 (lowest 4 bits: version), u32, groups u32; groups of 80 bytes: name[64], offset u64, size u64
//! group   tags up to one of two zero bytes: flags (bits 0-5 size, 6-7 number of indices), length and bytes of the
//!         name, indices u32; then `size` bytes of data, or for sizes 62 and 63: stored size, size in memory (u32
//!         each in version 0, else u64), length of padding u16, padding, data
//! ```
//! The group `memory` tells where ranges lie: `regionPPN[i]` first page, `regionPageNum[i]` page in the `.vmem`
//! or in the tag `Memory`, `regionSize[i]` pages; without regions both are the same. `CR64[cpu][3]` of the group
//! `cpu` is CR3. Without its state a `.vmem` of more than 3 GiB has its upper part 1 GiB too low: it opens as
//! raw, and a state with the same name is what makes the difference.
//! Sources: the layouts in volatility3, LeechCore and the open-vm-tools headers.

use crate::bytes::{u16_at, u32_at, u64_at};
use crate::format::{Layer, Opened, Refused};
use crate::image::Limits;
use crate::{AddressSpace, Hints, Overlap, Run, RunSpace};
use std::collections::BTreeMap;
use std::sync::Arc;

const MAGICS: [u32; 4] = [0xbed2_bed0, 0xbad1_bad1, 0xbed2_bed2, 0xbed3_bed3];
const PAGE: u64 = 4096;
const GROUP: u64 = 80;
/// Most groups, tags of one group, and memory regions. Real files have about 100, some thousand, and 2.
const MAX_GROUPS: u32 = 4096;
const MAX_TAGS: usize = 1 << 20;
const MAX_REGIONS: usize = 4096;
/// Most CPUs whose CR3 is taken.
const MAX_CPUS: usize = 8192;
/// Extensions of states.
const STATES: [&str; 4] = ["vmss", "vmsn", "VMSS", "VMSN"];

/// One tag.
struct Tag {
    name: Vec<u8>,
    indices: [Option<u32>; 3],
    /// Where its data lies, and its size as stored and in memory.
    data: u64,
    stored: u64,
    size: u64,
    next: u64,
}

impl Tag {
    /// The tag at `at`; `None` where the list ends or is damaged.
    fn read(base: &dyn AddressSpace, at: u64, version: u32) -> Option<Self> {
        let mut head = [0; 2];
        base.read_at(at, &mut head).ok()?;
        let [flags, name_len] = head;
        if name_len == 0 {
            return None;
        }
        let name = base.read_vec(at.checked_add(2)?, u64::from(name_len), 255).ok()?;
        let mut at = at.checked_add(2)?.checked_add(u64::from(name_len))?;
        let mut indices = [None; 3];
        for index in indices.iter_mut().take(usize::from(flags >> 6)) {
            *index = Some(base.read_u32(at).ok()?);
            at = at.checked_add(4)?;
        }
        let (data, stored, size) = match flags & 0x3f {
            62 | 63 => {
                let width = if version == 0 { 4u64 } else { 8 };
                let number = |at: u64| match version {
                    0 => base.read_u32(at).ok().map(u64::from),
                    _ => base.read_u64(at).ok(),
                };
                let (stored, size) = (number(at)?, number(at.checked_add(width)?)?);
                let padding = at.checked_add(width.checked_mul(2)?)?;
                let skip = u64::from(base.read_u16(padding).ok()?);
                (padding.checked_add(2)?.checked_add(skip)?, stored, size)
            }
            size => (at, u64::from(size), u64::from(size)),
        };
        Some(Self { name, indices, data, stored, size, next: data.checked_add(stored)? })
    }

    /// Its data as a number of 1, 2, 4 or 8 bytes.
    fn number(&self, base: &dyn AddressSpace) -> Option<u64> {
        match self.size {
            1 => base.read_u8(self.data).ok().map(u64::from),
            2 => base.read_u16(self.data).ok().map(u64::from),
            4 => base.read_u32(self.data).ok().map(u64::from),
            8 => base.read_u64(self.data).ok(),
            _ => None,
        }
    }
}

/// What a state tells.
#[derive(Default)]
struct State {
    /// First page, page in the file, number of pages, as far as each is told.
    regions: BTreeMap<u32, [Option<u64>; 3]>,
    /// Offset and size of the memory in the state itself; whether it is compressed.
    memory: Option<(u64, u64, bool)>,
    dtb: BTreeMap<u32, u64>,
    /// The list of tags of the group `memory` is damaged.
    cut: bool,
}

impl State {
    fn read(base: &dyn AddressSpace) -> Result<Self, Refused> {
        let head = base.read_vec(0, 12, 12).map_err(|_| "the state's header is cut off")?;
        let (magic, groups) = (u32_at(&head, 0).unwrap_or(0), u32_at(&head, 8).unwrap_or(0));
        if !MAGICS.contains(&magic) {
            return Err("no VMware signature at the start of the state".into());
        }
        if groups > MAX_GROUPS {
            return Err(format!("unlikely number of groups: {groups}").into());
        }
        let size = u64::from(groups).saturating_mul(GROUP);
        let groups = base.read_vec(12, size, 80 * 4096).map_err(|_| "the list of groups is cut off")?;
        let mut state = Self::default();
        for group in groups.chunks_exact(80) {
            let name =
                group.get(..64).and_then(|name| name.split(|byte| *byte == 0).next()).unwrap_or_default();
            let (Some(at), true) = (u64_at(group, 64), matches!(name, b"memory" | b"cpu")) else { continue };
            state.tags(base, at, magic & 0xf, name == b"memory");
        }
        Ok(state)
    }

    fn tags(&mut self, base: &dyn AddressSpace, mut at: u64, version: u32, memory: bool) {
        for _ in 0..MAX_TAGS {
            let Some(tag) = Tag::read(base, at, version) else {
                self.cut |= memory && base.read_u16(at).is_err();
                return;
            };
            let field = match (memory, tag.name.as_slice()) {
                (true, b"regionPPN") => Some(0),
                (true, b"regionPageNum") => Some(1),
                (true, b"regionSize") => Some(2),
                _ => None,
            };
            match (field, tag.indices) {
                (Some(field), [Some(region), ..]) if self.regions.len() < MAX_REGIONS => {
                    let fields = self.regions.entry(region).or_default();
                    if let Some(field) = fields.get_mut(field) {
                        *field = tag.number(base);
                    }
                }
                (None, [Some(cpu), Some(3), _]) if tag.name == b"CR64" && self.dtb.len() < MAX_CPUS => {
                    tag.number(base).and_then(|cr3| self.dtb.insert(cpu, cr3));
                }
                _ if memory && tag.name == b"Memory" => {
                    self.memory = Some((tag.data, tag.size, tag.stored != tag.size));
                }
                _ => {}
            }
            at = tag.next;
        }
    }

    /// The runs of memory whose page 0 lies at `first` of a file that holds `size` bytes of memory.
    fn runs(&self, first: u64, size: u64) -> Vec<Run> {
        let region = |fields: &[Option<u64>; 3]| {
            let [page, stored, count] = *fields;
            Some(Run {
                start: page?.checked_mul(PAGE)?,
                target: first.checked_add(stored?.checked_mul(PAGE)?)?,
                len: count?.checked_mul(PAGE)?,
            })
        };
        let runs: Vec<Run> = self.regions.values().filter_map(region).filter(|run| run.len > 0).collect();
        if runs.is_empty() { vec![Run { start: 0, len: size, target: first }] } else { runs }
    }

    fn open(
        &self,
        name: &'static str,
        base: &Arc<dyn AddressSpace>,
        first: u64,
        size: u64,
    ) -> Result<Opened, Refused> {
        let mut warnings = Vec::new();
        if self.cut {
            warnings.push("the state is cut off: regions of memory may be missing".to_owned());
        }
        let space = RunSpace::new(name, Arc::clone(base), self.runs(first, size), Overlap::FirstWins);
        let promised = space.stored_beyond(base.end());
        if promised > 0 {
            warnings.push(format!("the file is cut off, bytes missing: {promised}"));
        }
        let hints = Hints { dtb: self.dtb.values().copied().collect(), ..Hints::default() };
        Ok(Opened::new(Arc::new(space)).hints(hints).warnings(warnings))
    }
}

/// The state with the same name as the image.
fn state_beside(layer: &Layer<'_>) -> Option<Arc<dyn AddressSpace>> {
    let open = |extension: &&str| layer.beside.with_extension(extension, layer.limits);
    STATES.iter().filter_map(open).find(|state| state.read_u32(0).is_ok_and(|magic| MAGICS.contains(&magic)))
}

pub(super) fn probe_memory(layer: &Layer<'_>) -> Result<(), &'static str> {
    state_beside(layer).map(|_| ()).ok_or("no VMware state (.vmss, .vmsn) of the same name beside it")
}

/// Opens a `.vmem` by the state beside it.
pub(super) fn open_memory(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let state = state_beside(layer).ok_or("the state beside it is gone")?;
    State::read(&*state)?.open("VMware memory", layer.base, 0, layer.base.end())
}

pub(super) fn probe_state(layer: &Layer<'_>) -> Result<(), &'static str> {
    let magic = u32_at(layer.head, 0);
    // A version below 16 and a group of 80 bytes; `u16_at` guards against shorter files.
    if magic.is_some_and(|magic| MAGICS.contains(&magic)) && u16_at(layer.head, 10).is_some() {
        Ok(())
    } else {
        Err("no VMware state signature at the start")
    }
}

/// Opens a state: by the memory in it, else by the `.vmem` beside it.
pub(super) fn open_state(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let state = State::read(&**layer.base)?;
    match state.memory {
        Some((_, _, true)) => {
            return Err("the memory in the state is compressed, which is not supported".into());
        }
        Some((at, size, false)) => return state.open("VMware state", layer.base, at, size),
        None => {}
    }
    let memory = memory_beside(layer, layer.limits);
    let memory =
        memory.ok_or("the state holds no memory: put the .vmem file with the same name beside it")?;
    state.open("VMware memory", &memory, 0, memory.end())
}

fn memory_beside(layer: &Layer<'_>, limits: &Limits) -> Option<Arc<dyn AddressSpace>> {
    ["vmem", "VMEM"].iter().find_map(|extension| layer.beside.with_extension(extension, limits))
}
