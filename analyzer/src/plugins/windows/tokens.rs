//! `tokens`: whom processes act as: the users and groups in their tokens.
//!
//! The user comes first. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::token::token;
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Tokens;

row! {
    pub struct Row {
        /// The process.
        process as "Process": ObjRef,
        /// Identifier of the user or group.
        sid as "Sid": Read<String>,
        /// What it is called, where that is the same on all systems.
        comment as "Comment": Option<&'static str>,
    }
}

impl Plugin for Tokens {
    const NAME: &'static str = "tokens";
    const SUMMARY: &'static str = "List whom processes act as: the users and groups in their tokens";
    const ACTIVE: Active = Active::Windows;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for process in args.processes(session, &kernel)? {
            let found = match token(&process).and_then(|token| token.sids()) {
                Ok(found) => found,
                Err(why) if why.is_loss() => {
                    session.notes.partial(format!("token of {} is missing: {why}", process.describe()));
                    continue;
                }
                Err(_) => continue,
            };
            for sid in found {
                let comment = sid.as_ref().ok().and_then(crate::os::windows::sid::Sid::name);
                let sid = sid.map(|sid| sid.to_string());
                out.push(Row { process: process.obj_ref(), sid, comment })?;
            }
        }
        Ok(())
    }
}
