//! `pagefiles`: the pagefiles that the kernel uses.
//!
//! Their numbers are the order in which `--pagefile` wants them. One may be no file: it stands for the compressed store in memory. Truth:
//! the description of the machine that the maker of test images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::pagefile::{Pagefile, pagefiles};
use crate::plugin::prelude::*;

/// The command.
pub struct Pagefiles;

row! {
    pub struct Row {
        /// The kernel's record of it.
        file as "_MMPAGING_FILE": ObjRef,
        /// Its number, which page table entries name.
        number: Read<u64>,
        /// Its length.
        size: Read<ByteSize>,
        /// Its path.
        filename: Read<String>,
    }
}

impl Plugin for Pagefiles {
    const NAME: &'static str = "pagefiles";
    const SUMMARY: &'static str = "List the pagefiles of the system";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let (files, cut) = pagefiles(kernel.target())?;
        if let Some(why) = cut {
            session.notes.partial(format!("there may be more pagefiles: {why}"));
        }
        for file in files {
            out.push(Row {
                file: ObjRef { type_name: Pagefile::STRUCT, addr: file.addr(), tags: Vec::new() },
                number: file.number().map(|number| number.0),
                size: file.pages().map(|pages| ByteSize(pages.0.saturating_mul(4096))),
                filename: if file.is_compressed_store() {
                    Err(Absent::NotApplicable("no file: the compressed store in memory"))
                } else {
                    file.path()
                },
            })?;
        }
        Ok(())
    }
}
