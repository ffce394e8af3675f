//! Virtual address descriptors: trees of the memory areas of a process, with what backs them.
//!
//! Each area is a node of a search tree by address. Short nodes describe private memory; longer ones name a subsection, whose
//! control area names the file. Pages that are shared stand behind prototype page table entries.

use crate::machine::{Machine, SpaceId, USER_PAGE};
use crate::physical::{PAGE, Use};
use crate::pool::Kind;
use crate::processes::{Placed, Process};
use crate::tree;

/// What backs a memory area.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backing {
    /// Private memory.
    #[default]
    Private,
    /// A section without a file.
    Section,
    /// A data file mapped under this name.
    File(String),
    /// A program or library mapped under this name.
    Image(String),
}

/// Where the content of one page is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// In memory, valid.
    Resident(Vec<u8>),
    /// In memory, on its way out.
    Transition(Vec<u8>),
    /// Behind a prototype entry, in memory, the process's own entry valid.
    Shared(Vec<u8>),
    /// Behind a prototype entry that is valid; the process's entry names the prototype's address.
    Prototype(Vec<u8>),
    /// Behind a prototype entry that is valid; the process's entry says to look at the VAD.
    PrototypeByVad(Vec<u8>),
    /// Behind a prototype entry that says where in its file the page is.
    Mapped,
    /// In a page file: its number and the page's index in it.
    PageFile(u64, u64),
    /// Never touched: zeros when it is.
    DemandZero,
}

/// One memory area.
#[derive(Debug, Clone, Default)]
pub struct Vad {
    /// First address; a multiple of the page size.
    pub start: u64,
    /// Last address.
    pub end: u64,
    /// Pool tag of its node: `VadS`, `Vad `, `Vadl`, `Vadm`, `VadF`.
    pub tag: [u8; 4],
    /// `PrivateMemory`.
    pub private: bool,
    /// Protection index, 5 bits.
    pub protection: u8,
    /// `VadType`, such as 2 for an image.
    pub vad_type: u8,
    /// Committed pages.
    pub commit: u64,
    /// What backs it.
    pub backing: Backing,
    /// Pages whose whereabouts are told, by address. The entries of all others are zero.
    pub pages: Vec<(u64, Page)>,
    /// Very address of its node.
    pub at: Option<u64>,
    /// Distance from the top of its tree, which is 1; absent: the tree is balanced.
    pub level: Option<u32>,
}

/// A section: what areas map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    subsection: u64,
    pub(crate) control_area: u64,
    /// Address of the prototype entries of its first part.
    prototypes: u64,
    /// Pages of the first part.
    pages: u64,
    /// The second part and its prototype entries; 0 where there is none.
    later_subsection: u64,
    later_prototypes: u64,
}

impl Section {
    /// The part that holds a page of the section, and the address of the page's prototype entry.
    fn prototype(&self, page: u64, entry_size: u64) -> (u64, u64) {
        if page < self.pages || self.later_subsection == 0 {
            (self.subsection, self.prototypes + page * entry_size)
        } else {
            (self.later_subsection, self.later_prototypes + (page - self.pages) * entry_size)
        }
    }
}

impl Vad {
    /// Private memory, readable and writable.
    pub fn private(start: u64, end: u64) -> Self {
        Self { start, end, tag: *b"VadS", private: true, protection: 4, ..Self::default() }
    }

    /// A mapped program or library.
    pub fn image(start: u64, end: u64, file: &str) -> Self {
        // EXECUTE_WRITECOPY, ImageMap.
        Self {
            start,
            end,
            tag: *b"Vad ",
            protection: 7,
            vad_type: 2,
            backing: Backing::Image(file.to_owned()),
            ..Self::default()
        }
    }

    /// A mapped data file, readable.
    pub fn file(start: u64, end: u64, file: &str) -> Self {
        Self {
            start,
            end,
            tag: *b"Vad ",
            protection: 1,
            backing: Backing::File(file.to_owned()),
            ..Self::default()
        }
    }

    fn node_struct(&self) -> &'static str {
        match &self.tag {
            b"Vadl" | b"Vadm" => "_MMVAD_LONG",
            b"Vad " => "_MMVAD",
            _ => "_MMVAD_SHORT",
        }
    }
}

impl Machine {
    /// Makes the VAD tree of a process. Returns the nodes' addresses in the order of the description.
    pub(crate) fn make_vads(&mut self, process: &Process, placed: &Placed) -> Vec<u64> {
        let nodes: Vec<u64> = process.vads.iter().map(|vad| self.make_vad(vad, placed)).collect();
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by_key(|&index| process.vads[index].start);
        let levels: Option<Vec<u32>> = order.iter().map(|&index| process.vads[index].level).collect();
        let tree = match levels {
            Some(levels) => {
                let leaf: Vec<bool> =
                    order.iter().map(|&index| self.shared_nodes.contains(&nodes[index])).collect();
                tree::with_levels(&levels, &leaf)
            }
            None => tree::balanced(nodes.len()),
        };
        let mut places: Vec<u64> = order.iter().map(|&index| nodes[index]).collect();
        for _ in places.len()..tree.nodes.len() {
            // A node that was freed while the memory was read: its block is free, its links still work.
            let size = self.system.layouts.size("_MMVAD_SHORT");
            places.push(self.allocate(Kind::NonPaged, *b"Free", size));
        }
        self.link_tree(&tree, &places, placed.eprocess);
        nodes
    }

    fn link_tree(&mut self, tree: &tree::Tree, places: &[u64], eprocess: u64) {
        let place = |index: Option<usize>| index.map_or(0, |index| places[index]);
        for (index, node) in tree.nodes.iter().enumerate() {
            for child in [node.left, node.right].into_iter().flatten() {
                self.at("_MMVAD_SHORT", places[child])
                    .set_if("VadNode.ParentValue|u1.Parent|Parent", places[index]);
            }
            self.at("_MMVAD_SHORT", places[index])
                .set("VadNode.Left|LeftChild", place(node.left))
                .set("VadNode.Right|RightChild", place(node.right));
        }
        let root = place(tree.root);
        let mut record = self.at("_EPROCESS", eprocess);
        if record.has("VadRoot.BalancedRoot") {
            // The tree hangs on the right side of a node inside the process.
            record
                .set("VadRoot.BalancedRoot.RightChild", root)
                .set("VadRoot.NumberGenericTableElements", places.len() as u64)
                .set("VadRoot.DepthOfTree", u64::from(tree.depth));
            let top = record.member("VadRoot.BalancedRoot");
            self.at("_EPROCESS", eprocess).set_if("VadRoot.BalancedRoot.u1.Parent", top);
            if root != 0 {
                self.at("_MMVAD_SHORT", root).set_if("u1.Parent", top);
            }
        } else {
            record
                .set("VadRoot.Root|VadRoot", root)
                .set_if("VadCount", places.len() as u64)
                .set_if("VadHint", root);
        }
    }

    fn make_vad(&mut self, vad: &Vad, placed: &Placed) -> u64 {
        let name = vad.node_struct();
        let layout = if self.system.layouts.size_if(name).is_some() { name } else { "_MMVAD" };
        let size = self.system.layouts.size(layout);
        let node = match vad.at {
            Some(at) if self.has_block(at) => {
                self.shared_nodes.insert(at);
                at
            }
            Some(at) => {
                self.place_block(Kind::NonPaged, vad.tag, at, size);
                at
            }
            None => self.allocate(Kind::NonPaged, vad.tag, size),
        };
        let (first, last) = (vad.start / PAGE, vad.end / PAGE);
        let mut record = self.at("_MMVAD_SHORT", node);
        record
            .set("StartingVpn", first)
            .set("EndingVpn", last)
            .set_if("StartingVpnHigh", first >> 32)
            .set_if("EndingVpnHigh", last >> 32)
            .set("u.VadFlags.PrivateMemory", u64::from(vad.private))
            .set("u.VadFlags.Protection", u64::from(vad.protection))
            .set("u.VadFlags.CommitCharge|u1.VadFlags1.CommitCharge", vad.commit)
            .set_if("u.VadFlags.VadType", u64::from(vad.vad_type))
            .set_if("u.VadFlags.ImageMap", u64::from(vad.vad_type == 2))
            .set_if("u.VadFlags.MemCommit|u1.VadFlags1.MemCommit", u64::from(vad.private));
        let section = match &vad.backing {
            Backing::Private => None,
            backing => Some(self.section(backing, last - first + 1)),
        };
        if let Some(section) = section {
            assert_ne!(layout, "_MMVAD_SHORT", "short nodes have no room for a file");
            let pte = u64::from(self.tables.paging.entry_size() == 8) * 4 + 4;
            self.at("_MMVAD", node)
                .set_if("Subsection", section.subsection)
                .set_if("ControlArea", section.control_area)
                .set("FirstPrototypePte", section.prototypes)
                .set("LastContiguousPte", section.prototypes + section.pages.saturating_sub(1) * pte)
                .set_if("VadsProcess", placed.eprocess);
        }
        for (address, page) in &vad.pages {
            let prototype = section.map(|section| {
                section.prototype((address - vad.start) / PAGE, self.tables.paging.entry_size())
            });
            self.make_page(placed.space, *address, page, prototype, u64::from(vad.protection));
        }
        node
    }

    /// The section behind a file, made on first use; one without a file is a new one each time.
    pub(crate) fn section(&mut self, backing: &Backing, pages: u64) -> Section {
        if let Some(&section) = self.sections.get(backing) {
            return section;
        }
        // Sections of more pages than this get their prototypes in pieces in reality.
        let pages = pages.min(4096);
        let pte = self.tables.paging.entry_size();
        // Files that grew while they were mapped have parts with arrays of their own.
        let later = if matches!(backing, Backing::File(_)) && pages >= 8 { pages / 2 } else { 0 };
        let first = pages - later;
        let (control_size, sub_size) =
            (self.system.layouts.size("_CONTROL_AREA"), self.system.layouts.size("_SUBSECTION"));
        let control_area = self.allocate(Kind::NonPaged, *b"MmCa", control_size + 2 * sub_size);
        let subsection = control_area + control_size;
        let segment_size = self.system.layouts.size("_SEGMENT");
        let segment = self.allocate(Kind::Paged, *b"MmSm", segment_size);
        let prototypes = self.allocate(Kind::Paged, *b"MmSt", first * pte);
        let (later_subsection, later_prototypes) = match later {
            0 => (0, 0),
            later => (subsection + sub_size, self.allocate(Kind::Paged, *b"MmSt", later * pte)),
        };
        let file = match backing {
            Backing::File(name) | Backing::Image(name) => self.mapped_file(name),
            Backing::Private | Backing::Section => 0,
        };
        let image = matches!(backing, Backing::Image(_));
        self.at("_CONTROL_AREA", control_area)
            .set("Segment", segment)
            .set("NumberOfSectionReferences", 1)
            .set("NumberOfMappedViews", 1)
            .set("u.Flags.Image", u64::from(image))
            .set("u.Flags.File", u64::from(file != 0))
            // A fast reference counts in its low bits; XP has a plain pointer.
            .set_if("FilePointer", file);
        if file != 0 && self.system.layouts.has("_CONTROL_AREA", "FilePointer.Object") {
            self.at("_CONTROL_AREA", control_area).set("FilePointer.Object", file | 7);
        }
        self.at("_SUBSECTION", subsection)
            .set("ControlArea", control_area)
            .set("SubsectionBase", prototypes)
            .set("PtesInSubsection", first)
            .set("NextSubsection", later_subsection)
            .set("NumberOfFullSectors", if file == 0 { 0 } else { first * 8 });
        if later > 0 {
            self.at("_SUBSECTION", later_subsection)
                .set("ControlArea", control_area)
                .set("SubsectionBase", later_prototypes)
                .set("PtesInSubsection", later)
                .set("StartingSector", first * 8)
                .set("NumberOfFullSectors", later * 8);
        }
        self.at("_SEGMENT", segment)
            .set("ControlArea", control_area)
            .set("TotalNumberOfPtes", pages)
            .set("SizeOfSegment", pages * PAGE)
            .set("PrototypePte", prototypes);
        let section = Section {
            subsection,
            control_area,
            prototypes,
            pages: first,
            later_subsection,
            later_prototypes,
        };
        if file != 0 {
            let pointers = self.section_pointers(file);
            let path = if image { "ImageSectionObject" } else { "DataSectionObject" };
            self.at("_SECTION_OBJECT_POINTERS", pointers).set(path, control_area);
            // Every page is in its file until told otherwise.
            for page in 0..pages {
                let (part, at) = section.prototype(page, pte);
                let entry = self.subsection_entry(part, if image { 7 } else { 1 });
                self.write_entry(at, entry);
            }
            self.sections.insert(backing.clone(), section);
        }
        section
    }

    /// The file object behind mappings of this name.
    fn mapped_file(&mut self, name: &str) -> u64 {
        if let Some(&file) = self.files.get(name) {
            return file;
        }
        let file = self.file(name, None);
        self.files.insert(name.to_owned(), file);
        file
    }

    fn section_pointers(&mut self, file: u64) -> u64 {
        let at = self.at("_FILE_OBJECT", file).member("SectionObjectPointer");
        let existing = self.read_pointer(SpaceId::SYSTEM, at);
        if existing != 0 {
            return existing;
        }
        let size = self.system.layouts.size("_SECTION_OBJECT_POINTERS");
        let made = self.allocate(Kind::NonPaged, *b"MmSo", size);
        self.at("_FILE_OBJECT", file).set("SectionObjectPointer", made);
        made
    }

    /// An entry that names a subsection: the page is in its file.
    fn subsection_entry(&self, subsection: u64, protection: u64) -> u64 {
        let layouts = &self.system.layouts;
        let common = [("Prototype", 1), ("Protection", protection)];
        let mut members = common.to_vec();
        if layouts.has("_MMPTE_SUBSECTION", "SubsectionAddress") {
            members.push(("SubsectionAddress", subsection));
        } else {
            // 32 bits without PAE: the distance from the start of the non-paged pool in units of 8 bytes, in two parts.
            let distance = subsection - self.system.nonpaged_pool;
            members.push(("SubsectionAddressLow", distance >> 3));
            members.push(("SubsectionAddressHigh", distance >> 7));
            members.push(("WhichPool", 1));
        }
        layouts.compose("_MMPTE_SUBSECTION", &members)
    }

    fn write_entry(&mut self, at: u64, entry: u64) {
        let size = usize::try_from(self.tables.paging.entry_size()).expect("4 or 8");
        self.write(SpaceId::SYSTEM, at, &entry.to_le_bytes()[..size]);
    }

    /// Puts a page where it is said to be.
    pub(crate) fn make_page(
        &mut self,
        space: SpaceId,
        va: u64,
        page: &Page,
        prototype: Option<(u64, u64)>,
        protection: u64,
    ) {
        let layouts = &self.system.layouts;
        let software = |members: &[(&str, u64)]| layouts.compose("_MMPTE_SOFTWARE", members);
        let proto_at = || prototype.expect("shared pages belong to a section").1;
        match page {
            Page::Resident(bytes) => {
                let frame = self.new_frame(bytes);
                self.tables.map(&mut self.physical, space.0, va, frame, USER_PAGE);
            }
            Page::Transition(bytes) => {
                let frame = self.new_frame(bytes);
                let entry = self.transition_entry(frame, protection);
                let pte = self.tables.set_entry(&mut self.physical, space.0, va, entry);
                self.tables.remember(space.0, va, frame);
                self.physical.uses.insert(frame, Use::Standby { pte, va, space: space.0 });
            }
            Page::Shared(bytes) => {
                let frame = self.prototype_frame(proto_at(), bytes);
                self.tables.map(&mut self.physical, space.0, va, frame, 0x25);
            }
            Page::Prototype(bytes) => {
                let entry = self.prototype_entry(proto_at());
                let frame = self.prototype_frame(proto_at(), bytes);
                self.tables.set_entry(&mut self.physical, space.0, va, entry);
                self.tables.remember(space.0, va, frame);
            }
            Page::PrototypeByVad(bytes) => {
                // All ones where the page's place would be: MI_PTE_LOOKUP_NEEDED.
                let entry = software(&[("Prototype", 1), ("PageFileHigh", u64::MAX)]);
                let frame = self.prototype_frame(proto_at(), bytes);
                self.tables.set_entry(&mut self.physical, space.0, va, entry);
                self.tables.remember(space.0, va, frame);
            }
            Page::Mapped => {
                let (subsection, at) = prototype.expect("mapped pages belong to a section");
                let entry = self.subsection_entry(subsection, protection);
                self.write_entry(at, entry);
                let entry = self.prototype_entry(at);
                self.tables.set_entry(&mut self.physical, space.0, va, entry);
            }
            Page::PageFile(number, index) => {
                let entry = software(&[
                    ("PageFileLow", *number),
                    ("PageFileHigh", *index),
                    ("Protection", protection),
                ]);
                self.tables.set_entry(&mut self.physical, space.0, va, entry);
            }
            Page::DemandZero => {
                let entry = software(&[("Protection", protection)]);
                self.tables.set_entry(&mut self.physical, space.0, va, entry);
            }
        }
    }

    fn new_frame(&mut self, bytes: &[u8]) -> u64 {
        let frame = self.physical.allocate();
        self.physical.write(frame * PAGE, &bytes[..bytes.len().min(4096)]);
        frame
    }

    /// The frame behind a prototype entry, made valid on first use.
    fn prototype_frame(&mut self, at: u64, bytes: &[u8]) -> u64 {
        let pte = self.tables.translate(0, at).expect("prototypes are pool memory");
        let size = usize::try_from(self.tables.paging.entry_size()).expect("4 or 8");
        let old = self.physical.word(pte, size);
        if old & 1 == 1 {
            return (old & 0x000F_FFFF_FFFF_F000) / PAGE;
        }
        let frame = self.new_frame(bytes);
        self.write_entry(at, (frame * PAGE) | 0x121);
        self.physical.uses.insert(frame, Use::Prototype { pte, va: at });
        frame
    }

    fn transition_entry(&self, frame: u64, protection: u64) -> u64 {
        let members = [("Transition", 1), ("Protection", protection), ("PageFrameNumber", frame)];
        self.system.layouts.compose("_MMPTE_TRANSITION", &members)
    }

    fn prototype_entry(&self, at: u64) -> u64 {
        let layouts = &self.system.layouts;
        if layouts.has("_MMPTE_PROTOTYPE", "ProtoAddress") {
            layouts.compose("_MMPTE_PROTOTYPE", &[("Prototype", 1), ("ProtoAddress", at)])
        } else {
            // The distance from the start of the paged pool in units of 4 bytes, in two parts.
            let distance = at - self.system.paged_pool;
            let parts =
                [("Prototype", 1), ("ProtoAddressLow", distance >> 2), ("ProtoAddressHigh", distance >> 9)];
            layouts.compose("_MMPTE_PROTOTYPE", &parts)
        }
    }
}
