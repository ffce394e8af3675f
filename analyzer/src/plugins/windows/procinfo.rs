//! `procinfo`: what a process was started with and in which environment.
//!
//! Parameters and environment are in memory that the process may write. Truth: the description of the machine that the maker of test
//! images lays out.

use crate::os::windows::{KernelFact, ProcessFilter, vad};
use crate::plugin::prelude::*;
use crate::table::{Cell as _, Value};

/// The command.
pub struct Procinfo;

row! {
    pub struct Row {
        /// The process.
        process as "_EPROCESS": ObjRef,
        /// `process`, `parameters` or `environment`.
        part: &'static str,
        /// Name of the property or variable.
        name: Read<String>,
        /// Its value.
        value: Read<Value>,
    }
}

impl Plugin for Procinfo {
    const NAME: &'static str = "procinfo";
    const SUMMARY: &'static str = "Show parameters and environment of processes";
    const ACTIVE: Active = Active::Windows;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for process in args.processes(session, &kernel)? {
            let mut push = |part, name: &str, value: Read<Value>| {
                let (process, name) = (process.obj_ref(), Ok(name.to_owned()));
                out.push(Row { process, part, name, value })
            };
            let ranges = vad::tree(&process).map(|tree| (tree.nodes.len() as u64).into_value());
            for (name, value) in [
                ("Parent", process.ppid().map(u64::into_value)),
                ("Created", process.create_time().map(Time::into_value)),
                ("Exited", process.exit_time().map(Time::into_value)),
                ("Page tables (DTB)", process.dtb().map(|dtb| Address(dtb).into_value())),
                ("PEB", process.peb().map(|peb| Address(peb.0).into_value())),
                ("Image (kernel)", process.section_base().map(|base| Address(base.0).into_value())),
                ("Audited path", process.audit_path().map(String::into_value)),
                ("Threads", process.thread_count().map(u64::into_value)),
                ("Handles", process.handle_count().map(u64::into_value)),
                ("Memory ranges", ranges),
            ] {
                push("process", name, value)?;
            }
            let user = match process.user_target(&kernel) {
                Ok(user) => user,
                Err(why) if why.is_loss() => {
                    session.notes.partial(format!("memory of {} is missing: {why}", process.describe()));
                    continue;
                }
                Err(_) => continue,
            };
            for (name, value) in process.parameter_texts(&user) {
                push("parameters", name, value.map(String::into_value))?;
            }
            match process.environment(&user) {
                Ok(environment) => {
                    if let Some(why) = environment.cut {
                        let whose = process.describe();
                        session.notes.partial(format!("the environment of {whose} is cut off: {why}"));
                    }
                    for variable in environment.variables {
                        // Names of current directories begin with the sign: `=C:`.
                        let sign = variable.char_indices().skip(1).find(|(_, character)| *character == '=');
                        let (name, value) = variable.split_at(sign.map_or(variable.len(), |(at, _)| at));
                        let value = value.get(1..).unwrap_or_default();
                        push("environment", name, Ok(value.to_owned().into_value()))?;
                    }
                }
                Err(why) if why.is_loss() && process.exit_time().is_err() => {
                    session
                        .notes
                        .partial(format!("the environment of {} is missing: {why}", process.describe()));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }
}
