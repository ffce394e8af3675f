//! `pfn`: what the kernel knows of one page of physical memory.
//!
//! Truth: the description of the machine that the maker of test images lays out.

use object::Uint;

use crate::os::windows::KernelFact;
use crate::os::windows::page_frame::{Database, PageFrame};
use crate::plugin::prelude::*;
use crate::table::{Cell, Value};

/// The command.
pub struct Pfn;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Number of the page: its physical address by 4096
    #[arg(value_name = "NUMBER", value_parser = crate::parse::address)]
    pub pfn: u64,
}

row! {
    pub struct Row {
        /// Name of the field.
        fact: &'static str,
        /// Where it is in the kernel's memory.
        address as "Address": Read<Address>,
        /// Its value.
        value as "Value": Read<Value>,
    }
}

impl Plugin for Pfn {
    const NAME: &'static str = "pfn";
    const SUMMARY: &'static str = "Show the kernel's entry of a page of physical memory";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let database = Database::of(kernel.target())?;
        if args.pfn >= kernel.physical().end() >> 12 {
            session.notes.info(format!("the image ends before page {:#x}", args.pfn));
        }
        let frame = database.frame(args.pfn);
        let number = |value: Read<Uint>| value.map(|Uint(value)| value.into_value());
        let pointer = |value: Read<u64>| value.map(|value| Address(value).into_value());
        let physical = |value: Read<Uint>| pointer(value.map(|Uint(frame)| frame.wrapping_mul(4096)));
        for (fact, path, value) in [
            ("PageLocation", "u3.e1.PageLocation", frame.location_name().map(Cell::into_value)),
            ("Modified", "u3.e1.Modified", number(frame.modified())),
            ("ReferenceCount", "u3.ReferenceCount | u3.e2.ReferenceCount", number(frame.reference_count())),
            ("ShareCount", "u2.ShareCount", number(frame.share_count())),
            ("PrototypePte", "u4.PrototypePte | u3.e1.PrototypePte", number(frame.is_prototype())),
            ("PteAddress", "PteAddress", pointer(frame.pte().map(|pte| pte.0))),
            ("PteFrame (P)", "u4.PteFrame", physical(frame.pte_frame())),
            ("Flink", "u1.Flink", pointer(frame.flink().map(|flink| flink.0))),
            ("OriginalPte", "OriginalPte.u.Long", pointer(frame.original().map(|entry| entry.0))),
        ] {
            let offset = kernel.target().offset_of(PageFrame::STRUCT, path).map_err(Absent::from);
            let address = offset.map(|offset| Address(frame.addr().wrapping_add(offset)));
            out.push(Row { fact, address, value })?;
        }
        Ok(())
    }
}
