//! `address_resolver`: addresses of symbols, and symbols of addresses.
//!
//! Symbols of the kernel are those of the profile. Those of Linux modules are read from memory; those of Windows modules
//! are of their own profiles, else what they export. Truth: `/proc/kallsyms`.

use crate::os::expression::Expression;
use crate::os::symbols::{Symbols, address, symbols};
use crate::plugin::prelude::*;

/// The command.
pub struct AddressResolver;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Symbols, patterns or addresses: [*](0xADDRESS|module!symbol|symbol)[+OFFSET], linux!tcp_*; the kernel is the
    /// module linux or nt
    #[arg(value_name = "SYMBOL", required = true)]
    pub symbol: Vec<String>,
}

row! {
    pub struct Row {
        /// The symbol asked for; for an address or pointer, each symbol there, or the one that precedes it.
        symbol as "Symbol": Read<String>,
        /// Its address. Absolute and per-CPU symbols have values that are no addresses.
        offset as "Offset": Address,
    }
}

impl Plugin for AddressResolver {
    const NAME: &'static str = "address_resolver";
    const SUMMARY: &'static str = "Look up symbols and addresses";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let resolver = symbols(session)?;
        for text in &args.symbol {
            if Expression::is_pattern(text) {
                if let Some((module, _)) = text.trim().split_once('!')
                    && !module.contains(['*', '?'])
                {
                    resolver.prepare(session, module);
                }
                let found = resolver.search(text.trim())?;
                if found.is_empty() {
                    session.notes.info(format!("no symbol matches: {text}"));
                }
                for (name, address) in found {
                    out.push(Row { symbol: Ok(name), offset: Address(address) })?;
                }
                continue;
            }
            let address = address(session, text)?;
            let named =
                Expression::parse(text).is_ok_and(|parsed| !parsed.deref && parsed.literal().is_none());
            let names = if named { vec![Ok(text.clone())] } else { names(&*resolver, address) };
            for symbol in names {
                out.push(Row { symbol, offset: Address(address) })?;
            }
        }
        resolver.report(&session.notes);
        Ok(())
    }
}

/// All names of an address, or one absent name.
fn names(resolver: &dyn Symbols, address: u64) -> Vec<Read<String>> {
    let names = resolver.names(address);
    if names.is_empty() {
        return vec![Err(Absent::NotApplicable("in neither the kernel image nor a module"))];
    }
    names.into_iter().map(Ok).collect()
}
