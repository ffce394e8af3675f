//! Deliberate damage to a finished machine: what rootkits do, and what happens to memory that changes while it is read.

use crate::image::Snapshot;
use crate::machine::SpaceId;
use crate::physical::PAGE;

/// An address that no machine maps.
const NOWHERE_64: u64 = 0xFFFF_9999_9999_9990;
const NOWHERE_32: u64 = 0xF7F7_F7F0;

/// One kind of damage. Process ids must be unique in the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Takes a process out of `PsActiveProcessHead`; its neighbours meet.
    UnlinkProcess(u64),
    /// Lets the forward link of the first process lead to the second: an endless list where the second comes before.
    LoopProcessList(u64, u64),
    /// Lets the forward link of a process lead to unmapped memory. The way back is whole.
    TearProcessList(u64),
    /// Fills the page that holds the start of a process with zeros.
    ZeroProcess(u64),
    /// Sets the level bits of a process's handle table.
    HandleLevel(u64, u64),
    /// Lets the page of a handle table name itself as the level below, under a level of 2.
    HandleCycle(u64),
    /// Lets the left child of a process's top VAD be that VAD.
    VadCycle(u64),
    /// Lets the left child of a process's top VAD be unmapped memory.
    VadTorn(u64),
    /// Writes absurd numbers of threads and handles.
    WrongCounts(u64),
    /// Lets the forward link of the first kernel module lead to itself.
    LoopModules,
    /// Unmaps the page that holds a process's PEB.
    UnmapPeb(u64),
    /// Lets the forward link of a process's list of threads lead to unmapped memory.
    TearThreads(u64),
}

impl Snapshot {
    /// Does damage.
    pub fn damage(&mut self, damage: Damage) {
        let pointer = self.machine.pointer_size();
        let nowhere = if pointer == 8 { NOWHERE_64 } else { NOWHERE_32 };
        match damage {
            Damage::UnlinkProcess(pid) => {
                let links = self.links(pid);
                let (next, previous) = (self.pointer(links), self.pointer(links + pointer));
                self.set_pointer(previous, next);
                self.set_pointer(next + pointer, previous);
            }
            Damage::LoopProcessList(from, to) => {
                let (from, to) = (self.links(from), self.links(to));
                self.set_pointer(from, to);
            }
            Damage::TearProcessList(pid) => {
                let links = self.links(pid);
                self.set_pointer(links, nowhere);
            }
            Damage::ZeroProcess(pid) => {
                let eprocess = self.process(pid).eprocess;
                self.zero_page(SpaceId::SYSTEM, eprocess);
            }
            Damage::HandleLevel(pid, level) => {
                let code = self.table_code(pid);
                let value = self.pointer(code) & !7 | level & 7;
                self.set_pointer(code, value);
            }
            Damage::HandleCycle(pid) => {
                let code = self.table_code(pid);
                let page = self.pointer(code) & !7;
                for index in 0..PAGE / pointer {
                    self.set_pointer(page + index * pointer, page);
                }
                self.set_pointer(code, page | 2);
            }
            Damage::VadCycle(pid) => {
                let (child, root) = self.top_vad(pid);
                self.set_pointer(child, root);
            }
            Damage::VadTorn(pid) => {
                let (child, _) = self.top_vad(pid);
                self.set_pointer(child, nowhere);
            }
            Damage::WrongCounts(pid) => {
                let (eprocess, table) = (self.process(pid).eprocess, self.process(pid).handle_table);
                self.machine.at("_EPROCESS", eprocess).set("ActiveThreads", 0x7FFF_FFFF);
                if table != 0 {
                    self.machine
                        .at("_HANDLE_TABLE", table)
                        .set_if("HandleCount", 0x7FFF_FFFF)
                        .set_if("NextHandleNeedingPool", 0xFFFF_FFFC);
                }
            }
            Damage::LoopModules => {
                let head = self.machine.symbol("PsLoadedModuleList");
                let first = self.pointer(head);
                self.set_pointer(first, first);
            }
            Damage::UnmapPeb(pid) => {
                let (eprocess, space) = (self.process(pid).eprocess, self.process(pid).space);
                let at = self.machine.at("_EPROCESS", eprocess).member("Peb");
                let peb = self.pointer(at);
                self.unmap(space, peb);
            }
            Damage::TearThreads(pid) => {
                let eprocess = self.process(pid).eprocess;
                let head = self.machine.at("_EPROCESS", eprocess).member("ThreadListHead");
                let first = self.pointer(head);
                self.set_pointer(first, nowhere);
            }
        }
    }

    /// Fills the page at an address with zeros.
    pub fn zero_page(&mut self, space: SpaceId, address: u64) {
        let page = self.machine.tables.translate(space.0, address / PAGE * PAGE).expect("a mapped page");
        self.machine.physical.zero(page / PAGE);
    }

    /// Clears the page table entry of a page.
    pub fn unmap(&mut self, space: SpaceId, address: u64) {
        let space = if self.machine.tables.paging.is_kernel(address) { 0 } else { space.0 };
        self.machine.tables.set_entry(&mut self.machine.physical, space, address, 0);
    }

    /// A pointer in the kernel.
    fn pointer(&self, address: u64) -> u64 {
        self.machine.read_pointer(SpaceId::SYSTEM, address)
    }

    fn set_pointer(&mut self, address: u64, value: u64) {
        self.machine.write_pointer(SpaceId::SYSTEM, address, value);
    }

    fn links(&mut self, pid: u64) -> u64 {
        let eprocess = self.process(pid).eprocess;
        self.machine.at("_EPROCESS", eprocess).member("ActiveProcessLinks")
    }

    fn table_code(&mut self, pid: u64) -> u64 {
        let table = self.process(pid).handle_table;
        self.machine.at("_HANDLE_TABLE", table).member("TableCode")
    }

    /// Where the left child of the top VAD stands, and that VAD.
    fn top_vad(&mut self, pid: u64) -> (u64, u64) {
        let eprocess = self.process(pid).eprocess;
        let at = self
            .machine
            .at("_EPROCESS", eprocess)
            .member("VadRoot.BalancedRoot.RightChild|VadRoot.Root|VadRoot");
        let root = self.pointer(at);
        (self.machine.at("_MMVAD_SHORT", root).member("VadNode.Left|LeftChild"), root)
    }
}
