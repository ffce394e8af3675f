//! `privileges`: what processes may do: the privileges in their tokens.
//!
//! One that is enabled but not by default was asked for by the program. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::token::token;
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Privileges;

row! {
    pub struct Row {
        /// The process.
        process as "Process": ObjRef,
        /// Number of the privilege.
        value as "Value": u64,
        /// Its name; absent for a number that has none.
        privilege as "Privileges": Option<&'static str>,
        /// Whether it is in force, and was from the start.
        attributes as "Attributes": String,
    }
}

impl Plugin for Privileges {
    const NAME: &'static str = "privileges";
    const SUMMARY: &'static str = "List what processes may do: the privileges in their tokens";
    const ACTIVE: Active = Active::Windows;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for process in args.processes(session, &kernel)? {
            let found = match token(&process).and_then(|token| token.privileges()) {
                Ok(found) => found,
                Err(why) if why.is_loss() => {
                    session.notes.partial(format!("token of {} is missing: {why}", process.describe()));
                    continue;
                }
                Err(_) => continue,
            };
            for privilege in found {
                out.push(Row {
                    process: process.obj_ref(),
                    value: privilege.number.into(),
                    privilege: privilege.name(),
                    attributes: privilege.attributes(),
                })?;
            }
        }
        Ok(())
    }
}
