//! A finished machine: physical memory and what was placed where.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::{Machine, SpaceId};
use crate::objects::Types;
use crate::paging::Tables;
use crate::physical::{PAGE, Physical};
use crate::pool::{Kind, Pools};
use crate::processes::Placed;
use crate::system::System;

/// A finished machine. Nothing moves any more; damage may still be done to its memory.
pub struct Snapshot {
    /// The machine as it was described.
    pub machine: Machine,
    /// Ranges of physical memory that exist: first byte and bytes.
    pub runs: Vec<(u64, u64)>,
}

impl Machine {
    /// A machine with its kernel, and no process yet.
    pub fn new(system: System) -> Self {
        let mut tables = Tables::new(system.paging, system.self_map);
        let mut physical = Physical::default();
        tables.add_space(&mut physical, system.dtb);
        let stacks = system.drivers + (64 << 20);
        let pools = Pools::new(system.nonpaged_pool, system.paged_pool);
        let mut machine = Self {
            system,
            physical,
            tables,
            pools,
            types: Types::default(),
            processes: Vec::new(),
            lists: BTreeMap::new(),
            shared_nodes: BTreeSet::new(),
            sections: BTreeMap::new(),
            files: BTreeMap::new(),
            // 2012-02-22 11:31:30 UTC
            now: crate::processes::filetime(1_329_910_290),
            next_id: 0x2000,
            next_stack: stacks,
            handles: BTreeMap::new(),
            page_files: BTreeMap::new(),
            store_file: None,
            cids: BTreeMap::new(),
            sessions: BTreeMap::new(),
            kernel_size: 0,
            prcb: 0,
        };
        machine.make_kernel_image();
        for head in ["PsActiveProcessHead", "PsLoadedModuleList", "HandleTableListHead"] {
            let head = machine.symbol(head);
            machine.empty_list(head);
        }
        machine.make_shared_data();
        machine.make_debugger_data();
        machine.make_low_stub();
        machine.make_types();
        machine.make_processor();
        machine.make_hook_lists();
        machine
    }

    /// Writes what can only be known at the end: list links, pool headers, page tables and the page frame database.
    pub fn finish(mut self) -> Snapshot {
        self.make_page_files();
        self.finish_handles();
        self.finish_cid_table();
        self.finish_processor();
        self.make_pool_descriptors();
        self.make_pool_tracker();
        for (head, entries) in std::mem::take(&mut self.lists) {
            let places: Vec<u64> = std::iter::once(head).chain(entries).collect();
            self.link(SpaceId::SYSTEM, &places);
        }
        let memory = self.allocate(Kind::NonPaged, *b"MmPb", 0x40);
        let visible = self.make_visible_state();
        self.make_pfn_database();
        self.finish_pools();
        self.tables.finish(&mut self.physical);
        self.fill_pfn_database();
        // A PC: the first page, the hole below 1 MiB, and the rest.
        let end = self.memory_end();
        let runs = vec![(0x1000, 0x9E000), (0x10_0000, end - 0x10_0000)];
        self.tell_memory(memory, &runs);
        self.tell_regions(visible);
        Snapshot { machine: self, runs }
    }
}

impl Machine {
    /// One past the last byte that the machine will have: whole 16 MiB.
    pub(crate) fn memory_end(&self) -> u64 {
        (self.physical.end() * PAGE).next_multiple_of(16 << 20)
    }

    /// Room for the table of regions of Windows 10; 0 for systems without it.
    fn make_visible_state(&mut self) -> u64 {
        let size = self.system.layouts.size_if("_MI_VISIBLE_STATE");
        let (Some(size), Some(variable)) = (size, self.symbol_if("MiVisibleState")) else { return 0 };
        let state = self.allocate(Kind::NonPaged, *b"MmVs", size);
        self.write_pointer(SpaceId::SYSTEM, variable, state);
        state
    }

    /// Start and length of the ranges of the kernel, by the name of the region.
    pub fn regions(&self) -> [(&'static str, u64, u64); 2] {
        let (nonpaged, paged) = (self.system.nonpaged_pool, self.system.paged_pool);
        [
            ("NonPagedPool", nonpaged, self.pools.end(Kind::NonPaged) - nonpaged),
            ("PagedPool", paged, self.pools.end(Kind::Paged) - paged),
        ]
    }

    fn tell_regions(&mut self, state: u64) {
        if state == 0 {
            return;
        }
        let size = self.system.layouts.size("_MI_SYSTEM_VA_ASSIGNMENT");
        let table = self.at("_MI_VISIBLE_STATE", state).member("SystemVaRegions");
        for (name, start, len) in self.regions() {
            let enumeration = self.system.layouts.profile().enum_def("_MI_ASSIGNED_REGION_TYPES");
            let enumeration = enumeration.expect("a readable profile").expect("names of regions");
            let wanted = format!("AssignedRegion{name}");
            let index = enumeration.names.iter().find(|(_, name)| **name == wanted).expect("a region").0;
            let at = table + u64::try_from(*index).expect("an index") * size;
            self.at("_MI_SYSTEM_VA_ASSIGNMENT", at).set("BaseAddress", start).set("NumberOfBytes", len);
        }
    }

    /// Writes the variables that tell how much memory there is and where the ranges of virtual memory are.
    fn tell_memory(&mut self, block: u64, runs: &[(u64, u64)]) {
        let pages: u64 = runs.iter().map(|&(_, len)| len / PAGE).sum();
        let last = runs.last().map_or(0, |&(start, len)| (start + len) / PAGE - 1);
        let pointer = self.pointer_size();
        self.at("_PHYSICAL_MEMORY_DESCRIPTOR", block)
            .set("NumberOfRuns", runs.len() as u64)
            .set("NumberOfPages", pages);
        let first = self.at("_PHYSICAL_MEMORY_DESCRIPTOR", block).member("Run");
        for (index, &(start, len)) in (0u64..).zip(runs) {
            self.write_pointer(SpaceId::SYSTEM, first + index * 2 * pointer, start / PAGE);
            self.write_pointer(SpaceId::SYSTEM, first + index * 2 * pointer + pointer, len / PAGE);
        }
        let (nonpaged, paged) = (self.system.nonpaged_pool, self.system.paged_pool);
        let (nonpaged_end, paged_end) = (self.pools.end(Kind::NonPaged), self.pools.end(Kind::Paged));
        let (range, highest) = match self.system.version {
            _ if !self.system.is_64() => (0x8000_0000, 0x7FFE_FFFF),
            (10, ..) => (0xFFFF_8000_0000_0000, 0x7FFF_FFFE_FFFF),
            _ => (0xFFFF_0800_0000_0000, 0x7FF_FFFE_FFFF),
        };
        for (name, value) in [
            ("MmPhysicalMemoryBlock", block),
            ("MmNumberOfPhysicalPages", pages),
            ("MmHighestPhysicalPage", last),
            ("MmLowestPhysicalPage", 1),
            ("MmSystemRangeStart", range),
            ("MmHighestUserAddress", highest),
            ("MmUserProbeAddress", highest - 0xFFFF),
            ("MmNonPagedPoolStart", nonpaged),
            ("MiNonPagedPoolStartAligned", nonpaged),
            ("MmNonPagedPoolEnd", nonpaged_end),
            ("MiNonPagedPoolEnd", nonpaged_end),
            ("MmPagedPoolStart", paged),
            ("MmSubsectionBase", nonpaged),
            ("MmPagedPoolEnd", paged_end),
        ] {
            self.set_variable(name, value);
        }
        let shared = self.system.shared_data();
        self.at("_KUSER_SHARED_DATA", shared).set("NumberOfPhysicalPages", pages);
    }
}

impl Snapshot {
    /// One past the last byte of physical memory.
    pub fn end(&self) -> u64 {
        self.runs.last().map_or(0, |&(start, len)| start + len)
    }

    /// Physical address of the system's top page table.
    pub fn dtb(&self) -> u64 {
        self.machine.dtb(SpaceId::SYSTEM)
    }

    /// Physical address of what a process sees at a virtual one; a page in transition has one too.
    pub fn physical_of(&self, space: SpaceId, address: u64) -> Option<u64> {
        self.machine.tables.translate(space.0, address)
    }

    /// A process by its id.
    pub fn process(&self, pid: u64) -> &Placed {
        self.machine
            .processes
            .iter()
            .find(|process| process.pid == pid)
            .unwrap_or_else(|| panic!("no process {pid}"))
    }

    /// All processes in the order they were made.
    pub fn processes(&self) -> &[Placed] {
        &self.machine.processes
    }
}
