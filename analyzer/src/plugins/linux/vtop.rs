//! `vtop`: how a virtual address becomes a physical one, entry by entry of the page tables.
//!
//! For the kernel's page tables, or for those of the processes that are selected; of a page that was paged out, where it is. Truth:
//! the emulator's own walk of the page tables, the guest's banner and arguments of processes at the physical address, and the
//! `pagemap` of processes of guests.

use memory::VirtualSpace;

use crate::os::linux::process_space::Place;
use crate::os::linux::swap::Holder;
use crate::os::linux::{Kernel, KernelFact, ProcessFilter, ProcessSpace, task};
use crate::os::symbols;
use crate::os::translation::{ShownStep, file_steps, table_steps};
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
            let (steps, phys) = table_steps(kernel.space(), address);
            return show(None, kernel.space(), address, (steps, phys), out);
        }
        for task in args.processes.tasks(session, &kernel)? {
            match space_of(&task, &kernel) {
                Ok(space) => {
                    let (mut steps, mut phys) = table_steps(space.tables(), address);
                    if phys.is_none() {
                        phys = behind(&space, address, &mut steps);
                    }
                    show(Some(&task.obj_ref()), space.tables(), address, (steps, phys), out)?;
                }
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

fn space_of(task: &task::Task<'_>, kernel: &Kernel) -> Read<ProcessSpace> {
    Ok(kernel.process_space(task.dtb()?))
}

/// Adds the steps behind an entry that is not present; the physical address where they lead to one.
fn behind(space: &ProcessSpace, addr: u64, steps: &mut Vec<ShownStep>) -> Option<u64> {
    let slot = match space.place(addr).ok()? {
        Place::Memory(phys) | Place::NoAccess(phys) => return Some(phys),
        Place::Swapped(slot) => slot,
    };
    let name = space.swap().area_name(slot.area).unwrap_or_default();
    steps.push(ShownStep::plain("swap", Ok(slot.page), format!("page of swap area {}: {name}", slot.area)));
    let nowhere = Err(Absent::NotApplicable("not an address"));
    let (step, at, comment) = match space.swap().holder(slot) {
        Holder::Memory(phys) => {
            steps.push(ShownStep::plain("swap cache", Ok(phys), "the page is in memory"));
            return Some(phys);
        }
        Holder::Zeros => ("zeros", nowhere, "the page has nothing but zeros".to_owned()),
        Holder::Zswap(entry) => ("zswap", Ok(entry), "zswap_entry of the compressed page".to_owned()),
        Holder::Zram(Ok(algorithm)) => {
            ("zram", Ok(slot.page), format!("page of zram, compressed by {algorithm}"))
        }
        Holder::File(file) => {
            ("file", Ok(slot.page.saturating_mul(space.page_size())), format!("offset in {file}"))
        }
        Holder::NotGiven => ("file", nowhere, "the area was not given (see --swap)".to_owned()),
        Holder::Zram(Err(why)) | Holder::Unknown(why) => ("unknown", nowhere, why.to_string()),
    };
    steps.push(ShownStep::plain(step, at, comment));
    None
}

fn show(
    task: Option<&ObjRef>,
    space: &VirtualSpace,
    virtual_address: u64,
    (mut steps, phys): (Vec<ShownStep>, Option<u64>),
    out: &mut Rows<'_, Row>,
) -> Result<(), Error> {
    if let Some(phys) = phys {
        steps.extend(file_steps(&**space.physical(), phys));
    }
    for ShownStep { step, address, entry, flags, comment } in steps {
        let (address, entry) = (address.map(Address), entry.map(Address));
        let virtual_address = Address(virtual_address);
        out.push(Row { task: task.cloned(), virtual_address, step, address, entry, flags, comment })?;
    }
    Ok(())
}
