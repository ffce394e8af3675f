//! A finished machine: physical memory and what was placed where.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::{Machine, SpaceId};
use crate::objects::Types;
use crate::paging::Tables;
use crate::physical::{PAGE, Physical};
use crate::pool::Pools;
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
        machine
    }

    /// Writes what can only be known at the end: list links, pool headers, page tables and the page frame database.
    pub fn finish(mut self) -> Snapshot {
        self.finish_cid_table();
        self.finish_processor();
        self.make_pool_tracker();
        for (head, entries) in std::mem::take(&mut self.lists) {
            let places: Vec<u64> = std::iter::once(head).chain(entries).collect();
            self.link(SpaceId::SYSTEM, &places);
        }
        self.make_pfn_database();
        self.finish_pools();
        self.tables.finish(&mut self.physical);
        self.fill_pfn_database();
        // A PC: the first page, the hole below 1 MiB, and whole 16 MiB.
        let end = (self.physical.end() * PAGE).next_multiple_of(16 << 20);
        let runs = vec![(0x1000, 0x9E000), (0x10_0000, end - 0x10_0000)];
        Snapshot { machine: self, runs }
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
