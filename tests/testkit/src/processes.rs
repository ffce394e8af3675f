//! Processes with their threads, lists, sessions and user-mode blocks.

use crate::handles::Handle;
use crate::machine::{Machine, SpaceId};
use crate::modules::Module;
use crate::objects::{ObjectOptions, info};
use crate::physical::PAGE;
use crate::pool::Kind;
use crate::system::System;
use crate::token::Token;
use crate::vads::Vad;

/// 100 ns ticks since 1601 of a time in seconds since 1970; 0 stays 0, "never".
pub fn filetime(unix_seconds: u64) -> u64 {
    if unix_seconds == 0 { 0 } else { (unix_seconds + 11_644_473_600) * 10_000_000 }
}

/// One thread.
#[derive(Debug, Clone, Default)]
pub struct Thread {
    /// Thread id; 0: any.
    pub tid: u64,
    /// Very address of its `_ETHREAD`.
    pub at: Option<u64>,
    /// Creation time, 100 ns since 1601; 0: that of its process.
    pub created: u64,
    /// Exit time; 0: it lives.
    pub exited: u64,
    /// Address of its first instruction.
    pub start: u64,
    /// Address its creator asked for.
    pub win32_start: u64,
    /// `_KTHREAD.State`, such as 5 for waiting.
    pub state: u8,
    /// `_KTHREAD.WaitReason`.
    pub wait_reason: u8,
}

/// One process. Everything has a default; times are 100 ns ticks since 1601.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Process id.
    pub pid: u64,
    /// Process id of its creator.
    pub ppid: u64,
    /// Text in `_EPROCESS.ImageFileName`, at most 15 bytes.
    pub name: String,
    /// Creation time.
    pub created: u64,
    /// Exit time; 0: it lives.
    pub exited: u64,
    /// Session it belongs to; System and smss.exe have none.
    pub session: Option<u32>,
    /// A 32-bit process on a 64-bit system.
    pub wow64: bool,
    /// Its threads.
    pub threads: Vec<Thread>,
    /// Its open handles.
    pub handles: Vec<Handle>,
    /// Number of further handles, to an event that all share.
    pub more_handles: u64,
    /// A process that has exited keeps neither handle table nor VADs nor PEB.
    pub torn_down: bool,
    /// NT path in `SeAuditProcessCreationInfo`; absent: a null pointer.
    pub image_file: Option<String>,
    /// Process parameters: image path, command line, current directory. Absent: unreadable.
    pub parameters: Option<Parameters>,
    /// Address of the PEB, whether or not it can be read; 0: none.
    pub peb: u64,
    /// Address of the 32-bit PEB of a WoW64 process.
    pub peb32: u64,
    /// First of the user addresses that parameters and loader data take.
    pub heap: u64,
    /// Address where its program is mapped.
    pub section_base: u64,
    /// Modules in load order.
    pub modules: Vec<Module>,
    /// Memory areas.
    pub vads: Vec<Vad>,
    /// What it may do; absent: no token.
    pub token: Option<Token>,
    /// Very address of its `_EPROCESS`.
    pub at: Option<u64>,
    /// Left out of `PsActiveProcessHead`: a hidden process.
    pub unlinked: bool,
}

/// Process parameters in user space.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    /// Path of the program.
    pub image_path: String,
    /// Command line.
    pub command_line: String,
    /// Current directory.
    pub current_directory: String,
    /// Environment: `NAME=value`.
    pub environment: Vec<String>,
    /// The page that holds all this is in the page file.
    pub paged_out: bool,
}

impl Process {
    /// A process with one thread.
    pub fn new(pid: u64, ppid: u64, name: &str) -> Self {
        Self {
            pid,
            ppid,
            name: name.to_owned(),
            threads: vec![Thread::default()],
            peb: 0x7FFD_F000,
            peb32: 0x7EFD_E000,
            heap: 0x0020_0000,
            ..Self::default()
        }
    }
}

/// A process in memory.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Process id.
    pub pid: u64,
    /// Address of the `_EPROCESS`.
    pub eprocess: u64,
    /// Its address space.
    pub space: SpaceId,
    /// Addresses of its `_ETHREAD`s.
    pub threads: Vec<u64>,
    /// Address of its handle table; 0: none.
    pub handle_table: u64,
    /// Addresses of its VAD nodes, in the order of the description.
    pub vads: Vec<u64>,
}

impl Machine {
    /// Physical address of a space's top page table.
    pub fn dtb(&self, space: SpaceId) -> u64 {
        self.tables.spaces[space.0].root
    }

    /// A process that was made.
    pub fn placed(&self, pid: u64) -> Option<&Placed> {
        self.processes.iter().find(|process| process.pid == pid)
    }

    /// Opens a handle in a process, the first of this id.
    pub fn open(&mut self, pid: u64, handle: Handle) {
        let eprocess = self.placed(pid).unwrap_or_else(|| panic!("no process {pid}")).eprocess;
        self.handles.get_mut(&eprocess).expect("a process with handles").0.push(handle);
    }

    /// Makes a process. The first must be System, pid 4, which has the system's address space.
    pub fn process(&mut self, process: &Process) -> Placed {
        // The idle process shares the system's address space.
        let space = if self.processes.is_empty() || process.pid == 0 {
            SpaceId::SYSTEM
        } else {
            SpaceId(self.tables.add_space(&mut self.physical, None))
        };
        let size = self.system.layouts.size("_EPROCESS");
        // Nobody is charged for the processes that the kernel itself makes.
        let info = if process.pid <= 4 { 0 } else { info::QUOTA };
        let options = ObjectOptions { at: process.at, info, ..ObjectOptions::default() };
        let eprocess = self.object("Process", size, &options);
        let mut placed = Placed {
            pid: process.pid,
            eprocess,
            space,
            threads: Vec::new(),
            handle_table: 0,
            vads: Vec::new(),
        };
        self.fill_process(process, &placed);
        self.share_user_page(space);
        if let Some(session) = process.session {
            self.join_session(session, eprocess);
        }
        if let Some(token) = &process.token {
            self.make_token(token, eprocess, process.session.unwrap_or(0));
        }
        placed.threads = process.threads.iter().map(|thread| self.thread(process, &placed, thread)).collect();
        if !process.torn_down {
            self.handles.insert(placed.eprocess, (process.handles.clone(), process.more_handles));
            self.user_blocks(process, &placed);
        }
        placed.vads = self.make_vads(process, &placed);
        self.enter_lists(process, &placed);
        self.processes.push(placed.clone());
        placed
    }

    fn fill_process(&mut self, process: &Process, placed: &Placed) {
        let dtb = self.dtb(placed.space);
        let live = process.threads.iter().filter(|thread| thread.exited == 0).count() as u64;
        let header = self.system.layouts.size("_KPROCESS") / 4;
        let mut name = process.name.clone().into_bytes();
        name.truncate(15);
        let mut record = self.at("_EPROCESS", placed.eprocess);
        // Dispatcher type 3 is a process; it is signalled once it has exited.
        record
            .set("Pcb.Header.Type", 3)
            .set("Pcb.Header.Size", header & 0xFF)
            .set("Pcb.Header.SignalState", u64::from(process.exited != 0))
            .set("Pcb.DirectoryTableBase", dtb)
            .set("Pcb.BasePriority", 8)
            .set("UniqueProcessId", process.pid)
            .set("InheritedFromUniqueProcessId", process.ppid)
            .set("CreateTime", process.created)
            .set("ExitTime", process.exited)
            .set("ActiveThreads", live)
            .set("Peb", process.peb)
            .set("SectionBaseAddress", process.section_base)
            // STATUS_PENDING until it has exited.
            .set("ExitStatus", if process.exited == 0 { 0x103 } else { 0 })
            .bytes("ImageFileName", &name);
        record.set_if("Flags", if process.exited == 0 { 0x144_D0801 } else { 0x144_D080D });
        let kernel_threads = record.member("Pcb.ThreadListHead");
        let threads = record.member("ThreadListHead");
        let wait = record.member("Pcb.Header.WaitListHead");
        self.empty_list(kernel_threads);
        self.empty_list(threads);
        self.empty_list(wait);
        if let Some(path) = &process.image_file {
            let pointer = self.pointer_size();
            // The text follows its _OBJECT_NAME_INFORMATION, which is one _UNICODE_STRING.
            let at = self.allocate(Kind::NonPaged, *b"SeOn", 2 * pointer + 2 * path.len() as u64 + 2);
            self.write_utf16(SpaceId::SYSTEM, at + 2 * pointer, path);
            let bytes = 2 * path.encode_utf16().count() as u64;
            let buffer = if bytes == 0 { 0 } else { at + 2 * pointer };
            self.unicode_string_at(SpaceId::SYSTEM, at, bytes, buffer);
            self.at("_EPROCESS", placed.eprocess).set("SeAuditProcessCreationInfo.ImageFileName", at);
        }
    }

    fn enter_lists(&mut self, process: &Process, placed: &Placed) {
        let eprocess = placed.eprocess;
        let links = self.at("_EPROCESS", eprocess).member("ActiveProcessLinks");
        if !process.unlinked && process.pid != 0 {
            let head = self.symbol("PsActiveProcessHead");
            self.append(head, links);
        } else {
            self.empty_list(links);
        }
        for (symbol, path) in
            [("KiProcessListHead", "Pcb.ProcessListEntry"), ("MmProcessList", "MmProcessLinks")]
        {
            if let (Some(head), true) = (self.symbol_if(symbol), self.system.layouts.has("_EPROCESS", path)) {
                let links = self.at("_EPROCESS", eprocess).member(path);
                self.append(head, links);
            }
        }
        match process.pid {
            0 => self.set_variable("PsIdleProcess", eprocess),
            4 => self.set_variable("PsInitialSystemProcess", eprocess),
            _ => {}
        }
        if process.pid != 0 {
            self.enter_cid_table(process.pid, eprocess);
        }
    }

    /// KUSER_SHARED_DATA is the same page in every process.
    fn share_user_page(&mut self, space: SpaceId) {
        let frame = self.tables.translate(0, self.system.shared_data()).expect("made first") / PAGE;
        // Present, user, accessed: read only.
        self.tables.map(&mut self.physical, space.0, System::USER_SHARED_DATA, frame, 0x25);
    }

    fn thread(&mut self, process: &Process, placed: &Placed, thread: &Thread) -> u64 {
        let size = self.system.layouts.size("_ETHREAD");
        let options = ObjectOptions { at: thread.at, info: info::QUOTA, ..ObjectOptions::default() };
        let body = self.object("Thread", size, &options);
        let tid = if thread.tid == 0 { self.fresh_id() } else { thread.tid };
        let created = if thread.created == 0 { process.created } else { thread.created };
        // XP keeps flags in the low three bits of the time.
        let shift = if self.system.version < (6, 0, 0) { 3 } else { 0 };
        let dispatcher = (self.system.layouts.size("_KTHREAD") / 4) & 0xFF;
        let terminated = thread.exited != 0;
        // Stacks are not in memory: their addresses are told, their pages are not mapped.
        self.next_stack += 0x7000;
        let stack = self.next_stack;
        let mut record = self.at("_ETHREAD", body);
        // Dispatcher type 6 is a thread.
        record
            .set("Tcb.Header.Type", 6)
            .set("Tcb.Header.Size", dispatcher)
            .set("Tcb.Header.SignalState", u64::from(terminated))
            .set("Tcb.State", if terminated { 4 } else { u64::from(thread.state.max(5)) })
            .set("Tcb.WaitReason", u64::from(thread.wait_reason))
            .set("Tcb.Priority", 8)
            .set("Tcb.BasePriority", 8)
            .set("Tcb.InitialStack", stack)
            .set("Tcb.StackLimit", stack - 0x6000)
            .set("Tcb.KernelStack", stack - 0x200)
            .set_if("Tcb.StackBase", stack)
            .set_if("Tcb.Process", placed.eprocess)
            .set_if("Tcb.ApcState.Process", placed.eprocess)
            .set_if("ThreadsProcess", placed.eprocess)
            .set("Cid.UniqueProcess", process.pid)
            .set("Cid.UniqueThread", tid)
            .set("CreateTime", created << shift)
            .set("StartAddress", thread.start)
            .set("Win32StartAddress", thread.win32_start)
            .set_if("Terminated", u64::from(terminated));
        if terminated {
            record.set("ExitTime", thread.exited);
        }
        let wait = record.member("Tcb.Header.WaitListHead");
        self.empty_list(wait);
        for (record_name, path, head) in [
            ("_ETHREAD", "ThreadListEntry", "ThreadListHead"),
            ("_ETHREAD", "Tcb.ThreadListEntry", "Pcb.ThreadListHead"),
        ] {
            let entry = self.at(record_name, body).member(path);
            let head = self.at("_EPROCESS", placed.eprocess).member(head);
            if terminated { self.empty_list(entry) } else { self.append(head, entry) }
        }
        self.enter_cid_table(tid, body);
        body
    }

    /// Puts a process into its session, made on first use.
    fn join_session(&mut self, session: u32, eprocess: u64) {
        let record = "_MM_SESSION_SPACE";
        let at = match self.sessions.get(&session) {
            Some(&at) => at,
            None => {
                let size = self.system.layouts.size(record);
                let at = self.allocate(Kind::NonPaged, *b"MmSs", size.max(PAGE));
                self.sessions.insert(session, at);
                let paged = self.pools.end(Kind::Paged);
                self.at(record, at)
                    .set("SessionId", u64::from(session))
                    .set_if("PagedPoolStart", paged)
                    .set_if("PagedPoolEnd", paged + 0x20_0000);
                let list = self.at(record, at).member("ProcessList");
                self.empty_list(list);
                if let Some(path) =
                    ["ImageList"].into_iter().find(|path| self.system.layouts.has(record, path))
                {
                    let images = self.at(record, at).member(path);
                    self.empty_list(images);
                }
                at
            }
        };
        let counter = self.at(record, at).member("ReferenceCount");
        let count = self.read(SpaceId::SYSTEM, counter, 4);
        let count = u32::from_le_bytes(count.try_into().expect("four bytes")) + 1;
        self.write(SpaceId::SYSTEM, counter, &count.to_le_bytes());
        let head = self.at(record, at).member("ProcessList");
        let entry = self.at("_EPROCESS", eprocess).set("Session", at).member("SessionProcessLinks");
        self.at("_EPROCESS", eprocess).set_if("ProcessInSession", 1);
        self.append(head, entry);
    }
}
