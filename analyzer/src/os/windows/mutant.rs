//! Mutants: the mutexes of programs.

use object::{Absent, Ptr, Read, Target, layout};

use super::thread::Thread;

layout! {
    /// `_KMUTANT`.
    pub struct Mutant / MutantLayout = "_KMUTANT" {
        /// 1 for a free one; less by one for each time its owner took it.
        signal: i32 = "Header.SignalState",
        /// The thread that holds it, null for none.
        owner_thread: Ptr = "OwnerThread",
    }
}

impl Mutant<'_> {
    /// Address of the thread that holds it; not applicable for a free one.
    pub fn owner(&self) -> Read<u64> {
        self.owner_thread()?.non_null("nobody holds it")
    }

    /// Ids of the process and the thread that hold it: `1888:1892`. `kernel` is the kernel's memory.
    pub fn cid(&self, kernel: &Target) -> Read<String> {
        let thread = Thread::at(kernel, self.owner()?);
        if !thread.is_plausible() {
            return Err(Absent::Malformed("thread that holds a mutant"));
        }
        Ok(format!("{}:{}", thread.pid()?, thread.tid()?))
    }
}
