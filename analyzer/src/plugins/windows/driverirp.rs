//! `driverirp`: which functions serve the requests to drivers.
//!
//! A function in another module than the driver's is the kernel's refusal, a library's, or a hook. Drivers of directories and of a scan. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::symbols::symbols;
use crate::os::windows::KernelFact;
use crate::os::windows::driver::{Driver, REQUESTS, drivers};
use crate::plugin::prelude::*;

/// The command.
pub struct Driverirp;

/// Options.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Show only drivers whose name matches this regular expression, case-insensitive
    #[arg(long, value_name = "REGEX", value_parser = crate::parse::regex)]
    pub regex: Option<regex::Regex>,
}

row! {
    pub struct Row {
        /// The driver.
        driver as "_DRIVER_OBJECT": ObjRef,
        /// Number of the request.
        idx: u64,
        /// Its name.
        function: &'static str,
        /// Address of the function that serves it, as Rekall spells it.
        address as "func_addres": Read<Address>,
        /// Symbol there.
        name: Option<String>,
    }
}

impl Plugin for Driverirp {
    const NAME: &'static str = "driverirp";
    const SUMMARY: &'static str = "Show which functions serve the requests of drivers";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let symbols = symbols(session)?;
        for addr in drivers(session, &kernel)? {
            let driver = Driver::at(kernel.target(), addr);
            if let Some(regex) = &args.regex
                && !driver.name().is_ok_and(|name| regex.is_match(&name))
            {
                continue;
            }
            for (idx, function) in (0u64..).zip(REQUESTS) {
                let address = driver.function(idx);
                let name = address.as_ref().ok().and_then(|address| symbols.describe(*address));
                let address = address.map(Address);
                out.push(Row { driver: driver.obj_ref(), idx, function, address, name })?;
            }
        }
        symbols.report(&session.notes);
        Ok(())
    }
}
