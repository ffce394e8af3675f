//! `grep`: places in memory where words stand, or regular expressions match.
//!
//! Truth: `grep -obaF` and `grep -obaP` on raw dumps of guests.

use crate::hexdump;
use crate::os::search::{Patterns, SearchArgs};
use crate::plugin::prelude::*;

/// The command.
pub struct Grep;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Words to search for, as they are
    #[arg(required = true, value_name = "KEYWORD")]
    keywords: Vec<String>,
    /// The words are regular expressions over bytes
    #[arg(long)]
    regex: bool,
    /// Bytes shown before a match
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    before: u16,
    /// Bytes shown from a match on
    #[arg(long, value_name = "BYTES", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    after: u16,
    /// Longest match of a regular expression that is found wherever it stands, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    longest: u32,
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
        /// What was searched for.
        keyword: String,
        /// Memory there, in hexadecimal and as text.
        hexdump: String,
    }
}

impl Plugin for Grep {
    const NAME: &'static str = "grep";
    const SUMMARY: &'static str = "Search memory for words or regular expressions";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let patterns = match args.regex {
            true => Patterns::expressions(&args.keywords, usize::try_from(args.longest).unwrap_or(4096))?,
            false => Patterns::words(&args.keywords)?,
        };
        for region in args.search.regions(session)? {
            for hit in patterns.find(session, &region) {
                let first = hit.address.saturating_sub(args.before.into());
                out.push(Row {
                    owner: region.owner.clone(),
                    space: region.name.clone(),
                    offset: Address(hit.address),
                    length: ByteSize(hit.len as u64),
                    keyword: args.keywords.get(hit.pattern).cloned().unwrap_or_default(),
                    hexdump: hexdump::cell(&*region.space, first, args.before.saturating_add(args.after)),
                })?;
            }
        }
        Ok(())
    }
}
