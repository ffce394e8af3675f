//! `modscan`: scan physical memory for entries of the list of kernel modules.
//!
//! Finds modules that were taken off the list or unloaded; compare with `modules`. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::scan_range::ScanArgs;
use crate::os::windows::{KernelFact, module_scan, pool};
use crate::plugin::prelude::*;

/// The command.
pub struct Modscan;

row! {
    pub struct Row {
        /// Virtual address of the entry; absent where the kernel maps that memory nowhere.
        offset: Option<Address>,
        /// Its physical address.
        offset_p: Address,
        /// File name.
        name: Read<String>,
        /// Where the module is mapped.
        base: Read<Address>,
        /// Bytes it takes in memory.
        size: Read<ByteSize>,
        /// Path it was loaded from.
        file: Read<String>,
    }
}

impl Plugin for Modscan {
    const NAME: &'static str = "modscan";
    const SUMMARY: &'static str = "Scan physical memory for kernel modules";
    const ACTIVE: Active = Active::Windows;
    type Args = ScanArgs;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ScanArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let physical = pool::physical(&kernel);
        let wanted = args.range(session, &kernel)?;
        for found in module_scan::scan(session, &kernel)?.into_iter().filter(|found| wanted.has(found.body)) {
            let module = found.module(&physical);
            let (name, file) = found.names(&kernel, &physical);
            out.push(Row {
                offset: found.virtual_body.map(Address),
                offset_p: Address(found.body),
                name,
                base: module.base().map(Address),
                size: module.size().map(|size| ByteSize(size.into())),
                file,
            })?;
        }
        Ok(())
    }
}
