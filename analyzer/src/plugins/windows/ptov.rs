//! `ptov`: the virtual address of a physical one, by the page frame database.
//!
//! Climbs from the page's entry to its page table, from the table's entry to the next one, up to the top table and its process. Pages of
//! sections have a prototype entry and are mapped wherever the section is: `pas2vas` finds that. Truth: the page tables themselves,
//! by `vtop`; the description of the machine that the maker of test images lays out.

use memory::AddressSpace as _;

use crate::os::windows::page_frame::{climb, process_at};
use crate::os::windows::{Kernel, KernelFact, Process, processes};
use crate::plugin::prelude::*;

/// The command.
pub struct Ptov;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Physical address
    #[arg(value_name = "ADDRESS", value_parser = crate::parse::address)]
    pub physical_address: u64,
}

row! {
    pub struct Row {
        /// The process whose memory it is; in the last row.
        process as "_EPROCESS": Option<ObjRef>,
        /// Entry of a page table (`PTE`), the page of the top table (`DTB`), `prototype`, then `virtual`.
        step: String,
        /// Where the entry is: in physical memory, of a prototype in the kernel's; the virtual address.
        address: Read<Address>,
        /// The entry.
        entry: Read<Address>,
        /// What follows.
        comment: String,
    }
}

impl Plugin for Ptov {
    const NAME: &'static str = "ptov";
    const SUMMARY: &'static str = "Find the virtual address of a physical one";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let found = climb(kernel.target(), kernel.paging(), args.physical_address)?;
        let row = |step: &str, address| Row {
            process: None,
            step: step.to_owned(),
            address,
            entry: Err(Absent::NotApplicable("no entry of a page table")),
            comment: String::new(),
        };
        for step in &found.steps {
            let at = step.at;
            let entry = match kernel.paging().entry_bytes {
                4 => kernel.physical().read_u32(at).map(u64::from),
                _ => kernel.physical().read_u64(at),
            };
            let entry = entry.map(Address).map_err(|fault| Absent::Unreadable { addr: at, fault });
            out.push(Row { entry, ..row(step.name, Ok(Address(at))) })?;
        }
        if let Some(prototype) = found.prototype {
            let comment = "a page of a section; pas2vas finds who maps it".to_owned();
            out.push(Row { comment, ..row("prototype", Ok(Address(prototype))) })?;
        }
        if let Some(top) = found.top {
            let comment = "the page that maps itself".to_owned();
            out.push(Row { comment, ..row("DTB", Ok(Address(top))) })?;
        }
        let mut comment = String::new();
        let mut process = None;
        match &found.virtual_address {
            Ok(address) if *address >= kernel.user_end() => {
                if kernel.space().tables().translate(*address) != Ok(args.physical_address) {
                    session.notes.partial(format!("the kernel's tables do not agree on {address:#x}"));
                }
            }
            Ok(address) => match owner(session, &kernel, found.owner, *address, args.physical_address)? {
                Some(owner) => {
                    comment = format!("of {}", owner.describe());
                    process = Some(owner.obj_ref());
                }
                None => session.notes.partial(format!("no process maps this page at {address:#x}")),
            },
            Err(why) if why.is_loss() => {
                session.notes.partial(format!("the virtual address cannot be found: {why}"));
            }
            Err(_) => {}
        }
        out.push(Row { process, comment, ..row("virtual", found.virtual_address.map(Address)) })
    }
}

/// The process whose page tables lead from the one address to the other: the one that the top table's entry names, else any.
fn owner<'k>(
    session: &Session,
    kernel: &'k Kernel,
    named: Option<u64>,
    address: u64,
    physical: u64,
) -> Result<Option<Process<'k>>, Error> {
    let maps = |process: &Process<'_>| {
        process.space(kernel).is_ok_and(|space| space.translate(address) == Ok(physical))
    };
    if let Some(process) = named.and_then(|named| process_at(kernel, named)).filter(|process| maps(process)) {
        return Ok(Some(process));
    }
    Ok(processes(session, kernel)?.into_iter().find(|process| maps(process)))
}
