//! `lsmod_parameters`: parameters of kernel modules and of the kernel's own parts, with their values.
//!
//! Reads `module.kp` of the listed modules and the kernel's table `__param`. Values are printed as in
//! `/sys/module/NAME/parameters` where one of the kernel's own functions prints them; what a module prints itself is absent.
//! Parameters without a file there (mode 0) are shown too.
//!
//! Truth: that folder of guests of 5.10, 6.1 and 6.12, every file.

use crate::os::linux::KernelFact;
use crate::os::linux::code::Code;
use crate::os::linux::module::modules;
use crate::os::linux::parameter::{Parameter, built_in, parameters};
use crate::plugin::prelude::*;

/// The command.
pub struct LsmodParameters;

row! {
    pub struct Row {
        /// The module; `kernel` for parameters that belong to no part of the kernel.
        name: Read<String>,
        /// Name of the parameter.
        key: Read<String>,
        /// Its value, as `/sys/module` shows it.
        value as "parameter_value": Read<String>,
        /// Permissions of its file in `/sys/module`, octal; 0 for no file.
        mode: Read<String>,
        /// The function that prints it.
        printer: Option<String>,
    }
}

impl Plugin for LsmodParameters {
    const NAME: &'static str = "lsmod_parameters";
    const SUMMARY: &'static str = "List parameters of kernel modules and their values";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let code = Code::of(session)?;
        let row = |name, key, parameter: &Parameter<'_>| Row {
            name,
            key,
            value: parameter.value(),
            mode: parameter.mode().map(|mode| format!("{mode:o}")),
            printer: parameter.printer().ok().and_then(|printer| code.judge(printer).symbol),
        };
        for module in modules(&session.notes, kernel.target())? {
            match parameters(&module) {
                Ok(list) => {
                    for parameter in list {
                        out.push(row(module.label(), parameter.label(), &parameter))?;
                    }
                }
                Err(why) => {
                    session.notes.partial(format!("parameters of the module at {:#x}: {why}", module.addr()));
                }
            }
        }
        match built_in(kernel.target()) {
            Ok(list) => {
                for parameter in list {
                    let (name, key) = match parameter.label() {
                        Ok(label) => match label.split_once('.') {
                            Some((part, key)) => (Ok(part.to_owned()), Ok(key.to_owned())),
                            None => (Ok("kernel".to_owned()), Ok(label)),
                        },
                        Err(why) => (Err(why.clone()), Err(why)),
                    };
                    out.push(row(name, key, &parameter))?;
                }
            }
            Err(why) => session.notes.partial(format!("parameters of the kernel: {why}")),
        }
        Ok(())
    }
}
