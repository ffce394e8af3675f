//! `yarascan`: places in memory where YARA rules match: physical memory, the kernel's, or that of processes.
//!
//! Rules come from files or as text. A rule is decided for each block of memory whose pages follow each other, up to 16 MiB; in
//! physical memory pages of one program are not neighbours, in that of its process they are.
//!
//! Truth: for physical memory the hits of Debian's `yara` on the same file (tests/yara.rs); the memory of processes is walked as for
//! `grep`, which is compared.

use crate::hexdump;
use crate::os::search::SearchArgs;
use crate::os::yara::RuleArgs;
use crate::plugin::prelude::*;

/// The command.
pub struct Yarascan;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    search: SearchArgs,
}

row! {
    pub struct Row {
        /// The process whose memory it is; absent for physical and kernel memory.
        owner as "Owner": Option<ObjRef>,
        /// The rule.
        rule as "Rule": String,
        /// The string of the rule.
        pattern as "Match": String,
        /// Where it is.
        offset as "Offset": Address,
        /// Memory there, in hexadecimal and as text.
        hexdump: String,
        /// Address space: P, K or pid@N.
        space as "Context": String,
    }
}

impl Plugin for Yarascan {
    const NAME: &'static str = "yarascan";
    const SUMMARY: &'static str = "Search memory with YARA rules";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let RuleArgs { context, pre_context, .. } = args.rules;
        args.rules.each_hit(session, &args.search.regions(session)?, |region, hit| {
            let first = hit.address.saturating_sub(pre_context.into());
            out.push(Row {
                owner: region.owner.clone(),
                rule: hit.rule.clone(),
                pattern: hit.pattern.clone(),
                offset: Address(hit.address),
                hexdump: hexdump::cell(&*region.space, first, pre_context.saturating_add(context)),
                space: region.name.clone(),
            })
        })
    }
}
