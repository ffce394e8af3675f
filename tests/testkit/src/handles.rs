//! Handle tables of one to three levels, and the table of all process and thread ids.
//!
//! Level 0 is a page of entries; above, pages of pointers. A handle is four times the index of its entry. Entry 0 is never a
//! handle. Source: Windows Internals, "Handle table"; formats of entries from the profile.

use std::collections::BTreeMap;

use crate::machine::{Machine, SpaceId};
use crate::physical::PAGE;
use crate::pool::Kind;

/// One open handle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Handle {
    /// Value; a multiple of 4; 0: the next free one.
    pub value: u64,
    /// Body of the object it refers to.
    pub object: u64,
    /// Granted access mask.
    pub access: u64,
}

impl Machine {
    /// Makes the handle tables of all processes.
    pub(crate) fn finish_handles(&mut self) {
        let handles = std::mem::take(&mut self.handles);
        for index in 0..self.processes.len() {
            let (eprocess, pid) = (self.processes[index].eprocess, self.processes[index].pid);
            if let Some((handles, more)) = handles.get(&eprocess) {
                self.processes[index].handle_table = self.handle_table(handles, *more, pid, eprocess);
            }
        }
    }

    /// Makes the handle table of a process. Returns the address of its `_HANDLE_TABLE`.
    fn handle_table(&mut self, handles: &[Handle], more: u64, pid: u64, eprocess: u64) -> u64 {
        let mut entries: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut next = 4;
        for handle in handles.iter().filter(|handle| handle.value != 0) {
            entries.insert(handle.value / 4, (handle.object, handle.access));
        }
        let mut free = |entries: &BTreeMap<u64, (u64, u64)>| {
            while entries.contains_key(&(next / 4)) {
                next += 4;
            }
            next / 4
        };
        for handle in handles.iter().filter(|handle| handle.value == 0) {
            entries.insert(free(&entries), (handle.object, handle.access));
        }
        let event = self.shared_event();
        for _ in 0..more {
            // EVENT_ALL_ACCESS
            entries.insert(free(&entries), (event, 0x1F_0003));
        }
        let table = self.make_table(&entries, pid, true);
        self.at("_HANDLE_TABLE", table).set("QuotaProcess", eprocess);
        self.at("_EPROCESS", eprocess).set("ObjectTable", table);
        let head = self.symbol("HandleTableListHead");
        let links = self.at("_HANDLE_TABLE", table).member("HandleTableList");
        self.append(head, links);
        table
    }

    /// Remembers a process or thread for `PspCidTable`.
    pub(crate) fn enter_cid_table(&mut self, id: u64, body: u64) {
        self.cids.insert(id / 4, (body, 0));
    }

    /// Makes `PspCidTable`, whose entries point at bodies instead of headers.
    pub(crate) fn finish_cid_table(&mut self) {
        let entries = std::mem::take(&mut self.cids);
        let table = self.make_table(&entries, 0, false);
        let links = self.at("_HANDLE_TABLE", table).member("HandleTableList");
        self.empty_list(links);
        self.set_variable("PspCidTable", table);
    }

    /// Adds to the counts of an object's header.
    fn count_handle(&mut self, body: u64) {
        let header = body - self.system.layouts.offset("_OBJECT_HEADER", "Body");
        for path in ["HandleCount", "PointerCount"] {
            let at = self.at("_OBJECT_HEADER", header).member(path);
            let count = self.read_pointer(SpaceId::SYSTEM, at);
            self.write_pointer(SpaceId::SYSTEM, at, count + 1);
        }
    }

    /// An event that many handles refer to.
    fn shared_event(&mut self) -> u64 {
        const PATH: &str = "\\KernelObjects\\SharedEvent";
        if let Some(&event) = self.types.paths.get(PATH) {
            return event;
        }
        let size = self.system.layouts.size("_KEVENT");
        self.object("Event", size, &crate::objects::ObjectOptions::named(PATH))
    }

    fn make_table(&mut self, entries: &BTreeMap<u64, (u64, u64)>, pid: u64, headers: bool) -> u64 {
        let size = self.system.layouts.size("_HANDLE_TABLE");
        let table = self.allocate(Kind::Paged, *b"Obtb", size);
        let entry_size = self.system.layouts.size("_HANDLE_TABLE_ENTRY");
        let per_page = PAGE / entry_size;
        let pages = entries.keys().next_back().map_or(0, |last| last / per_page) + 1;
        let mut leaves = Vec::new();
        for page in 0..pages {
            let at = self.allocate(Kind::Paged, *b"Obtb", PAGE);
            leaves.push(at);
            for (&index, &(body, access)) in entries.range(page * per_page..(page + 1) * per_page) {
                let header = body - self.system.layouts.offset("_OBJECT_HEADER", "Body");
                let object = if headers { header } else { body };
                self.handle_entry(at + index % per_page * entry_size, object, access);
                if headers {
                    self.count_handle(body);
                }
            }
        }
        let (code, level) = self.upper_levels(leaves);
        let count = entries.len() as u64;
        self.at("_HANDLE_TABLE", table)
            .set("TableCode", code | level)
            .set("UniqueProcessId", pid)
            .set_if("HandleCount", count)
            .set_if("NextHandleNeedingPool", pages * per_page * 4);
        table
    }

    /// Pages of pointers above the leaves until one page is left. Returns that page and its level.
    fn upper_levels(&mut self, leaves: Vec<u64>) -> (u64, u64) {
        let pointer = self.pointer_size();
        let per_page = usize::try_from(PAGE / pointer).expect("512 or 1024");
        let mut pages = leaves;
        let mut level = 0;
        while pages.len() > 1 {
            level += 1;
            let groups: Vec<Vec<u64>> = pages.chunks(per_page).map(<[u64]>::to_vec).collect();
            pages = groups
                .iter()
                .map(|group| {
                    let at = self.allocate(Kind::Paged, *b"Obtb", PAGE);
                    for (index, &page) in (0u64..).zip(group) {
                        self.write_pointer(SpaceId::SYSTEM, at + index * pointer, page);
                    }
                    at
                })
                .collect();
        }
        (pages[0], level)
    }

    /// Fills one entry, in the format that the profile has.
    fn handle_entry(&mut self, at: u64, object: u64, access: u64) {
        let mut record = self.at("_HANDLE_TABLE_ENTRY", at);
        if record.has("ObjectPointerBits") {
            // The pointer without its low 4 bits, which are zero, and its high 16, which are ones.
            record.set("Unlocked", 1).set("ObjectPointerBits", object >> 4).set("GrantedAccessBits", access);
        } else {
            // The lowest bit is set while the entry is not locked.
            record.set("Object", object | 1).set("GrantedAccess", access);
        }
    }
}
