//! `handles`: what processes have open.
//!
//! Walks the handle table of each process. Processes that ended have none. Truth: the number of handles of each process in the output
//! of original Rekall for a Windows 7 system.

use std::collections::HashMap;

use crate::os::windows::object_header::ObjectHeader;
use crate::os::windows::{KernelFact, Process, ProcessFilter, handle, names};
use crate::plugin::prelude::*;

/// The command.
pub struct Handles;

/// Options.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Show only objects of these types: File, Key, Process, ...; repeat for more
    #[arg(short = 't', long, value_name = "TYPE", value_delimiter = ',')]
    pub object_types: Vec<String>,
    /// Show only objects that have a name
    #[arg(long)]
    pub named_only: bool,
    /// Which processes
    #[command(flatten)]
    pub processes: ProcessFilter,
}

row! {
    pub struct Row {
        /// The header of the object.
        header as "_OBJECT_HEADER": Address,
        /// The process.
        process as "_EPROCESS": ObjRef,
        /// The value the program uses.
        handle: u64,
        /// Access rights that were granted, a mask.
        access: Address,
        /// Type of the object.
        obj_type: Read<String>,
        /// What identifies the object; absent for one without a name.
        details: Read<String>,
    }
}

impl Plugin for Handles {
    const NAME: &'static str = "handles";
    const SUMMARY: &'static str = "List open handles of processes";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for process in args.processes.processes(session, &kernel)? {
            let table = process.object_table().and_then(|table| table.non_null("no handle table"));
            match table.and_then(|table| handle::handles(kernel.target(), table)) {
                Ok(found) => {
                    if let Some(damage) = &found.damage {
                        let whose = process.describe();
                        session
                            .notes
                            .partial(format!("handle table of {whose} cannot be read whole: {damage}"));
                    }
                    emit(args, &process, &found, out)?;
                }
                Err(why) if why.is_loss() => {
                    session.notes.partial(format!("handles of {} are missing: {why}", process.describe()));
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
    found: &handle::Handles,
    out: &mut Rows<'_, Row>,
) -> Result<(), Error> {
    // There are few types and many handles.
    let mut types: HashMap<u64, Read<String>> = HashMap::new();
    for handle in &found.handles {
        let header = ObjectHeader::at(process.target(), handle.object);
        let obj_type = match header.object_type() {
            Ok(kind) => types.entry(kind.addr()).or_insert_with(|| kind.name()).clone(),
            Err(why) => Err(why),
        };
        let wanted = |name: &String| args.object_types.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
        if !args.object_types.is_empty() && !obj_type.as_ref().is_ok_and(wanted) {
            continue;
        }
        let details = obj_type.clone().and_then(|name| names::describe(&header, &name));
        if args.named_only && !details.as_ref().is_ok_and(|name| !name.is_empty()) {
            continue;
        }
        out.push(Row {
            header: Address(handle.object),
            process: process.obj_ref(),
            handle: handle.value,
            access: Address(handle.access.into()),
            obj_type,
            details,
        })?;
    }
    Ok(())
}
