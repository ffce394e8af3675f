//! `vtop`: how a virtual address becomes a physical one, entry by entry of the page tables.
//!
//! For the kernel's page tables, or for those of the processes that are selected. Truth: `info mem` and the registers
//! of the emulator a guest ran in.

use std::sync::Arc;

use memory::{AddressSpace, Next, Step, Stored, VirtualSpace};

use crate::os::linux::{Kernel, KernelFact, ProcessFilter, task};
use crate::os::symbols;
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
    Ok(VirtualSpace::new(Arc::clone(kernel.physical()), kernel.paging(), task.dtb()?))
}

fn explain(
    task: Option<&ObjRef>,
    space: &VirtualSpace,
    virtual_address: u64,
    out: &mut Rows<'_, Row>,
) -> Result<(), Error> {
    let mut push = |step: String, address, entry, flags, comment| {
        let task = task.cloned();
        let virtual_address = Address(virtual_address);
        out.push(Row { task, virtual_address, step, address, entry, flags, comment })
    };
    let steps = space.explain(virtual_address);
    for step in &steps {
        let comment = comment(step);
        // An address that is not canonical has no entry anywhere.
        let canonical = space.paging().canonical(virtual_address) == virtual_address;
        let address = if canonical { Ok(Address(step.entry_addr)) } else { Err(NOT_CANONICAL) };
        let entry = match (step.entry, step.next) {
            (Some(entry), _) => Ok(Address(entry)),
            (None, Next::Fault(fault)) if canonical => {
                Err(Absent::Unreadable { addr: step.entry_addr, fault })
            }
            _ => Err(NOT_CANONICAL),
        };
        push(step.name.to_owned(), address, entry, step.flags.join(" "), comment)?;
    }
    let Some(Next::Page { mut phys, .. }) = steps.last().map(|step| step.next) else { return Ok(()) };
    let no_entry = || Err(Absent::NotApplicable("no entry of a page table"));
    push("physical".to_owned(), Ok(Address(phys)), no_entry(), String::new(), "physical address".to_owned())?;
    let mut layer: &dyn AddressSpace = space.physical().as_ref();
    while let Some(base) = layer.base() {
        let stored = layer.stored(phys);
        let (address, comment) = match stored {
            Ok(Stored::Plain(offset)) => (Ok(Address(offset)), format!("where {} keeps it", layer.name())),
            Ok(Stored::Compressed { block, len }) => {
                (Ok(Address(block)), format!("compressed block of {len} bytes, by {}", layer.name()))
            }
            Err(fault) => (Err(Absent::Unreadable { addr: phys, fault }), fault.to_string()),
        };
        push(base.name(), address, no_entry(), String::new(), comment)?;
        let Ok(Stored::Plain(offset)) = stored else { break };
        (layer, phys) = (base, offset);
    }
    Ok(())
}

const NOT_CANONICAL: Absent = Absent::NotApplicable("the address is not canonical");

fn comment(step: &Step) -> String {
    match step.next {
        Next::Table(table) => format!("next table at {table:#x}"),
        Next::Page { phys, size } => format!("page of {} at {:#x}", unit(size), phys & !size.wrapping_sub(1)),
        Next::Fault(fault) => fault.to_string(),
    }
}

/// A page size in words: `4 KiB`.
fn unit(size: u64) -> String {
    match size.trailing_zeros() {
        0..20 => format!("{} KiB", size >> 10),
        20..30 => format!("{} MiB", size >> 20),
        _ => format!("{} GiB", size >> 30),
    }
}
