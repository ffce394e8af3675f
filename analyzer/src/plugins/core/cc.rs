//! `cc`: changes the context: what addresses mean to the commands that follow, unless they are told.
//!
//! For `batch`: `rekal -f IMAGE batch 'cc 1' 'dump 0x400000' 'cc 0' 'dump linux_banner'`. Commands with an `--address_space` take the
//! memory of the process for it. In a run of one command it changes nothing that follows.

use crate::os::address_space::SpaceName;
use crate::plugin::prelude::*;

/// The command.
pub struct Cc;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Process id; 0 for the kernel
    #[arg(required = true, value_name = "PID")]
    process: u32,
}

row! {
    pub struct Row {
        /// What addresses mean from here on: K (kernel) or pid@N.
        context as "Context": String,
    }
}

impl Plugin for Cc {
    const NAME: &'static str = "cc";
    const SUMMARY: &'static str = "Change the process whose addresses later commands mean";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let pid =
            i32::try_from(args.process).map_err(|_| Error::usage(format!("no pid: {}", args.process)))?;
        let space = if pid == 0 { SpaceName::Kernel } else { SpaceName::Process(pid) };
        // A process that is not there changes nothing.
        space.open(session)?;
        session.set_context((pid != 0).then_some(pid));
        out.push(Row { context: space.to_string() })
    }
}
