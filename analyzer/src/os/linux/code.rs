//! Whether pointers to code lead into the kernel's own code, a module's, or nowhere.

use std::ops::Range;
use std::sync::Arc;

use object::Read;

use super::resolver::{KERNEL, Resolver, ResolverFact};
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
#[derive(Debug, Clone)]
pub struct Target {
    /// `module!symbol+0x1`, where there is one.
    pub symbol: Option<String>,
    /// The module that holds it, also one that hides; `linux` is the kernel.
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
            own: self.is_own(address),
        }
    }

    /// The symbol and the module that hold an address, where both it and they are known.
    #[must_use]
    pub fn names_of(&self, address: &Read<u64>) -> (Option<String>, Option<String>) {
        let judged = address.as_ref().ok().map(|address| self.judge(*address));
        judged.map_or((None, None), |judged| (judged.symbol, judged.module))
    }

    /// Whether an address is in the kernel's own code.
    #[must_use]
    pub fn is_own(&self, address: u64) -> bool {
        self.text.iter().any(|text| text.contains(&address))
    }

    /// Whether an address is neither in the kernel's code nor in a module that is listed.
    #[must_use]
    pub fn is_nobodys(&self, address: u64) -> bool {
        !self.is_own(address) && !self.resolver.is_listed(address)
    }

    /// Whether a pointer that stands at `place` leads where it must not: out of the kernel's code where the kernel's image
    /// holds the pointer, and else into the code of nobody.
    pub fn is_hooked(&self, place: u64, pointer: &Read<u64>) -> Read<bool> {
        let pointer = pointer.clone()?;
        let kernels = self.resolver.module_of(place) == Some(KERNEL);
        Ok(if kernels { !self.is_own(pointer) } else { self.is_nobodys(pointer) })
    }

    /// The run-time addresses of the kernel's code that stays after start-up.
    #[must_use]
    pub fn kernel_text(&self) -> Range<u64> {
        self.text[0].clone()
    }

    /// Functions and other symbols that begin inside the range, ascending.
    #[must_use]
    pub fn symbols_between(&self, range: Range<u64>) -> Vec<(u64, String)> {
        self.resolver.symbols_between(range.start, range.end)
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
