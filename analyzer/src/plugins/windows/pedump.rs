//! `pedump`: writes the executable at an address as a file.
//!
//! For modules that are on no list, such as injected ones that `malfind` or `ldrmodules` shows. Pages that are not in memory are
//! zeros, and reported. Truth: see `procdump`.

use crate::dump_file::DumpArgs;
use crate::os::address_space::SpaceArg;
use crate::os::symbols;
use crate::os::windows::executable::dump;
use crate::plugin::prelude::*;

/// The command.
pub struct Pedump;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where the executable begins: an address or symbol
    #[arg(value_name = "ADDRESS")]
    pub image_base: String,
    /// What the address means
    #[command(flatten)]
    pub space: SpaceArg,
    /// Name of the file [default: pe.ADDRESS]
    #[arg(long, value_name = "NAME")]
    pub out_file: Option<String>,
    /// Where to
    #[command(flatten)]
    pub to: DumpArgs,
}

row! {
    pub struct Row {
        /// Where the executable begins.
        base: Address,
        /// The file that was written.
        filename as "Filename": Read<String>,
        /// Its length.
        size: Read<ByteSize>,
        /// Bytes of it that could not be read and are zeros.
        missing: Read<ByteSize>,
    }
}

impl Plugin for Pedump {
    const NAME: &'static str = "pedump";
    const SUMMARY: &'static str = "Write the executable at an address as a file";
    const ACTIVE: Active = Active::Windows;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let base = symbols::address(session, &args.image_base)?;
        let space = args.space.name(session).open(session)?;
        let name = args.out_file.clone().unwrap_or_else(|| format!("pe.{base:x}"));
        let dumped = dump(session, &args.to, &space, base, &name, "the executable")?;
        out.push(Row {
            base: Address(base),
            filename: dumped.clone().map(|dumped| dumped.file),
            size: dumped.clone().map(|dumped| dumped.size),
            missing: dumped.map(|dumped| dumped.missing),
        })
    }
}
