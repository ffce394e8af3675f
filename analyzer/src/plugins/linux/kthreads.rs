//! `kthreads`: threads of the kernel, and the functions they run.
//!
//! Every task without a user address space since its start (`PF_KTHREAD`) with its `kthread` (kernel/kthread.c). The function belongs
//! to the kernel or to a module that is listed. kthreadd itself was started without one.
//!
//! Truth: the kernel threads of `/proc` of guests of 5.10, 6.1 and 6.12, every one; the guest 6.1-hostile has the thread that our
//! module started.

use object::Ptr;

use crate::os::linux::code::Code;
use crate::os::linux::kthread::kthread;
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Kthreads;

row! {
    pub struct Row {
        /// The thread.
        task: ObjRef,
        /// Its name before it was cut to 15 bytes, where the kernel keeps that.
        full_name: Read<String>,
        /// The function it was started with.
        address: Read<Address>,
        /// The symbol there.
        symbol: Option<String>,
        /// The module that holds the code; `linux` is the kernel.
        module_name: Option<String>,
        /// What the function was given.
        data as "thread_data": Read<Address>,
        /// Whether neither the kernel nor a listed module holds the code.
        hooked: Read<bool>,
    }
}

impl Plugin for Kthreads {
    const NAME: &'static str = "kthreads";
    const SUMMARY: &'static str = "List threads of the kernel and their functions";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let code = Code::of(session)?;
        for task in args.tasks(session, &kernel)? {
            if task.is_kernel_thread() == Ok(false) {
                continue;
            }
            let thread = kthread(&task);
            let function = thread.clone().and_then(|thread| thread.function());
            let address = function.and_then(|function| function.non_null("started without a function"));
            let (symbol, module_name) = code.names_of(&address);
            out.push(Row {
                task: task.obj_ref(),
                full_name: thread.clone().and_then(|thread| thread.long_name()),
                hooked: address.clone().map(|address| code.is_nobodys(address)),
                address: address.map(Address),
                symbol,
                module_name,
                data: thread.and_then(|thread| thread.data()).map(|Ptr(data)| Address(data)),
            })?;
        }
        Ok(())
    }
}
