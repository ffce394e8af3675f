//! `ewfacquire`: writes physical memory as an EWF file (E01) of one segment.
//!
//! The media is the raw form: what lies between runs is zeros. Chunks are compressed on all cores and carry checksums, the
//! file an MD5. Truth: Debian's ewfverify and ewfexport.

use memory::write;

use crate::copied::{self, Destination};
use crate::plugin::prelude::*;

/// The command.
pub struct Ewfacquire;

/// Where to, and what to say about it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    to: Destination,
    /// Description kept in the file
    #[arg(long, value_name = "TEXT", default_value = "physical memory")]
    description: String,
}

impl Plugin for Ewfacquire {
    const NAME: &'static str = "ewfacquire";
    const SUMMARY: &'static str = "Copy physical memory into an EWF (E01) file";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = copied::Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Self::Row>) -> Result<(), Error> {
        let space = &*session.image()?.space;
        copied::copy(session, &args.to, out, |file, progress| {
            write::ewf(space, &args.description, file, progress)
        })
    }
}
