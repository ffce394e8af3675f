//! Virtual address descriptors: the tree of what a process has mapped and reserved.
//!
//! Nodes are `_MMVAD` or, for private memory without a section, `_MMVAD_SHORT`; the pool tag before a node tells which.
//! Sources: the types in the symbols of each kernel; Dolan-Gavitt, "The VAD tree: a process-eye view of physical memory"
//! (DFRWS 2007) for the tags and the index of protections.

use std::collections::HashSet;

use object::{Absent, Addr, Missing, Ptr, Read, Target, Types, Uint, layout};

use super::paged::PagedSpace;
use super::process::Process;
use super::{Kernel, unicode};
use crate::notes::Notes;

/// Most nodes of one tree; large programs have tens of thousands.
const MAX_VADS: usize = 1 << 20;
/// Deepest node; balanced trees of as many nodes have no more than 30 levels.
const MAX_DEPTH: u16 = 100;
/// Bytes of a page as a shift.
const PAGE_SHIFT: u32 = 12;

layout! {
    /// `_MMVAD`: one mapped or reserved range.
    pub struct Vad / VadLayout = "_MMVAD" {
        /// Number of the first page, low 32 bits where there is a high part.
        start_vpn: Uint = "StartingVpn | Core.StartingVpn",
        /// High part of the number of the first page (from Windows 8.1 on).
        start_vpn_high: Uint = "StartingVpnHigh | Core.StartingVpnHigh",
        /// Number of the last page, as the first.
        end_vpn: Uint = "EndingVpn | Core.EndingVpn",
        /// High part of the number of the last page.
        end_vpn_high: Uint = "EndingVpnHigh | Core.EndingVpnHigh",
        /// Index of the protection.
        protection_index: Uint = "u.VadFlags.Protection | Core.u.VadFlags.Protection",
        /// Whether it is private.
        private_memory: Uint = "u.VadFlags.PrivateMemory | Core.u.VadFlags.PrivateMemory",
        /// `_MI_VAD_TYPE`; absent in XP.
        vad_type: Uint = "u.VadFlags.VadType | Core.u.VadFlags.VadType",
        /// Pages that count against the commit limit, low part.
        commit_charge: Uint = "u.VadFlags.CommitCharge | u1.VadFlags1.CommitCharge | Core.u1.VadFlags1.CommitCharge",
        /// High part of that (Windows 10).
        commit_charge_high: Uint = "CommitChargeHigh | Core.CommitChargeHigh",
        /// Whether all of it is committed.
        mem_commit: Uint = "u.VadFlags.MemCommit | u1.VadFlags1.MemCommit | Core.u1.VadFlags1.MemCommit",
        /// Whether an executable is mapped (XP).
        image_map: Uint = "u.VadFlags.ImageMap",
        /// The section (XP and 2003).
        control_area_direct: Ptr = "ControlArea",
        /// First part of the section (from Vista on).
        subsection: Ptr = "Subsection",
        /// First of the prototype PTEs of the range.
        first_prototype: Ptr = "FirstPrototypePte",
        /// Last of them that follow each other.
        last_prototype: Ptr = "LastContiguousPte",
    }

    /// `_SUBSECTION`: a part of a section with prototype PTEs of its own.
    pub struct Subsection / SubsectionLayout = "_SUBSECTION" {
        /// The section's control area.
        control_area: Ptr = "ControlArea",
        /// First of its prototype PTEs.
        base: Ptr = "SubsectionBase",
        /// Number of its prototype PTEs.
        ptes: u32 = "PtesInSubsection",
        /// The next part.
        next: Ptr = "NextSubsection",
        /// Where it starts in the file, in sectors of 512 bytes.
        starting_sector: u32 = "StartingSector",
    }

    /// `_CONTROL_AREA`: a section: a file that is mapped, or shared memory.
    pub struct ControlArea / ControlAreaLayout = "_CONTROL_AREA" {
        /// The file, a fast reference from Vista on; null for shared memory.
        file: Uint = "FilePointer",
        /// The segment.
        segment: Ptr = "Segment",
    }

    struct FileName / FileNameLayout = "_FILE_OBJECT" {
        name: Addr = "FileName",
    }
}

/// What the names of a protection are, by its index of five bits: the low three bits select, the others modify.
const PROTECTIONS: [&str; 8] = [
    "NOACCESS",
    "READONLY",
    "EXECUTE",
    "EXECUTE_READ",
    "READWRITE",
    "WRITECOPY",
    "EXECUTE_READWRITE",
    "EXECUTE_WRITECOPY",
];
const MODIFIERS: [&str; 4] = ["", "NOCACHE", "GUARD", "WRITECOMBINE"];

/// Names of `_MI_VAD_TYPE`.
const VAD_TYPES: [&str; 8] = [
    "VadNone",
    "VadDevicePhysicalMemory",
    "VadImageMap",
    "VadAwe",
    "VadWriteWatch",
    "VadLargePages",
    "VadRotatePhysical",
    "VadLargePageSection",
];

/// A protection of a page or range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection(pub u8);

impl Protection {
    /// Its name, as the original prints it: `EXECUTE_READWRITE`, with modifiers behind.
    #[must_use]
    pub fn name(self) -> String {
        let base = PROTECTIONS.get(usize::from(self.0 & 7)).copied().unwrap_or_default();
        match MODIFIERS.get(usize::from(self.0 >> 3 & 3)) {
            Some(&"") | None => base.to_owned(),
            // Without access there is nothing to modify.
            Some(_) if self.0 & 7 == 0 => base.to_owned(),
            Some(modifier) => format!("{base} | {modifier}"),
        }
    }

    /// Whether code in it can run.
    #[must_use]
    pub fn is_executable(self) -> bool {
        matches!(self.0 & 7, 2 | 3 | 6 | 7)
    }

    /// Whether writing makes a copy of the page: `WRITECOPY`, `EXECUTE_WRITECOPY`.
    #[must_use]
    pub fn is_copied_on_write(self) -> bool {
        matches!(self.0 & 7, 5 | 7)
    }

    /// Whether it can be written, copies included.
    #[must_use]
    pub fn is_writable(self) -> bool {
        self.0 & 7 >= 4
    }
}

impl<'k> Vad<'k> {
    /// First address.
    pub fn start(&self) -> Read<u64> {
        let Uint(low) = self.start_vpn()?;
        Ok((low | optional(self.start_vpn_high())? << 32) << PAGE_SHIFT)
    }

    /// Last address.
    pub fn last(&self) -> Read<u64> {
        let Uint(low) = self.end_vpn()?;
        Ok((low | optional(self.end_vpn_high())? << 32) << PAGE_SHIFT | 0xfff)
    }

    /// Protection of its pages when they were mapped; single pages may have others now.
    pub fn protection(&self) -> Read<Protection> {
        self.protection_index().map(|Uint(index)| Protection((index & 31) as u8))
    }

    /// Whether it is memory of the process alone, of no section.
    pub fn is_private(&self) -> Read<bool> {
        self.private_memory().map(|Uint(private)| private != 0)
    }

    /// `Private` or `Mapped`.
    pub fn kind(&self) -> Read<&'static str> {
        self.is_private().map(|private| if private { "Private" } else { "Mapped" })
    }

    /// Name of its `VadType`; XP has a flag for images only.
    pub fn type_name(&self) -> Read<&'static str> {
        match self.vad_type() {
            Ok(Uint(kind)) => VAD_TYPES
                .get(usize::try_from(kind).unwrap_or(usize::MAX))
                .copied()
                .ok_or(Absent::Malformed("VadType")),
            Err(_) => self.image_map().map(|Uint(image)| if image == 0 { "VadNone" } else { "VadImageMap" }),
        }
    }

    /// Pages that count against the commit limit; not applicable where the kernel keeps no count for it (all bits set).
    pub fn commit(&self) -> Read<u64> {
        let Uint(low) = self.commit_charge()?;
        let bits = self.layout_bits();
        if bits.is_some_and(|bits| low == u64::MAX >> (64 - bits.clamp(1, 64))) {
            return Err(Absent::NotApplicable("commit is not counted"));
        }
        Ok(low | optional(self.commit_charge_high())? << 31)
    }

    /// Width of the commit charge in bits.
    fn layout_bits(&self) -> Option<u32> {
        let types = self.target().types();
        let path = "u.VadFlags.CommitCharge | u1.VadFlags1.CommitCharge | Core.u1.VadFlags1.CommitCharge";
        match types.resolve(Self::STRUCT, path).ok()?.ty {
            profile::Type::BitField { start, end, .. } => end.checked_sub(start),
            _ => None,
        }
    }

    /// The four letters before the node: `Vad `, `Vadl`, `VadS`, ...
    pub fn tag(&self) -> Read<[u8; 4]> {
        let target = self.target();
        // The tag ends the pool header of 8 or is the second word of the one of 16 bytes.
        let back = if target.types().model().pointer_size() == 8 { 12 } else { 4 };
        target.read_u32(self.addr().wrapping_sub(back)).map(u32::to_le_bytes)
    }

    /// The struct by its tag: short ones have no section.
    pub fn struct_name(&self) -> Read<&'static str> {
        Ok(match &self.tag()? {
            b"VadS" | b"VadF" => "_MMVAD_SHORT",
            b"Vadl" | b"Vadm" if self.target().types().structure("_MMVAD_LONG").is_ok() => "_MMVAD_LONG",
            b"Vadl" | b"Vadm" | b"Vad " => "_MMVAD",
            _ => return Err(Absent::Malformed("pool tag of a VAD")),
        })
    }

    /// Whether the node is too short to have a section. The tag tells; where it is none of a VAD, the flag of private memory.
    pub(super) fn is_short(&self) -> Read<bool> {
        self.struct_name().map(|name| name == "_MMVAD_SHORT").or_else(|_| self.is_private())
    }

    /// Its section; not applicable for memory of none.
    pub fn control_area(&self) -> Read<ControlArea<'k>> {
        if self.is_short()? {
            return Err(Absent::NotApplicable("private memory"));
        }
        let Ptr(area) = match self.subsection() {
            Ok(subsection) => {
                Subsection::at(self.target(), subsection.non_null("no section")?).control_area()?
            }
            // XP and 2003 have the area here.
            Err(Absent::NoProfile(_)) => self.control_area_direct()?,
            Err(why) => return Err(why),
        };
        Ok(ControlArea::at(self.target(), Ptr(area).non_null("no section")?))
    }

    /// `_FILE_OBJECT` of the mapped file; not applicable for private or shared memory.
    pub fn file_object(&self) -> Read<u64> {
        self.control_area()?.file_object()
    }

    /// Name of the mapped file, without its drive; not applicable for private or shared memory.
    pub fn file_name(&self) -> Read<String> {
        unicode::text_at(self.target(), FileName::at(self.target(), self.file_object()?).name())
    }
}

impl ControlArea<'_> {
    /// `_FILE_OBJECT` of the file; not applicable for shared memory.
    pub fn file_object(&self) -> Read<u64> {
        let Uint(file) = self.file()?;
        // The low bits of a fast reference count references. Plain pointers have them clear.
        let mask = if self.target().types().model().pointer_size() == 8 { 15 } else { 7 };
        Ptr(file & !mask).non_null("no file")
    }
}

/// A field that later kernels have in addition: absent from the profile it is 0.
fn optional(value: Read<Uint>) -> Read<u64> {
    match value {
        Ok(Uint(value)) => Ok(value),
        Err(Absent::NoProfile(_)) => Ok(0),
        Err(why) => Err(why),
    }
}

/// A node of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Address of the `_MMVAD`.
    pub addr: u64,
    /// Depth; the root has 1.
    pub depth: u16,
}

/// The nodes of a tree, by ascending address range, and what is missing.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What could not be followed: one sentence each.
    pub damage: Vec<String>,
}

/// Offsets that a walk needs.
struct Links {
    /// From the start of a VAD to its node.
    node: u64,
    left: u64,
    right: u64,
}

impl Links {
    fn of(types: &Types) -> Result<Self, Missing> {
        let offset = |structure: &str, path: &str| types.resolve(structure, path).map(|found| found.offset);
        let node = offset("_MMVAD", "VadNode | Core.VadNode");
        let (structure, left, right) = match (&node, types.resolve("_EPROCESS", "VadRoot.Root").is_ok()) {
            (_, true) => ("_RTL_BALANCED_NODE", "Left", "Right"),
            _ if types.structure("_MM_AVL_NODE").is_ok() => ("_MM_AVL_NODE", "LeftChild", "RightChild"),
            _ if types.structure("_MMADDRESS_NODE").is_ok() => ("_MMADDRESS_NODE", "LeftChild", "RightChild"),
            _ => ("_MMVAD", "LeftChild", "RightChild"),
        };
        Ok(Self { node: node.unwrap_or(0), left: offset(structure, left)?, right: offset(structure, right)? })
    }
}

/// Walks the tree of a process in order. Damaged branches are left out and told of.
pub fn tree(process: &Process<'_>) -> Read<Tree> {
    let target = process.target();
    let types = target.types();
    let links = Links::of(types)?;
    let Addr(place) = process.vad_root()?;
    let root = if types.resolve("_EPROCESS", "VadRoot.Root").is_ok() {
        target.read_ptr(place)?
    } else if let Ok(sentinel) = types.resolve("_EPROCESS", "VadRoot.BalancedRoot") {
        // The tree hangs on the right of a node that stands for the table itself.
        let table = types.resolve("_EPROCESS", "VadRoot")?.offset;
        let node = place.wrapping_add(sentinel.offset).wrapping_sub(table);
        target.read_ptr(node.wrapping_add(links.right))?
    } else {
        target.read_ptr(place)?
    };
    Ok(walk(target, &links, root))
}

fn walk(target: &Target, links: &Links, root: u64) -> Tree {
    let mut tree = Tree::default();
    let mut seen = HashSet::new();
    // Nodes whose left side is done or under way, the root first.
    let mut stack: Vec<Node> = Vec::new();
    let mut next = Some(Node { addr: root, depth: 1 });
    loop {
        while let Some(node) = next.take() {
            if node.addr == 0 {
                break;
            }
            if !seen.insert(node.addr) {
                tree.damage.push(format!("the tree of VADs leads back to {:#x}", node.addr));
                break;
            }
            if node.depth > MAX_DEPTH || seen.len() > MAX_VADS {
                tree.damage.push(format!("the tree of VADs goes on below {:#x}", node.addr));
                break;
            }
            match target.read_ptr(node.addr.wrapping_add(links.left)) {
                Ok(left) => {
                    stack.push(node);
                    next = Some(Node { addr: left, depth: node.depth + 1 });
                }
                Err(why) => tree.damage.push(format!("a VAD is missing: {why}")),
            }
        }
        let Some(node) = stack.pop() else { return tree };
        tree.nodes.push(Node { addr: node.addr.wrapping_sub(links.node), ..node });
        match target.read_ptr(node.addr.wrapping_add(links.right)) {
            Ok(right) => next = Some(Node { addr: right, depth: node.depth + 1 }),
            Err(why) => tree.damage.push(format!("a VAD is missing: {why}")),
        }
    }
}

/// A range of which first and last address are known, and its descriptor.
pub type Ranged<'k> = (u64, u64, Vad<'k>);

/// The memory of a process with its ranges: first address, last address and descriptor, in order. `None` for a process without
/// memory; what cannot be read is noted.
pub fn ranges_of<'k>(
    notes: &Notes,
    kernel: &Kernel,
    process: &Process<'k>,
) -> Option<(PagedSpace, Vec<Ranged<'k>>)> {
    let whose = process.describe();
    let found = process.space(kernel).and_then(|space| Ok((space, tree(process)?)));
    let (space, tree) = match found {
        Ok(found) => found,
        Err(why) => {
            if why.is_loss() {
                notes.partial(format!("memory of {whose} is missing: {why}"));
            }
            return None;
        }
    };
    for damage in &tree.damage {
        notes.partial(format!("{whose}: {damage}"));
    }
    let mut ranges = Vec::new();
    for node in tree.nodes {
        let vad = Vad::at(process.target(), node.addr);
        match vad.start().and_then(|start| Ok((start, vad.last()?))) {
            Ok((start, last)) if start <= last && last < kernel.user_end() => ranges.push((start, last, vad)),
            Ok((start, last)) => {
                notes.partial(format!("{whose}: a range from {start:#x} to {last:#x} makes no sense"));
            }
            Err(why) => notes.partial(format!("{whose}: a range cannot be read: {why}")),
        }
    }
    Some((space, ranges))
}
