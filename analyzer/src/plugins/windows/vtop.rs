//! `vtop`: how a virtual address becomes a physical one, entry by entry of the page tables, and what stands behind an entry that is
//! not valid.
//!
//! For the kernel's page tables, or for those of the processes that are selected. Truth: none of a real system yet; pages of every
//! state in images of the maker of test images.

use memory::{AddressSpace as _, Stored};

use crate::os::symbols;
use crate::os::translation::{self, ShownStep};
use crate::os::windows::paged::{PagedSpace, Place};
use crate::os::windows::{KernelFact, ProcessFilter};
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
        process as "_EPROCESS": Option<ObjRef>,
        /// The virtual address.
        virtual_address: Address,
        /// Entry of a page table (`PTE`), what stands behind it, then `physical`, then each layer of the image down to `file`.
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
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let address = symbols::address(session, &args.virtual_address)?;
        if args.processes.is_all() {
            return explain(None, kernel.space(), address, out);
        }
        for process in args.processes.processes(session, &kernel)? {
            match process.space(&kernel) {
                Ok(space) => explain(Some(&process.obj_ref()), &space, address, out)?,
                Err(why) if why.is_loss() => {
                    let whose = process.describe();
                    session.notes.partial(format!("page tables of {whose} cannot be found: {why}"));
                }
                Err(why) => session.notes.info(format!("{} has no page tables: {why}", process.describe())),
            }
        }
        Ok(())
    }
}

/// From the pagefile that stands for the compressed store to the bytes of a page.
fn stored_steps(space: &PagedSpace, virtual_address: u64, offset: u64) -> Vec<ShownStep> {
    let page = match space.compressed(offset) {
        Ok(page) => page,
        Err(why) => {
            let absent = Err(Absent::NotApplicable("not resident"));
            return vec![ShownStep::plain("store", absent, format!("page {why}"))];
        }
    };
    let comment = format!(
        "page key {:#x}, region {}: {} bytes of MemCompression at this address, {}",
        page.key,
        page.region,
        page.len,
        page.how()
    );
    let mut steps = vec![ShownStep::plain(format!("store {}", page.store), Ok(page.address), comment)];
    match space.stored(virtual_address) {
        Ok(Stored::Compressed { block, .. }) => {
            steps.extend(translation::file_steps(&**space.tables().physical(), block));
        }
        Ok(Stored::Plain(_)) => {}
        Err(fault) => {
            let absent = Err(Absent::NotApplicable("not resident"));
            steps.push(ShownStep::plain("software", absent, fault.to_string()));
        }
    }
    steps
}

fn explain(
    process: Option<&ObjRef>,
    space: &PagedSpace,
    virtual_address: u64,
    out: &mut Rows<'_, Row>,
) -> Result<(), Error> {
    let (mut steps, phys) = translation::table_steps(space.tables(), virtual_address);
    match (phys, space.place(virtual_address)) {
        (by_tables, Ok(Place::Memory(phys))) => {
            if by_tables != Some(phys) {
                let comment = "by a prototype, or an entry of a page table that is in a pagefile";
                steps.push(ShownStep::plain("software", Ok(phys), comment));
            }
            steps.extend(translation::file_steps(&**space.tables().physical(), phys));
        }
        (_, Ok(Place::File { number, offset })) => {
            steps.push(ShownStep::plain(
                format!("pagefile {number}"),
                Ok(offset),
                "is in a pagefile, at this offset",
            ));
        }
        (_, Ok(Place::Compressed { offset })) => {
            let comment = "is in the pagefile that stands for the compressed store, at this offset";
            steps.push(ShownStep::plain("compressed store", Ok(offset), comment));
            steps.extend(stored_steps(space, virtual_address, offset));
        }
        (_, Err(fault)) => {
            let absent = Err(Absent::NotApplicable("not resident"));
            steps.push(ShownStep::plain("software", absent, fault.to_string()));
        }
    }
    for ShownStep { step, address, entry, flags, comment } in steps {
        let (address, entry) = (address.map(Address), entry.map(Address));
        let virtual_address = Address(virtual_address);
        out.push(Row { process: process.cloned(), virtual_address, step, address, entry, flags, comment })?;
    }
    Ok(())
}
