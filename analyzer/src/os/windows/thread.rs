//! Threads: `_ETHREAD`.

use object::walk;
use object::{Absent, Addr, Ptr, Read, Target, Uint, layout};

use super::process::{MAX_PID, Process};
use super::time::file_time;
use crate::notes::Notes;
use crate::table::{ObjRef, Time};

layout! {
    /// `_ETHREAD`: one thread.
    pub struct Thread / ThreadLayout = "_ETHREAD" {
        /// Id of its process.
        process_id: Ptr = "Cid.UniqueProcess",
        /// Its own id.
        thread_id: Ptr = "Cid.UniqueThread",
        /// Where it started: for threads of programs in the library that calls the program.
        start_address: Ptr = "StartAddress",
        /// Where the program asked it to start.
        win32_start_address: Ptr = "Win32StartAddress",
        /// Link of the list of its process.
        list_entry: Addr = "ThreadListEntry",
        /// Creation time as stored.
        create_time_raw: u64 = "CreateTime",
        /// Time of exit as stored.
        exit_time_raw: u64 = "ExitTime",
        /// `DISPATCHER_HEADER.Type`: 6 for threads (`KOBJECTS.ThreadObject`).
        dispatcher_type: u8 = "Tcb.Header.Type",
        /// Its process.
        owner: Ptr = "ThreadsProcess | Tcb.Process",
        /// Its process's memory it works in.
        apc_process: Ptr = "Tcb.ApcState.Process",
        /// Thread environment block, in user memory.
        teb: Ptr = "Tcb.Teb",
        /// Running state (`_KTHREAD_STATE`).
        state: u8 = "Tcb.State",
        /// Flags that other threads may set: 1 terminated, 0x10 a thread of the kernel.
        flags: Uint = "CrossThreadFlags",
        /// The table it calls the kernel through, from Windows 8 on of the kernel for all.
        service_table: Ptr = "Tcb.ServiceTable",
    }
}

impl Thread<'_> {
    /// Id of its process.
    pub fn pid(&self) -> Read<u64> {
        self.process_id().map(|Ptr(pid)| pid)
    }

    /// Its own id.
    pub fn tid(&self) -> Read<u64> {
        self.thread_id().map(|Ptr(tid)| tid)
    }

    /// Where it started.
    pub fn start(&self) -> Read<u64> {
        self.start_address().map(|Ptr(start)| start)
    }

    /// Where the program asked it to start.
    pub fn win32_start(&self) -> Read<u64> {
        self.win32_start_address().map(|Ptr(start)| start)
    }

    /// Address of its process.
    pub fn process(&self) -> Read<u64> {
        self.owner()?.non_null("no process")
    }

    /// When it was created. XP keeps the time shifted left by three bits, with flags below.
    pub fn create_time(&self) -> Read<Time> {
        let time = self.create_time_raw()?;
        let types = self.target().types();
        let shifted = types.has_field(Self::STRUCT, "NestedFaultCount");
        file_time(if shifted { time >> 3 } else { time })
    }

    /// When it ended; not applicable while it runs.
    pub fn exit_time(&self) -> Read<Time> {
        // The field is shared with a list of locks while the thread lives: what is no time of this age is a pointer.
        match self.exit_time_raw()? {
            time if time >> 60 == 0 => file_time(time),
            _ => Err(Absent::NotApplicable("not set")),
        }
    }

    /// The cell that stands for it.
    #[must_use]
    pub fn obj_ref(&self) -> ObjRef {
        use crate::table::Cell as _;
        ObjRef { type_name: Self::STRUCT, addr: self.addr(), tags: vec![("tid", self.tid().into_value())] }
    }

    /// Whether the bytes make a thread at all.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        let id = |id: Read<u64>| id.is_ok_and(|id| id <= MAX_PID);
        self.dispatcher_type().is_ok_and(|kind| kind & 0x7f == 6) && id(self.pid()) && id(self.tid())
    }
}

/// The threads on the list of a process, in its order.
pub fn threads<'k>(notes: &Notes, process: &Process<'k>) -> Read<Vec<Thread<'k>>> {
    let target: &'k Target = process.target();
    let Addr(head) = process.thread_list()?;
    let links = target.offset_of(Thread::STRUCT, "ThreadListEntry")?;
    // Processes that ended may have no list any more.
    if target.read_ptr(head)? == 0 {
        return Err(Absent::NotApplicable("no threads"));
    }
    let walked = walk::list(target, head);
    notes.walk(&format!("ThreadListHead of {}", process.describe()), &walked.end);
    Ok(walked.containers(links).map(|addr| Thread::at(target, addr)).collect())
}
