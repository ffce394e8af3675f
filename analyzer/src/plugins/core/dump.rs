//! `dump`: bytes of memory in hexadecimal and as text.
//!
//! Bytes that cannot be read are shown as `??`, never as zeros.
//!
//! Truth: 64 KiB of physical memory of a guest equal the bytes of its raw dump, and environments of processes what they report.

use std::sync::Arc;

use memory::{AddressSpace, FileSpace};

use crate::hexdump::{self, Missing};
use crate::os::address_space::SpaceArg;
use crate::os::symbols::{self, Symbols};
use crate::plugin::prelude::*;

/// The command.
pub struct Dump;

/// Rows shown where nothing says how many.
const ROWS: u64 = 32;
/// Most bytes of one row.
const MAX_WIDTH: u16 = 4096;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where to start: an address or symbol
    #[arg(value_name = "ADDRESS", default_value = "0")]
    pub offset: String,
    /// What the address means
    #[command(flatten)]
    pub space: SpaceArg,
    /// Show this text instead of memory
    #[arg(long, value_name = "TEXT")]
    pub data: Option<String>,
    /// Bytes to show
    #[arg(long, value_name = "BYTES", value_parser = crate::parse::address)]
    pub length: Option<u64>,
    /// Bytes in a row
    #[arg(long, value_name = "BYTES", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_WIDTH)))]
    pub width: u16,
    /// Rows to show, where --length does not say how much
    #[arg(long, value_name = "N")]
    pub rows: Option<u64>,
}

row! {
    pub struct Row {
        /// Address of the first byte.
        offset: Address,
        /// The bytes in hexadecimal, then as text; `??` cannot be read.
        hexdump: String,
        /// Symbols that begin in the row; in the first row the one that precedes it.
        comment: Option<String>,
    }
}

impl Plugin for Dump {
    const NAME: &'static str = "dump";
    const SUMMARY: &'static str = "Show memory in hexadecimal";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let start = symbols::address(session, &args.offset)?;
        let (space, resolver): (Arc<dyn AddressSpace>, _) = match &args.data {
            Some(text) => (Arc::new(FileSpace::from_vec(text.clone().into_bytes())), None),
            None => {
                let name = args.space.name(session);
                let resolver = if name.is_virtual() { Some(symbols::symbols(session)?) } else { None };
                (name.open(session)?, resolver)
            }
        };
        let width = u64::from(args.width);
        let length = match (args.length, args.rows, &args.data) {
            (Some(length), ..) => length,
            (None, Some(rows), _) => rows.saturating_mul(width),
            (None, None, Some(_)) => space.end().saturating_sub(start),
            (None, None, None) => ROWS.saturating_mul(width),
        };
        let mut lost = Missing::default();
        let mut done = 0;
        while done < length {
            let Some(address) = start.checked_add(done) else {
                session.notes.info("the address space ends here");
                break;
            };
            // The last address there is has no successor.
            let left = length.saturating_sub(done).min(u64::MAX.wrapping_sub(address).saturating_add(1));
            let bytes = hexdump::read(&*space, address, width.min(left), MAX_WIDTH.into(), &mut lost);
            let comment =
                resolver.as_ref().and_then(|resolver| comment(&**resolver, address, width, done == 0));
            out.push(Row {
                offset: Address(address),
                hexdump: hexdump::row(&bytes, usize::from(args.width)),
                comment,
            })?;
            done = done.saturating_add(width);
        }
        if let Some((address, fault)) = lost.first {
            session
                .notes
                .partial(format!("{} bytes cannot be read, first at {address:#x}: {fault}", lost.count));
        }
        if let Some(resolver) = resolver {
            resolver.report(&session.notes);
        }
        Ok(())
    }
}

fn comment(resolver: &dyn Symbols, address: u64, width: u64, first: bool) -> Option<String> {
    let mut names: Vec<String> = resolver
        .symbols_between(address, address.saturating_add(width))
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    if first
        && let Some(name) = resolver.describe(address)
        && !names.contains(&name)
    {
        names.insert(0, name);
    }
    (!names.is_empty()).then(|| names.join(", "))
}
