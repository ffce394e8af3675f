//! Names of addresses and addresses of names, whatever the system.

use std::sync::Arc;

use object::Read;

use super::expression::{Base, Expression};
use super::system::{System, SystemFact};
use super::{linux, windows};
use crate::error::Error;
use crate::notes::Notes;
use crate::session::Session;

/// Symbols of a kernel and its modules. The kernel is the module `linux` or `nt`.
pub trait Symbols: Send + Sync {
    /// Gets ready the symbols of a module that the user names, where that takes more than what is at hand. Failure is noted.
    fn prepare(&self, _session: &Session, _module: &str) {}

    /// The address of a symbol of one module.
    fn symbol_of(&self, module: &str, symbol: &str) -> Result<u64, Error>;

    /// The address of a name without a module: a symbol of the kernel, or else a module (its base), or what the system
    /// allows besides.
    fn bare_name(&self, name: &str) -> Result<u64, Error>;

    /// The pointer at an address of the kernel.
    fn read_pointer(&self, address: u64) -> Read<u64>;

    /// Every symbol whose name matches, as `module!symbol`, sorted by address; `pattern` may have wildcards in both
    /// parts and means the kernel's symbols where it names no module.
    fn search(&self, pattern: &str) -> Result<Vec<(String, u64)>, Error>;

    /// All names of an address: `module!symbol`, `module!symbol+0x1f`, or `module+0x1f` where no symbol precedes it in its
    /// module; fewest leading underscores first, then shortest, then by alphabet. Empty for memory of no module.
    fn names(&self, address: u64) -> Vec<String>;

    /// Addresses inside `start..end` where symbols begin, ascending, each with its first name as `module!symbol`.
    fn symbols_between(&self, start: u64, end: u64) -> Vec<(u64, String)>;

    /// Notes what is missing from the symbol tables that were read so far.
    fn report(&self, notes: &Notes);

    /// The address a parsed expression means; see [`Expression`] for the syntax.
    fn evaluate(&self, expression: &Expression<'_>) -> Result<u64, Error> {
        let base = match expression.base {
            Base::Address(address) => address,
            Base::Name { module: Some(module), symbol } => self.symbol_of(module, symbol)?,
            Base::Name { module: None, symbol } => self.bare_name(symbol)?,
        };
        let address = base.wrapping_add(expression.offset);
        if !expression.deref {
            return Ok(address);
        }
        let pointer = self.read_pointer(address);
        pointer.map_err(|why| Error::analysis(format!("cannot read the pointer that is meant: {why}")))
    }

    /// The first of [`Symbols::names`].
    fn describe(&self, address: u64) -> Option<String> {
        self.names(address).into_iter().next()
    }

    /// The address an expression means.
    fn resolve(&self, text: &str) -> Result<u64, Error> {
        self.evaluate(&Expression::parse(text).map_err(Error::usage)?)
    }
}

/// The symbols of the session's image.
pub fn symbols(session: &Session) -> Result<Arc<dyn Symbols>, Error> {
    Ok(match *session.fact::<SystemFact>()? {
        System::Linux => session.fact::<linux::resolver::ResolverFact>()?,
        System::Windows => session.fact::<windows::resolver::ResolverFact>()?,
    })
}

/// The address an argument means. A plain number needs no kernel and no image.
pub fn address(session: &Session, text: &str) -> Result<u64, Error> {
    let expression = Expression::parse(text).map_err(Error::usage)?;
    match expression.literal() {
        Some(address) => Ok(address),
        None => {
            let symbols = symbols(session)?;
            if let Base::Name { module: Some(module), .. } = expression.base {
                symbols.prepare(session, module);
            }
            symbols.evaluate(&expression)
        }
    }
}

/// Names of symbols at one place, as users see them.
pub(super) fn named(module: &str, names: &[String], distance: u64) -> Vec<String> {
    let mut names: Vec<&String> = names.iter().collect();
    names.sort_by_key(|name| (name.len() - name.trim_start_matches('_').len(), name.len(), name.as_str()));
    let suffix = if distance == 0 { String::new() } else { format!("+{distance:#x}") };
    names.into_iter().map(|name| format!("{module}!{name}{suffix}")).collect()
}
