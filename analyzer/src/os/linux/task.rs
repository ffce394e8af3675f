//! Processes and threads: `task_struct` and its neighbours (include/linux/sched.h).

use std::collections::BTreeSet;
use std::sync::Arc;

use object::walk::End;
use object::{Absent, Addr, Ptr, Read, Target, Text, Uint, layout};

use super::task_scan::{self, Life};
use super::views::{self, Method};
use super::{Kernel, KernelFact, ProcessSpace};
use crate::error::Error;
use crate::session::{Fact, Session};
use crate::table::{ObjRef, Time, text_of};

/// `PF_KTHREAD`: the task never had a user address space (include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

layout! {
    /// `task_struct`: one thread; a process is its thread-group leader.
    pub struct Task / TaskLayout = "task_struct" {
        /// Thread id in the initial pid namespace.
        pid: i32 = "pid",
        /// Process id in the initial pid namespace.
        tgid: i32 = "tgid",
        /// Thread name, at most 15 bytes.
        comm: Text = "comm",
        /// User address space; null for kernel threads and zombies.
        mm: Ptr = "mm",
        /// Open files; null for zombies.
        files: Ptr = "files",
        /// Root and working directory; null for zombies.
        fs: Ptr = "fs",
        /// Namespaces; null for zombies.
        nsproxy: Ptr = "nsproxy",
        /// Effective credentials.
        cred: Ptr = "cred",
        /// Parent that created it, or that adopted it.
        real_parent: Ptr = "real_parent",
        /// Leader of the thread group.
        group_leader: Ptr = "group_leader",
        /// Signal state shared by the thread group.
        signal: Ptr = "signal",
        /// `PF_*` flags.
        flags: Uint = "flags",
        /// Run state; renamed by Linux commit 2f064a59a11f (v5.14).
        state: Uint = "__state | state",
        /// Exit state: `EXIT_ZOMBIE`, `EXIT_DEAD`, or 0.
        exit_state: i32 = "exit_state",
        /// Link of the list of processes.
        tasks: Addr = "tasks",
        /// Head of the list of children.
        children: Addr = "children",
        /// Link in the parent's `children`.
        sibling: Addr = "sibling",
        /// Nanoseconds from boot, suspend included; renamed by Linux commit cf25e24db61c (v5.5).
        start_boottime: u64 = "start_boottime | real_start_time",
    }

    /// `cred`: credentials (include/linux/cred.h). Ids are those of the initial user namespace.
    pub struct Cred / CredLayout = "cred" {
        /// Real user id; a `kuid_t` from v3.5.
        uid: u32 = "uid.val | uid",
        /// Real group id.
        gid: u32 = "gid.val | gid",
        /// Effective user id.
        euid: u32 = "euid.val | euid",
        /// Effective group id.
        egid: u32 = "egid.val | egid",
    }

    struct Mm / MmLayout = "mm_struct" {
        pgd: Ptr = "pgd",
    }
}

impl<'k> Task<'k> {
    /// The cell that stands for the process: type, address, pid and name.
    #[must_use]
    pub fn obj_ref(&self) -> ObjRef {
        use crate::table::Cell as _;
        let name = self.comm().map(|Text(bytes)| text_of(&bytes));
        ObjRef {
            type_name: Self::STRUCT,
            addr: self.addr(),
            tags: vec![("pid", self.pid().into_value()), ("name", name.into_value())],
        }
    }

    /// The thread's name as text.
    pub fn name(&self) -> Read<String> {
        self.comm().map(|Text(bytes)| text_of(&bytes))
    }

    /// `NAME.PID`, for names of files; the address where they cannot be read.
    #[must_use]
    pub fn file_label(&self) -> String {
        match (self.name(), self.pid()) {
            (Ok(name), Ok(pid)) => format!("{name}.{pid}"),
            _ => format!("task.{:x}", self.addr()),
        }
    }

    /// Process id of the parent; 0 for init and kthreadd.
    pub fn ppid(&self) -> Read<i32> {
        let Ptr(parent) = self.real_parent()?;
        Task::at(self.target(), parent).tgid()
    }

    /// Credentials.
    pub fn creds(&self) -> Read<Cred<'k>> {
        let cred = self.cred()?.non_null("no credentials")?;
        Ok(Cred::at(self.target(), cred))
    }

    /// Whether it is a thread of the kernel.
    pub fn is_kernel_thread(&self) -> Read<bool> {
        self.flags().map(|Uint(flags)| flags & PF_KTHREAD != 0)
    }

    /// Physical address of its page table root; not applicable to tasks without a user address space.
    pub fn dtb(&self) -> Read<u64> {
        let mm = self.mm()?.non_null("no user address space")?;
        let Ptr(pgd) = Mm::at(self.target(), mm).pgd()?;
        self.target().space().translate(pgd).map_err(|fault| Absent::Unreadable { addr: pgd, fault })
    }

    /// Its address space.
    pub fn user_space(&self, kernel: &Kernel) -> Read<Arc<ProcessSpace>> {
        let dtb = self.dtb()?;
        Ok(Arc::new(kernel.process_space(dtb)))
    }

    /// Its address space, with the kernel's types.
    pub fn user_target(&self, kernel: &Kernel) -> Read<Target> {
        Ok(kernel.target().with_space(self.user_space(kernel)?))
    }

    /// Wall clock time of its start.
    pub fn start_time(&self, kernel: &Kernel) -> Read<Time> {
        let Time(boot) = kernel.boot_time()?;
        Ok(Time(boot.saturating_add(i128::from(self.start_boottime()?))))
    }
}

/// All processes (thread-group leaders) on the kernel's task list, sorted by pid, then address.
///
/// `init_task` itself, the idle task with pid 0, heads the list and is no process.
///
/// Where the list is torn, its rest is looked for by all other means: the table of pids, the tree of children, and what
/// looks like a process in physical memory.
pub fn processes<'k>(session: &Session, kernel: &'k Kernel) -> Result<Vec<Task<'k>>, Error> {
    let found = session.fact::<Found>()?;
    let mut tasks: Vec<Task<'k>> = found.iter().map(|addr| Task::at(kernel.target(), *addr)).collect();
    sort_by_pid(&mut tasks);
    Ok(tasks)
}

/// Addresses of [`processes`].
struct Found;

impl Fact for Found {
    type Value = BTreeSet<u64>;
    const NAME: &'static str = "linux processes";

    fn compute(session: &Session) -> Result<BTreeSet<u64>, Error> {
        let kernel = &*session.fact::<KernelFact>()?;
        let (mut found, end) = views::task_list(kernel)?;
        let notes = &session.notes;
        if end != End::Complete {
            notes.walk("init_task.tasks", &end);
            let listed = found.len();
            for method in [Method::PidHashTable, Method::Children] {
                found.extend(method.tasks(notes, kernel).unwrap_or_default());
            }
            let alive = |addr: &u64| Life::of(&Task::at(kernel.target(), *addr)) != Ok(Life::Dead);
            found.extend(task_scan::scan(notes, kernel).unwrap_or_default().into_iter().filter(alive));
            let more = found.len().saturating_sub(listed);
            notes.info(format!("{more} processes that the torn list lacks were found by other ways"));
        }
        Ok(found)
    }
}

/// The processes that any of the methods finds, sorted by pid, then address.
fn by_methods<'k>(session: &Session, kernel: &'k Kernel, methods: &[Method]) -> Result<Vec<Task<'k>>, Error> {
    let mut found = BTreeSet::new();
    for method in methods {
        found.extend(method.tasks(&session.notes, kernel)?);
    }
    let mut tasks: Vec<Task<'k>> = found.into_iter().map(|addr| Task::at(kernel.target(), addr)).collect();
    sort_by_pid(&mut tasks);
    Ok(tasks)
}

/// Sorts by pid, unreadable pids last, then by address.
pub fn sort_by_pid(tasks: &mut [Task<'_>]) {
    tasks.sort_by_cached_key(|task| (task.pid().unwrap_or(i32::MAX), task.addr()));
}

/// Which processes a command is about.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ProcessFilter {
    /// Process ids to select
    #[arg(value_name = "PID")]
    pub pids: Vec<i32>,
    /// Select processes whose name matches this regular expression, case-insensitive
    #[arg(long = "proc_regex", alias = "proc_reg", alias = "proc-regex", value_name = "REGEX")]
    pub proc_regex: Option<String>,
    /// Virtual addresses of `task_struct`s to look at, instead of walking lists
    #[arg(long = "task", value_name = "ADDRESS", value_parser = crate::parse::address)]
    pub task: Vec<u64>,
    /// Ways to find processes, all of which are used; psxview compares them [default: InitTask]
    #[arg(long = "method", value_name = "METHOD", value_delimiter = ',')]
    pub method: Vec<Method>,
}

impl ProcessFilter {
    /// Whether nothing was asked for, so that all processes are meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.pids.is_empty() && self.proc_regex.is_none() && self.task.is_empty() && self.method.is_empty()
    }

    /// The same, but processes named like `regex` where neither `all` nor any choice was asked for: who names processes means
    /// these, whatever they are called.
    #[must_use]
    pub fn or_named(&self, all: bool, regex: &str) -> Self {
        let mut filter = self.clone();
        if !all && filter.is_all() {
            filter.proc_regex = Some(regex.to_owned());
        }
        filter
    }

    /// The selected processes, sorted by pid. A pid that does not exist is a note, not an error.
    pub fn tasks<'k>(&self, session: &Session, kernel: &'k Kernel) -> Result<Vec<Task<'k>>, Error> {
        let regex = self
            .proc_regex
            .as_ref()
            .map(|text| crate::parse::regex(text))
            .transpose()
            .map_err(|error| Error::usage(format!("bad --proc_regex: {error}")))?;
        let mut tasks = match (self.task.as_slice(), self.method.as_slice()) {
            ([], []) => processes(session, kernel)?,
            ([], methods) => by_methods(session, kernel, methods)?,
            (tasks, _) => tasks.iter().map(|&addr| Task::at(kernel.target(), addr)).collect(),
        };
        if !self.pids.is_empty() {
            tasks.retain(|task| task.pid().is_ok_and(|pid| self.pids.contains(&pid)));
            for pid in &self.pids {
                if !tasks.iter().any(|task| task.pid() == Ok(*pid)) {
                    session.notes.info(format!("no process has this pid: {pid}"));
                }
            }
        }
        if let Some(regex) = regex {
            tasks.retain(|task| task.name().is_ok_and(|name| regex.is_match(&name)));
        }
        Ok(tasks)
    }
}

/// A value that identifies a task in messages: `1234 (bash)`.
#[must_use]
pub fn describe(task: &Task<'_>) -> String {
    let pid = task.pid().map_or_else(|_| "?".to_owned(), |pid| pid.to_string());
    match task.name() {
        Ok(name) => format!("{pid} ({name})"),
        Err(_) => format!("{pid} at {:#x}", task.addr()),
    }
}
