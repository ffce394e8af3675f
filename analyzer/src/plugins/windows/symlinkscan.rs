//! `symlinkscan`: scan physical memory for symbolic links of the object manager.
//!
//! Drive letters are such links, one set for each user. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::pool::{self, kinds};
use crate::os::windows::scan_range::ScanArgs;
use crate::os::windows::{KernelFact, names::SymbolicLink, object_scan, time::file_time};
use crate::plugin::prelude::*;

/// The command.
pub struct Symlinkscan;

row! {
    pub struct Row {
        /// `F` where the memory was given back.
        free as "a": &'static str,
        /// Its virtual address; absent where the kernel maps that memory nowhere.
        offset: Option<Address>,
        /// Its physical address.
        offset_p: Address,
        /// References to it, those of handles included.
        ptr_no: Read<i64>,
        /// Handles to it.
        hnd_no: Read<i64>,
        /// When it was made.
        creation_time: Read<Time>,
        /// Its name.
        from_link: Read<String>,
        /// What it stands for.
        to_link: Read<String>,
    }
}

impl Plugin for Symlinkscan {
    const NAME: &'static str = "symlinkscan";
    const SUMMARY: &'static str = "Scan physical memory for symbolic links of objects";
    const ACTIVE: Active = Active::Windows;
    type Args = ScanArgs;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ScanArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let physical = pool::physical(&kernel);
        let wanted = args.range(session, &kernel)?;
        for found in object_scan::scan(session, &kernel, &physical, &kinds::SYMLINK)?
            .into_iter()
            .filter(|found| wanted.has(found.physical().0))
        {
            let link = SymbolicLink::at(found.target(), found.body);
            out.push(Row {
                free: found.free(),
                offset: found.offset(),
                offset_p: found.physical(),
                ptr_no: found.header.pointers(),
                hnd_no: found.header.handles(),
                creation_time: link.creation_time_raw().and_then(file_time),
                from_link: found.header.name(),
                to_link: found.text(link.target_place()),
            })?;
        }
        Ok(())
    }
}
