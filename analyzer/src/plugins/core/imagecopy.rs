//! `imagecopy`: writes physical memory as a raw file in which offset and physical address are the same, as LiME or as an
//! ELF core.
//!
//! Reads the runs of the image. What lies between runs, and pages of zeros, become holes of a sparse raw file; pages that
//! cannot be read become zeros and are reported. Truth: the raw dump of the same paused guest.

use memory::write;

use crate::copied::{self, Destination};
use crate::plugin::prelude::*;

/// The command.
pub struct Imagecopy;

/// Formats.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Form {
    /// Offsets are physical addresses
    Raw,
    /// LiME, as the Linux module writes it
    Lime,
    /// ELF core for x86-64
    Elf,
}

/// Where to, and in which format.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    to: Destination,
    /// Format of the file
    #[arg(long = "as", value_name = "FORMAT", value_enum, default_value = "raw")]
    form: Form,
}

impl Plugin for Imagecopy {
    const NAME: &'static str = "imagecopy";
    const SUMMARY: &'static str = "Copy physical memory into a raw, LiME or ELF file";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = copied::Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Self::Row>) -> Result<(), Error> {
        let image = session.image()?;
        let space = &*image.space;
        copied::copy(session, &args.to, out, |file, progress| match args.form {
            Form::Raw => {
                file.set_len(space.end())?;
                write::raw(space, file, progress)
            }
            Form::Lime => write::lime(space, file, progress),
            Form::Elf => write::elf_core(space, &image.hints, file, progress),
        })
    }
}
