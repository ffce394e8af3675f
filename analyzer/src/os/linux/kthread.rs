//! Threads of the kernel: what they were started to do (kernel/kthread.c).

use object::{Absent, Ptr, Read, layout};

use super::task::Task;
use crate::table::text_of;

/// Longest full name; they are put together from short parts.
const MAX_NAME: usize = 256;

layout! {
    struct Links / LinksLayout = "task_struct" {
        /// From Linux commit e32cf5dfbe22 (v5.17).
        worker: Ptr = "worker_private",
        /// What holds it before; its other meaning is for user threads only.
        child_tid: Ptr = "set_child_tid",
    }

    /// `kthread`: what a thread of the kernel was started with.
    pub struct Kthread / KthreadLayout = "kthread" {
        /// The function it runs.
        function: Ptr = "threadfn",
        /// What the function is given.
        data: Ptr = "data",
        /// Name before it was cut to fit `comm`, or null; from v5.17.
        full_name: Ptr = "full_name",
    }
}

impl Kthread<'_> {
    /// The name before it was cut to fit `comm`; not applicable where it was not, and to kernels that do not keep it.
    pub fn long_name(&self) -> Read<String> {
        let name = match self.full_name() {
            Err(Absent::NoProfile(_)) => return Err(Absent::NotApplicable("not kept by this kernel")),
            name => name?.non_null("the short name is the full name")?,
        };
        Ok(text_of(&self.target().read_cstr(name, MAX_NAME)?))
    }
}

/// What a thread of the kernel was started with; not applicable to other tasks.
pub fn kthread<'k>(task: &Task<'k>) -> Read<Kthread<'k>> {
    if !task.is_kernel_thread()? {
        return Err(Absent::NotApplicable("not a thread of the kernel"));
    }
    let links = Links::at(task.target(), task.addr());
    let kthread = match links.worker() {
        Err(Absent::NoProfile(_)) => links.child_tid()?,
        worker => worker?,
    };
    Ok(Kthread::at(task.target(), kthread.non_null("started without a function")?))
}
