//! Whether pointers to code lead into the kernel's own code, a module's, or nowhere.

use std::ops::Range;
use std::sync::Arc;

use super::resolver::{Resolver, ResolverFact};
use super::{Kernel, KernelFact};
use crate::error::Error;
use crate::os::symbols::Symbols as _;
use crate::session::Session;

/// Tells whose code an address is.
pub struct Code {
    resolver: Arc<Resolver>,
    /// Run-time addresses of the kernel's code: what stays, and what is freed after start-up.
    text: [Range<u64>; 2],
}

/// A pointer to code, judged.
pub struct Target {
    /// `module!symbol+0x1`, where there is one.
    pub symbol: Option<String>,
    /// The module that holds it; `linux` is the kernel.
    pub module: Option<String>,
    /// Whether it is where a pointer of the kernel's own tables must lead: the kernel's code.
    pub own: bool,
}

impl Code {
    /// Of the session's kernel.
    pub fn of(session: &Session) -> Result<Self, Error> {
        let kernel = session.fact::<KernelFact>()?;
        Ok(Self { resolver: session.fact::<ResolverFact>()?, text: text(&kernel)? })
    }

    /// Judges an address.
    #[must_use]
    pub fn judge(&self, address: u64) -> Target {
        Target {
            symbol: self.resolver.describe(address),
            module: self.resolver.module_of(address).map(str::to_owned),
            own: self.text.iter().any(|text| text.contains(&address)),
        }
    }

    /// Where the symbol after `address` begins: the end of a table whose length the kernel keeps nowhere.
    #[must_use]
    pub fn next_symbol(&self, address: u64, limit: u64) -> u64 {
        let end = address.saturating_add(limit);
        let behind = self.resolver.symbols_between(address.saturating_add(1), end);
        behind.first().map_or(end, |(next, _)| *next)
    }
}

fn text(kernel: &Kernel) -> Result<[Range<u64>; 2], Error> {
    let target = kernel.target();
    let start = target.symbol("_stext").or_else(|_| target.symbol("_text"))?;
    // Interrupt gates that nobody uses lead into the code of start-up for ever.
    let early = target.symbol("_sinittext").and_then(|start| Ok(start..target.symbol("_einittext")?));
    Ok([start..target.symbol("_etext")?, early.unwrap_or_default()])
}
