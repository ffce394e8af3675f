//! `mutantscan`: scan physical memory for mutants, the mutexes of programs.
//!
//! Malware names one to run once only. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::pool::{self, kinds};
use crate::os::windows::scan_range::ScanArgs;
use crate::os::windows::{KernelFact, mutant::Mutant, object_scan};
use crate::plugin::prelude::*;

/// The command.
pub struct Mutantscan;

/// Options.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Show mutants without a name too
    #[arg(long)]
    pub unnamed: bool,
    /// Where to scan
    #[command(flatten)]
    pub scan: ScanArgs,
}

row! {
    pub struct Row {
        /// `F` where the memory was given back.
        free as "a": &'static str,
        /// Its virtual address; absent where the kernel maps that memory nowhere.
        offset: Option<Address>,
        /// Its physical address.
        offset_p: Address,
        /// References to it, those of handles included.
        ptr_no: Read<i64>,
        /// Handles to it.
        hnd_no: Read<i64>,
        /// 1 for a free one; 0 and below for one that is held.
        signal: Read<i32>,
        /// The thread that holds it, an `_ETHREAD`.
        thread: Read<Address>,
        /// Ids of that process and thread.
        cid: Read<String>,
        /// Its name.
        name: Read<String>,
    }
}

impl Plugin for Mutantscan {
    const NAME: &'static str = "mutantscan";
    const SUMMARY: &'static str = "Scan physical memory for mutexes of programs";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let physical = pool::physical(&kernel);
        let wanted = args.scan.range(session, &kernel)?;
        for found in object_scan::scan(session, &kernel, &physical, &kinds::MUTANT)?
            .into_iter()
            .filter(|found| wanted.has(found.physical().0))
        {
            let mutant = Mutant::at(found.target(), found.body);
            let name = found.header.name();
            if !args.unnamed && matches!(name, Err(Absent::NotApplicable(_))) {
                continue;
            }
            out.push(Row {
                free: found.free(),
                offset: found.offset(),
                offset_p: found.physical(),
                ptr_no: found.header.pointers(),
                hnd_no: found.header.handles(),
                signal: mutant.signal(),
                thread: mutant.owner().map(Address),
                cid: mutant.cid(kernel.target()),
                name,
            })?;
        }
        Ok(())
    }
}
