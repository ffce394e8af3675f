//! `vad`: what each process has mapped and reserved.
//!
//! Walks the tree of VADs in order of addresses. A range that was taken out of the tree does not appear. Truth: the output of
//! original Rekall for a Windows 7 system (4,581 VADs of 35 processes).

use crate::os::windows::vad::{self, Vad as View};
use crate::os::windows::{KernelFact, Process, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Vad;

/// Options.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Show only ranges whose file name matches this regular expression, case-insensitive
    #[arg(long, value_name = "REGEX", value_parser = crate::parse::regex)]
    pub regex: Option<regex::Regex>,
    /// Show only the range that holds this address
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address)]
    pub offset: Option<u64>,
    /// Which processes
    #[command(flatten)]
    pub processes: ProcessFilter,
}

row! {
    pub struct Row {
        /// The process.
        process as "_EPROCESS": ObjRef,
        /// The descriptor; `_MMVAD_SHORT` for memory of no section.
        vad as "VAD": ObjRef,
        /// Level in the tree; the root has 1.
        level as "lev": u16,
        /// First address.
        start: Read<Address>,
        /// Last address.
        end: Read<Address>,
        /// Pages that count against the commit limit; absent where the kernel does not count them.
        commit as "com": Read<u64>,
        /// `Private` memory, or `Mapped` of a section.
        kind as "type": Read<&'static str>,
        /// `Exe` where code may run in it; else empty.
        executable as "exe": Read<&'static str>,
        /// Protection of its pages when it was mapped.
        protect: Read<String>,
        /// Mapped file, without its drive; absent for private and shared memory.
        filename: Read<String>,
    }
}

impl Plugin for Vad {
    const NAME: &'static str = "vad";
    const SUMMARY: &'static str = "List the memory ranges of processes";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for process in args.processes.processes(session, &kernel)? {
            match vad::tree(&process) {
                Ok(tree) => {
                    for damage in &tree.damage {
                        session.notes.partial(format!("{}: {damage}", process.describe()));
                    }
                    for node in tree.nodes {
                        let view = View::at(kernel.target(), node.addr);
                        emit(args, &process, &view, node.depth, out)?;
                    }
                }
                Err(why) if why.is_loss() => {
                    session.notes.partial(format!("VADs of {} are missing: {why}", process.describe()));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }
}

fn emit(
    args: &Args,
    process: &Process<'_>,
    vad: &View<'_>,
    level: u16,
    out: &mut Rows<'_, Row>,
) -> Result<(), Error> {
    let (start, end, filename) = (vad.start(), vad.last(), vad.file_name());
    if let Some(regex) = &args.regex
        && !filename.as_ref().is_ok_and(|name| regex.is_match(name))
    {
        return Ok(());
    }
    if let (Some(wanted), Ok(start), Ok(end)) = (args.offset, &start, &end)
        && !(*start..=*end).contains(&wanted)
    {
        return Ok(());
    }
    let protection = vad.protection();
    out.push(Row {
        process: process.obj_ref(),
        vad: ObjRef {
            type_name: vad.struct_name().unwrap_or(View::STRUCT),
            addr: vad.addr(),
            tags: Vec::new(),
        },
        level,
        start: start.map(Address),
        end: end.map(Address),
        commit: vad.commit(),
        kind: vad.kind(),
        executable: protection.clone().map(|protection| if protection.is_executable() { "Exe" } else { "" }),
        protect: protection.map(vad::Protection::name),
        filename,
    })
}
