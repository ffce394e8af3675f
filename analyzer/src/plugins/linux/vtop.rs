//! `vtop`: how a virtual address becomes a physical one, entry by entry of the page tables.
//!
//! For the kernel's page tables, or for those of the processes that are selected. Truth: `info mem` and the registers
//! of the emulator a guest ran in.

use memory::VirtualSpace;

use crate::os::linux::{Kernel, KernelFact, ProcessFilter, task};
use crate::os::symbols;
use crate::os::translation::{self, ShownStep};
use crate::plugin::prelude::*;

/// The command.
pub struct Vtop;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// An address or symbol
    #[arg(value_name = "ADDRESS")]
    pub virtual_address: String,
    /// Processes whose page tables to use; without any, the kernel's
    #[command(flatten)]
    pub processes: ProcessFilter,
}

row! {
    pub struct Row {
        /// The process; absent for the kernel's own page tables.
        task: Option<ObjRef>,
        /// The virtual address.
        virtual_address: Address,
        /// Entry of a page table (`PTE`), then `physical`, then each layer of the image down to `file`.
        step: String,
        /// Where the entry is in physical memory; the address itself in the layers.
        address: Read<Address>,
        /// The entry.
        entry: Read<Address>,
        /// Bits that are set in it.
        flags: String,
        /// What follows.
        comment: String,
    }
}

impl Plugin for Vtop {
    const NAME: &'static str = "vtop";
    const SUMMARY: &'static str = "Explain the translation of a virtual address";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let address = symbols::address(session, &args.virtual_address)?;
        if args.processes.is_all() {
            return explain(None, kernel.space(), address, out);
        }
        for task in args.processes.tasks(session, &kernel)? {
            match space_of(&task, &kernel) {
                Ok(space) => explain(Some(&task.obj_ref()), &space, address, out)?,
                Err(Absent::NotApplicable(why)) => {
                    session
                        .notes
                        .info(format!("{} has no page tables of its own: {why}", task::describe(&task)));
                }
                Err(why) => {
                    session
                        .notes
                        .partial(format!("page tables of {} cannot be found: {why}", task::describe(&task)));
                }
            }
        }
        Ok(())
    }
}

fn space_of(task: &task::Task<'_>, kernel: &Kernel) -> Read<VirtualSpace> {
    Ok(kernel.process_space(task.dtb()?))
}

fn explain(
    task: Option<&ObjRef>,
    space: &VirtualSpace,
    virtual_address: u64,
    out: &mut Rows<'_, Row>,
) -> Result<(), Error> {
    let (mut steps, phys) = translation::table_steps(space, virtual_address);
    if let Some(phys) = phys {
        steps.extend(translation::file_steps(&**space.physical(), phys));
    }
    for ShownStep { step, address, entry, flags, comment } in steps {
        let (address, entry) = (address.map(Address), entry.map(Address));
        let virtual_address = Address(virtual_address);
        out.push(Row { task: task.cloned(), virtual_address, step, address, entry, flags, comment })?;
    }
    Ok(())
}
