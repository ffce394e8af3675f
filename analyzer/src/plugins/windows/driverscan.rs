//! `driverscan`: scan physical memory for driver objects.
//!
//! Finds drivers that no list names any more. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::pool::{self, kinds};
use crate::os::windows::scan_range::ScanArgs;
use crate::os::windows::{KernelFact, driver::Driver, object_scan};
use crate::plugin::prelude::*;

/// The command.
pub struct Driverscan;

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
        /// Where its module is mapped.
        start: Read<Address>,
        /// Bytes of its module.
        size: Read<ByteSize>,
        /// Its name in the registry's list of services.
        servicekey: Read<String>,
        /// Its name in its directory.
        name: Read<String>,
        /// Full name of its object.
        path: Read<String>,
    }
}

impl Plugin for Driverscan {
    const NAME: &'static str = "driverscan";
    const SUMMARY: &'static str = "Scan physical memory for drivers";
    const ACTIVE: Active = Active::Windows;
    type Args = ScanArgs;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ScanArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let physical = pool::physical(&kernel);
        let wanted = args.range(session, &kernel)?;
        for found in object_scan::scan(session, &kernel, &physical, &kinds::DRIVER)?
            .into_iter()
            .filter(|found| wanted.has(found.physical().0))
        {
            let driver = Driver::at(found.target(), found.body);
            out.push(Row {
                free: found.free(),
                offset: found.offset(),
                offset_p: found.physical(),
                ptr_no: found.header.pointers(),
                hnd_no: found.header.handles(),
                start: driver.start().map(Address),
                size: driver.size().map(|size| ByteSize(size.into())),
                servicekey: driver.service_key(kernel.target()),
                name: found.header.name(),
                path: found.text(driver.name_place()),
            })?;
        }
        Ok(())
    }
}
