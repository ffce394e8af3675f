//! `sigscan`: places in memory where byte signatures stand.
//!
//! A signature is hexadecimal digits, `??` for any one byte and `*` for any number of bytes up to 255, fewest first:
//! `000102*0506`. Truth: `grep -obaP` on raw dumps of guests.

use crate::hexdump;
use crate::os::search::{Patterns, SearchArgs};
use crate::plugin::prelude::*;

/// The command.
pub struct Sigscan;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Signatures: hexadecimal digits, ?? for any byte, * for any bytes
    #[arg(required = true, value_name = "SIGNATURE")]
    signatures: Vec<String>,
    #[command(flatten)]
    search: SearchArgs,
}

row! {
    pub struct Row {
        /// The process whose memory it is; absent for physical and kernel memory.
        owner as "Owner": Option<ObjRef>,
        /// Address space: P, K or pid@N.
        space as "Context": String,
        /// Where it is.
        offset: Address,
        /// Bytes that match.
        length: ByteSize,
        /// The signature.
        signature: String,
        /// Memory there, in hexadecimal and as text.
        hexdump: String,
    }
}

impl Plugin for Sigscan {
    const NAME: &'static str = "sigscan";
    const SUMMARY: &'static str = "Search memory for byte signatures";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let patterns = Patterns::signatures(&args.signatures)?;
        for region in args.search.regions(session)? {
            for hit in patterns.find(session, &region) {
                out.push(Row {
                    owner: region.owner.clone(),
                    space: region.name.clone(),
                    offset: Address(hit.address),
                    length: ByteSize(hit.len as u64),
                    signature: args.signatures.get(hit.pattern).cloned().unwrap_or_default(),
                    hexdump: hexdump::cell(&*region.space, hit.address, 32),
                })?;
            }
        }
        Ok(())
    }
}
