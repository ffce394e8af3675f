//! `filescan`: scan physical memory for file objects.
//!
//! Finds files that no handle leads to: mapped, in caches, closed. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::pool::{self, kinds};
use crate::os::windows::scan_range::ScanArgs;
use crate::os::windows::{KernelFact, names::FileObject, object_scan};
use crate::plugin::prelude::*;

/// The command.
pub struct Filescan;

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
        /// What it was opened for (`RWD`) and what others may do meanwhile (`rwd`): read, write, delete.
        access: Read<String>,
        /// The process that has it open, where that is recorded.
        owner as "Owner": Read<ObjRef>,
        /// Its path on its volume.
        path: Read<String>,
    }
}

impl Plugin for Filescan {
    const NAME: &'static str = "filescan";
    const SUMMARY: &'static str = "Scan physical memory for open files";
    const ACTIVE: Active = Active::Windows;
    type Args = ScanArgs;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ScanArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let physical = pool::physical(&kernel);
        let wanted = args.range(session, &kernel)?;
        for found in object_scan::scan(session, &kernel, &physical, &kinds::FILE)?
            .into_iter()
            .filter(|found| wanted.has(found.physical().0))
        {
            let file = FileObject::at(found.target(), found.body);
            out.push(Row {
                free: found.free(),
                offset: found.offset(),
                offset_p: found.physical(),
                ptr_no: found.header.pointers(),
                hnd_no: found.header.handles(),
                access: file.access(),
                owner: found.header.owner().map(|process| process.obj_ref()),
                path: found.text(file.name_place()),
            })?;
        }
        Ok(())
    }
}
