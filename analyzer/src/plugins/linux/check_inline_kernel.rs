//! `check_inline_kernel`: functions of the kernel that were overwritten to lead elsewhere.
//!
//! Looks at the first instructions of everything in the kernel's code that has a symbol (x86 and ARM64): jumps, calls and returns that leave
//! the kernel's code. What ftrace put there for someone on its list is shown, but is no finding: `ftrace`
//! tells for whom. Breakpoints, and patches further inside a function, are not seen.
//!
//! Truth: clean guests of 5.10, 6.1 and 6.12 have none; the guest 6.1-hostile has the function that our module overwrote.

use crate::os::linux::KernelFact;
use crate::os::linux::code::Code;
use crate::os::linux::{ftrace, inline_hook};
use crate::plugin::prelude::*;

/// The command.
pub struct CheckInlineKernel;

row! {
    pub struct Row {
        /// The function.
        function: Option<String>,
        /// Where it begins.
        address: Address,
        /// How it leads away: `jump`, `call`, or `push and return`.
        detour: &'static str,
        /// Where it leads.
        destination: Address,
        /// The symbol there.
        symbol: Option<String>,
        /// The module that holds the code; absent for memory of nobody.
        module_name: Option<String>,
        /// Its first bytes.
        code: Vec<u8>,
        /// Whether it is not ftrace that did it.
        hooked: bool,
    }
}

impl Plugin for CheckInlineKernel {
    const NAME: &'static str = "check_inline_kernel";
    const SUMMARY: &'static str = "Find functions of the kernel that were overwritten";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let (target, code) = (kernel.target(), Code::of(session)?);
        if !matches!(target.types().profile().arch(), Some("AMD64" | "I386" | "ARM64")) {
            return Err(Error::analysis(
                "not applicable: instructions of this processor are not known to this command",
            ));
        }
        // A kernel without ftrace has no list.
        let ops = ftrace::hooks(&session.notes, target).unwrap_or_default();
        let (patched, missing) = inline_hook::patched(target, &code, &ops);
        if missing > 0 {
            session.notes.partial(format!("{missing} functions cannot be read"));
        }
        for found in patched {
            let to = found.detour.destination();
            let judged = code.judge(to);
            out.push(Row {
                function: code.judge(found.function).symbol,
                address: Address(found.function),
                detour: found.detour.name(),
                destination: Address(to),
                symbol: judged.symbol,
                module_name: judged.module,
                code: found.code,
                hooked: !found.ftrace,
            })?;
        }
        Ok(())
    }
}
