//! `simple_yarascan`: places in physical memory where YARA rules match; needs no kernel and no profile.
//!
//! As `yarascan` without an address space. Truth: the hits of Debian's `yara` on the same file (tests/yara.rs).

use std::sync::Arc;

use crate::hexdump;
use crate::os::search::{Region, within};
use crate::os::yara::RuleArgs;
use crate::plugin::prelude::*;

/// The command.
pub struct SimpleYarascan;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    rules: RuleArgs,
    /// Where to start
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address, default_value = "0")]
    start: u64,
    /// Bytes to search from there
    #[arg(long, value_name = "BYTES", value_parser = crate::parse::address)]
    limit: Option<u64>,
}

row! {
    pub struct Row {
        /// The rule.
        rule as "Rule": String,
        /// The string of the rule.
        pattern as "Match": String,
        /// Where it is.
        offset as "Offset": Address,
        /// Memory there, in hexadecimal and as text.
        hexdump: String,
    }
}

impl Plugin for SimpleYarascan {
    const NAME: &'static str = "simple_yarascan";
    const SUMMARY: &'static str = "Search physical memory with YARA rules";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let RuleArgs { context, pre_context, .. } = args.rules;
        let end = args.limit.map_or(u64::MAX, |limit| args.start.saturating_add(limit));
        let space = within(Arc::clone(&session.image()?.space), args.start, end);
        let region = Region { owner: None, name: "P".to_owned(), space };
        args.rules.each_hit(session, &[region], |region, hit| {
            let first = hit.address.saturating_sub(pre_context.into());
            out.push(Row {
                rule: hit.rule.clone(),
                pattern: hit.pattern.clone(),
                offset: Address(hit.address),
                hexdump: hexdump::cell(&*region.space, first, pre_context.saturating_add(context)),
            })
        })
    }
}
