//! Processes: `_EPROCESS` and its neighbours.

use std::collections::BTreeMap;
use std::sync::Arc;

use memory::{AddressSpace, VirtualSpace};
use object::{Absent, Addr, Ptr, Read, Target, Text, Uint, layout};

use super::handle;
use super::paged::PagedSpace;
use super::ranges::Ranges;
use super::time::file_time;
use super::views::Method;
use super::{Kernel, unicode};
use crate::error::Error;
use crate::notes::Notes;
use crate::session::Session;
use crate::table::{ObjRef, Time, text_of};

/// Largest process id that is believed: ids are indexes of a handle table, and grow slowly.
pub(super) const MAX_PID: u64 = 1 << 26;

layout! {
    /// `_EPROCESS`: one process.
    pub struct Process / ProcessLayout = "_EPROCESS" {
        /// Process id.
        unique_process_id: Ptr = "UniqueProcessId",
        /// Id of the process that created it, which may be gone and its id used again.
        inherited_from: Ptr = "InheritedFromUniqueProcessId",
        /// First 14 or 15 bytes of the executable's name.
        image_file_name: Text = "ImageFileName",
        /// Creation time, as a `FILETIME`.
        create_time_raw: Uint = "CreateTime",
        /// Time of exit, as a `FILETIME`; 0 while it runs.
        exit_time_raw: Uint = "ExitTime",
        /// Threads that have not ended.
        active_threads: Uint = "ActiveThreads",
        /// Its handle table; null after it ended.
        object_table: Ptr = "ObjectTable",
        /// Its session; null for processes of none (System, smss).
        session: Ptr = "Session",
        /// Not null for 32-bit processes on 64-bit kernels.
        wow64: Ptr = "Wow64Process",
        /// Process environment block, in user memory.
        peb: Ptr = "Peb",
        /// Where its executable is mapped.
        section_base: Ptr = "SectionBaseAddress",
        /// Root of its page tables. A PAE kernel of XP keeps two words here, of which the first counts.
        dtb_place: Addr = "Pcb.DirectoryTableBase",
        /// `DISPATCHER_HEADER.Type`: 3 for processes (`KOBJECTS.ProcessObject`).
        dispatcher_type: u8 = "Pcb.Header.Type",
        /// Link of the list `PsActiveProcessHead`.
        links: Addr = "ActiveProcessLinks",
        /// Link of the list of its session.
        session_links: Addr = "SessionProcessLinks",
        /// Head of the list of its threads (`_ETHREAD.ThreadListEntry`).
        thread_list: Addr = "ThreadListHead",
        /// The tree of its VADs.
        vad_root: Addr = "VadRoot",
        /// Access token, a fast reference.
        token: Uint = "Token",
        /// Full path of the executable, as the kernel recorded it for auditing (from XP on).
        audit_name: Ptr = "SeAuditProcessCreationInfo.ImageFileName",
    }

    struct SessionSpace / SessionSpaceLayout = "_MM_SESSION_SPACE" {
        session_id: u32 = "SessionId",
    }

    /// `_PEB`: process environment block, in user memory.
    pub struct Peb / PebLayout = "_PEB" {
        /// Lists of loaded modules.
        ldr: Ptr = "Ldr",
        /// Where the executable is mapped.
        image_base: Ptr = "ImageBaseAddress",
        /// Command line, environment, current directory.
        parameters: Ptr = "ProcessParameters",
    }
}

impl<'k> Process<'k> {
    /// Process id.
    pub fn pid(&self) -> Read<u64> {
        self.unique_process_id().map(|Ptr(pid)| pid)
    }

    /// Id of the process that created it.
    pub fn ppid(&self) -> Read<u64> {
        self.inherited_from().map(|Ptr(pid)| pid)
    }

    /// Name of the executable, cut off after 14 or 15 bytes.
    pub fn name(&self) -> Read<String> {
        self.image_file_name().map(|Text(bytes)| text_of(&bytes))
    }

    /// The cell that stands for the process: type, address, name and pid.
    #[must_use]
    pub fn obj_ref(&self) -> ObjRef {
        use crate::table::Cell as _;
        ObjRef {
            type_name: Self::STRUCT,
            addr: self.addr(),
            tags: vec![("name", self.name().into_value()), ("pid", self.pid().into_value())],
        }
    }

    /// What identifies it in messages: `1234 (smss.exe)`.
    #[must_use]
    pub fn describe(&self) -> String {
        let pid = self.pid().map_or_else(|_| "?".to_owned(), |pid| pid.to_string());
        match self.name() {
            Ok(name) => format!("{pid} ({name})"),
            Err(_) => format!("{pid} at {:#x}", self.addr()),
        }
    }

    /// When it was created.
    pub fn create_time(&self) -> Read<Time> {
        self.create_time_raw().and_then(|Uint(time)| file_time(time))
    }

    /// When it ended; not applicable while it runs.
    pub fn exit_time(&self) -> Read<Time> {
        self.exit_time_raw().and_then(|Uint(time)| file_time(time))
    }

    /// Threads that have not ended.
    pub fn thread_count(&self) -> Read<u64> {
        self.active_threads().map(|Uint(count)| count)
    }

    /// Open handles; where the kernel does not count them (from Windows 8.1 on) they are counted here.
    pub fn handle_count(&self) -> Read<u64> {
        let table = self.object_table()?.non_null("no handle table")?;
        handle::count(self.target(), table)
    }

    /// Number of its session; not applicable for processes of none.
    pub fn session_id(&self, kernel: &Kernel) -> Read<u64> {
        let session = self.session()?.non_null("no session")?;
        let id = |target: &Target| SessionSpace::at(target, session).session_id().map(u64::from);
        // Session space is mapped in the processes of the session only, unless it is at a global address.
        id(self.target()).or_else(|_| id(&self.user_target(kernel)?))
    }

    /// Whether it is a 32-bit process on a 64-bit kernel.
    pub fn is_wow64(&self) -> Read<bool> {
        if self.target().types().model().pointer_size() == 4 {
            return Ok(false);
        }
        self.wow64().map(|Ptr(wow64)| wow64 != 0)
    }

    /// Physical address of its page table root, with the low bits cleared that are none of it.
    pub fn dtb(&self) -> Read<u64> {
        let Addr(place) = self.dtb_place()?;
        // 32-bit roots have 32 bits, 64-bit ones may carry a PCID.
        self.target().read_ptr(place).map(|dtb| if dtb >> 32 == 0 { dtb } else { dtb & !0xfff })
    }

    /// Its virtual memory.
    pub fn space(&self, kernel: &Kernel) -> Read<PagedSpace> {
        let dtb = self.dtb()?;
        if dtb & kernel.paging().root == 0 {
            return Err(Absent::NotApplicable("no page tables"));
        }
        let tables = VirtualSpace::new(Arc::clone(kernel.physical()), kernel.paging(), dtb);
        let ranges = Ranges::new(kernel.target().clone(), self.addr(), kernel.paging().entry_bytes);
        Ok(PagedSpace::new(Arc::clone(kernel.backing()), tables, Some(ranges)))
    }

    /// Its virtual memory. What is missing is noted; `None` for processes without page tables.
    pub fn noted_space(&self, notes: &Notes, kernel: &Kernel) -> Option<PagedSpace> {
        match self.space(kernel) {
            Ok(space) => Some(space),
            Err(why) => {
                if why.is_loss() {
                    notes.partial(format!("pages of {} are missing: {why}", self.describe()));
                }
                None
            }
        }
    }

    /// Its id as part of a file's name.
    #[must_use]
    pub fn pid_label(&self) -> String {
        self.pid().map_or_else(|_| "unknown".to_owned(), |pid| pid.to_string())
    }

    /// Its virtual memory, with the kernel's types.
    pub fn user_target(&self, kernel: &Kernel) -> Read<Target> {
        let space: Arc<dyn AddressSpace> = Arc::new(self.space(kernel)?);
        Ok(kernel.target().with_space(space))
    }

    /// The path of its executable as the kernel recorded it for auditing: `\Device\HarddiskVolume2\Windows\...`.
    pub fn audit_path(&self) -> Read<String> {
        let info = self.audit_name()?.non_null("not recorded")?;
        // OBJECT_NAME_INFORMATION is a UNICODE_STRING with its text behind it.
        unicode::text_at(self.target(), Ok(Addr(info)))
    }

    /// Whether the bytes make a process at all: its kind of object, an id and times that can be.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        let kind = self.dispatcher_type().is_ok_and(|kind| kind & 0x7f == 3);
        let pid = self.pid();
        let name = self.name().is_ok_and(|name| !name.is_empty());
        kind && name && pid.is_ok_and(|pid| pid <= MAX_PID)
    }
}

/// All processes that any method finds, sorted by pid, then address.
///
/// Those that are not on the kernel's list are noted: they ended and somebody still refers to them, or they were hidden.
pub fn processes<'k>(session: &Session, kernel: &'k Kernel) -> Result<Vec<Process<'k>>, Error> {
    by_methods(session, kernel, &Method::ALL)
}

fn by_methods<'k>(
    session: &Session,
    kernel: &'k Kernel,
    methods: &[Method],
) -> Result<Vec<Process<'k>>, Error> {
    // The first method that finds a process names it.
    let mut found: BTreeMap<u64, Method> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut list_failed = false;
    for method in methods {
        match method.processes(session, kernel) {
            Ok(processes) => {
                for addr in processes {
                    found.entry(addr).or_insert(*method);
                }
            }
            Err(why) => {
                list_failed |= *method == Method::PsActiveProcessHead;
                failures.push((*method, why));
            }
        }
    }
    for (method, why) in &failures {
        if why.is_loss() && (found.is_empty() || *method == Method::PsActiveProcessHead) {
            session.notes.partial(format!("method {} failed: {why}", method.name()));
        }
    }
    // The process that was running when a dump was written may be all there is.
    let running = session.image()?.hints.windows.as_ref().and_then(|windows| windows.process);
    if let Some(running) = running.filter(|addr| Process::at(kernel.target(), *addr).is_plausible())
        && found.is_empty()
    {
        session.notes.partial("only the process that was running is in this dump");
        return Ok(vec![Process::at(kernel.target(), running)]);
    }
    if found.is_empty()
        && let Some((_, why)) = failures.into_iter().next()
    {
        return Err(Error::from(why));
    }
    let mut processes: Vec<Process<'k>> =
        found.keys().map(|addr| Process::at(kernel.target(), *addr)).collect();
    if methods.contains(&Method::PsActiveProcessHead) && !list_failed {
        for process in &processes {
            let by = found.get(&process.addr()).copied().unwrap_or(Method::PsActiveProcessHead);
            let alive = process.exit_time().is_err() && process.pid() != Ok(0);
            if by != Method::PsActiveProcessHead && alive {
                session.notes.info(format!(
                    "process {} at {:#x} is not on the list PsActiveProcessHead; found by {}",
                    process.describe(),
                    process.addr(),
                    by.name()
                ));
            }
        }
    }
    sort_by_pid(&mut processes);
    Ok(processes)
}

/// Sorts by pid, unreadable pids last, then by address.
pub fn sort_by_pid(processes: &mut [Process<'_>]) {
    processes.sort_by_cached_key(|process| (process.pid().unwrap_or(u64::MAX), process.addr()));
}

/// Which processes a command is about.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ProcessFilter {
    /// Process ids to select
    #[arg(value_name = "PID")]
    pub pids: Vec<u64>,
    /// Select processes whose name matches this regular expression, case-insensitive
    #[arg(long = "proc_regex", alias = "proc_reg", alias = "proc-regex", value_name = "REGEX")]
    pub proc_regex: Option<String>,
    /// Virtual addresses of `_EPROCESS`es to look at, instead of walking lists
    #[arg(long = "eprocess", value_name = "ADDRESS", value_parser = crate::parse::address)]
    pub eprocess: Vec<u64>,
    /// Ways to find processes; psxview compares them [default: all of them]
    #[arg(long = "method", value_name = "METHOD", value_delimiter = ',')]
    pub method: Vec<Method>,
}

impl ProcessFilter {
    /// Whether nothing was asked for, so that all processes are meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.pids.is_empty()
            && self.proc_regex.is_none()
            && self.eprocess.is_empty()
            && self.method.is_empty()
    }

    /// The selected processes, sorted by pid. A pid that does not exist is a note, not an error.
    pub fn processes<'k>(&self, session: &Session, kernel: &'k Kernel) -> Result<Vec<Process<'k>>, Error> {
        let regex = self
            .proc_regex
            .as_ref()
            .map(|text| crate::parse::regex(text))
            .transpose()
            .map_err(|error| Error::usage(format!("bad --proc_regex: {error}")))?;
        let mut found = match (self.eprocess.as_slice(), self.method.as_slice()) {
            ([], []) => processes(session, kernel)?,
            ([], methods) => by_methods(session, kernel, methods)?,
            (addresses, _) => addresses.iter().map(|&addr| Process::at(kernel.target(), addr)).collect(),
        };
        if !self.pids.is_empty() {
            found.retain(|process| process.pid().is_ok_and(|pid| self.pids.contains(&pid)));
            for pid in &self.pids {
                if !found.iter().any(|process| process.pid() == Ok(*pid)) {
                    session.notes.info(format!("no process has this pid: {pid}"));
                }
            }
        }
        if let Some(regex) = regex {
            found.retain(|process| process.name().is_ok_and(|name| regex.is_match(&name)));
        }
        Ok(found)
    }
}
