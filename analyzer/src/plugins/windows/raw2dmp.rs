//! `raw2dmp`: writes physical memory as a crash dump that Windows debuggers open.
//!
//! A full dump, 32 or 64 bit as the kernel is; with a bitmap where memory has more runs than the header has room for. The
//! header is made from the kernel: page table root, debugger data, list heads, build, times. Truth: kdmp-parser reads the
//! dumps; no debugger was at hand.

use memory::write;

use crate::copied::{self, Destination};
use crate::os::windows::{KernelFact, dump_header};
use crate::plugin::prelude::*;

/// The command.
pub struct Raw2dmp;

impl Plugin for Raw2dmp {
    const NAME: &'static str = "raw2dmp";
    const SUMMARY: &'static str = "Copy physical memory into a Windows crash dump";
    const ACTIVE: Active = Active::Windows;
    type Args = Destination;
    type Row = copied::Row;

    fn collect(
        &self,
        session: &Session,
        args: &Destination,
        out: &mut Rows<'_, Self::Row>,
    ) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let image = session.image()?;
        let header = dump_header(&kernel, &image.hints);
        copied::copy(session, args, out, |file, progress| {
            write::crash_dump(&*image.space, &header, file, progress)
        })
    }
}
