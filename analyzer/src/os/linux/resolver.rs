//! Symbols to addresses and back: the kernel by its profile, modules by the symbol tables in memory.
//!
//! The kernel is the module `linux`. Link-time addresses are moved by its slide; absolute and per-CPU symbols are not,
//! they are offsets. Symbols of modules are read when first asked for. Modules that were taken off the list are known too, as
//! far as sysfs or the tree of addresses has them.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use object::{Absent, Read};

use super::kallsyms::{self, ModuleSymbols};
use super::module::{Module, modules};
use super::module_views::unlisted;
use super::{Kernel, KernelFact};
use crate::error::Error;
use crate::notes::Notes;
use crate::os::expression::matches;
use crate::os::symbols::{Symbols, named};
use crate::session::{Fact, Session};

/// Name of the kernel among the modules.
pub const KERNEL: &str = "linux";
/// Most bytes of symbols of all modules together.
const MODULE_SYMBOLS: usize = 128 << 20;
/// Most modules whose symbols are used; systems have a few hundred.
const MAX_MODULES: usize = 1 << 14;

/// The resolver of the session's image.
pub struct ResolverFact;

impl Fact for ResolverFact {
    type Value = Resolver;
    const NAME: &'static str = "linux symbols";

    fn compute(session: &Session) -> Result<Resolver, Error> {
        let kernel = session.fact::<KernelFact>()?;
        let mut loaded = Vec::new();
        // A kernel without CONFIG_MODULES has no list.
        if kernel.target().symbol("modules").is_ok() {
            let modules = modules(&session.notes, kernel.target())?;
            if modules.len() > MAX_MODULES {
                session.notes.partial(format!("symbols of the first {MAX_MODULES} modules only"));
            }
            let hidden = unlisted(kernel.target(), &modules);
            let listed = modules.iter().map(|module| (module, true));
            let all = listed.chain(hidden.iter().map(|module| (module, false)));
            for (module, listed) in all.take(MAX_MODULES) {
                match Loaded::new(module, listed) {
                    Ok(module) => loaded.push(module),
                    Err(why) => {
                        session
                            .notes
                            .partial(format!("module at {:#x} has no symbols: {why}", module.addr()));
                    }
                }
            }
        }
        Ok(Resolver::new(kernel, loaded))
    }
}

/// A loaded module.
struct Loaded {
    /// Address of its `struct module`.
    addr: u64,
    name: String,
    /// Whether the list of modules has it.
    listed: bool,
    base: Read<u64>,
    /// First address and size of each part.
    ranges: Vec<(u64, u64)>,
    symbols: OnceLock<Read<ModuleSymbols>>,
}

impl Loaded {
    fn new(module: &Module<'_>, listed: bool) -> Read<Self> {
        let (name, ranges) = (module.label()?, module.ranges()?);
        let (addr, base) = (module.addr(), module.base());
        Ok(Self { addr, name, listed, base, ranges, symbols: OnceLock::new() })
    }

    fn range_of(&self, address: u64) -> Option<(u64, u64)> {
        self.ranges.iter().copied().find(|(base, size)| address.wrapping_sub(*base) < *size)
    }
}

/// Symbols of the kernel and its modules.
pub struct Resolver {
    kernel: Arc<Kernel>,
    /// Run-time addresses of the kernel image.
    image: Range<u64>,
    modules: Vec<Loaded>,
    /// Bytes left for symbols of modules.
    budget: AtomicUsize,
}

impl Resolver {
    fn new(kernel: Arc<Kernel>, modules: Vec<Loaded>) -> Self {
        let symbol = |names: &[&str]| names.iter().find_map(|name| kernel.target().symbol(name).ok());
        let start = symbol(&["_text", "_stext"]).unwrap_or(u64::MAX);
        let end = symbol(&["_end", "__bss_stop", "_edata", "_etext"]).unwrap_or(start);
        Self { kernel, image: start..end, modules, budget: AtomicUsize::new(MODULE_SYMBOLS) }
    }

    /// The module that holds an address: `linux`, or a loaded module; `None` for memory of neither.
    #[must_use]
    pub fn module_of(&self, address: u64) -> Option<&str> {
        if self.image.contains(&address) {
            return Some(KERNEL);
        }
        self.modules
            .iter()
            .find(|loaded| loaded.range_of(address).is_some())
            .map(|loaded| loaded.name.as_str())
    }

    /// Whether a module that the list of modules has holds an address.
    #[must_use]
    pub fn is_listed(&self, address: u64) -> bool {
        self.modules.iter().any(|loaded| loaded.listed && loaded.range_of(address).is_some())
    }

    /// Where the symbol that covers an address begins.
    fn symbol_start(&self, address: u64) -> Option<u64> {
        if self.image.contains(&address) {
            let (_, distance) = self.kernel.target().nearest_symbols(address)?;
            return Some(address.wrapping_sub(distance));
        }
        let loaded = self.modules.iter().find(|loaded| loaded.range_of(address).is_some())?;
        let symbols = &self.symbols(loaded).ok()?.symbols;
        let end = symbols.partition_point(|symbol| symbol.address <= address);
        symbols.get(end.checked_sub(1)?).map(|symbol| symbol.address)
    }

    fn symbols<'s>(&'s self, loaded: &'s Loaded) -> Result<&'s ModuleSymbols, &'s Absent> {
        let read = || {
            let left = self.budget.load(Ordering::Relaxed);
            let symbols = kallsyms::symbols(&Module::at(self.kernel.target(), loaded.addr), left)?;
            self.budget.store(left.saturating_sub(symbols.cost()), Ordering::Relaxed);
            Ok(symbols)
        };
        loaded.symbols.get_or_init(read).as_ref()
    }

    fn module(&self, name: &str) -> Option<&Loaded> {
        let name = normal(name);
        self.modules.iter().find(|loaded| loaded.name == name)
    }
}

impl Symbols for Resolver {
    fn symbol_of(&self, module: &str, symbol: &str) -> Result<u64, Error> {
        if module == KERNEL {
            return self.kernel.target().symbol(symbol).map_err(|_| no_symbol(&format!("{KERNEL}!{symbol}")));
        }
        let loaded = self.module(module).ok_or_else(|| {
            Error::usage(format!("no such module: {module}"))
                .with_hint("rekal lsmod lists the loaded modules; the kernel itself is the module linux")
        })?;
        let symbols = self.symbols(loaded).map_err(|why| no_symbols(&loaded.name, why))?;
        let found = symbols.symbols.iter().find(|known| known.name == symbol);
        found.map(|found| found.address).ok_or_else(|| no_symbol(&format!("{}!{symbol}", loaded.name)))
    }

    fn bare_name(&self, name: &str) -> Result<u64, Error> {
        if let Ok(address) = self.kernel.target().symbol(name) {
            return Ok(address);
        }
        if name == KERNEL {
            return Ok(self.image.start);
        }
        if let Some(loaded) = self.module(name) {
            return loaded.base.clone().map_err(Error::from);
        }
        let mut holders = Vec::new();
        for loaded in &self.modules {
            let symbols = self.symbols(loaded).map(|symbols| symbols.symbols.as_slice()).unwrap_or_default();
            let hits = symbols.iter().filter(|known| known.name == name);
            holders.extend(hits.map(|hit| (loaded.name.as_str(), hit.address)));
        }
        match holders.as_slice() {
            [(_, address)] => Ok(*address),
            [] => Err(no_symbol(name)),
            several => {
                let modules: Vec<&str> = several.iter().map(|(module, _)| *module).collect();
                Err(Error::usage(format!(
                    "symbol is not unique, modules {} have it: {name}",
                    modules.join(", ")
                ))
                .with_hint("name the module: module!symbol"))
            }
        }
    }

    fn read_pointer(&self, address: u64) -> Read<u64> {
        self.kernel.target().read_ptr(address)
    }

    fn search(&self, pattern: &str) -> Result<Vec<(String, u64)>, Error> {
        let (module, symbol) = pattern.split_once('!').unwrap_or((KERNEL, pattern));
        let mut found = Vec::new();
        if matches(module, KERNEL) {
            let symbols = self.kernel.target().types().profile().symbols();
            let hits = symbols.filter(|known| matches(symbol, known.name));
            found.extend(
                hits.map(|hit| {
                    (format!("{KERNEL}!{}", hit.name), self.kernel.target().to_run_time(hit.value))
                }),
            );
        }
        for loaded in self.modules.iter().filter(|loaded| matches(&normal(module), &loaded.name)) {
            match self.symbols(loaded) {
                Ok(symbols) => {
                    let hits = symbols.symbols.iter().filter(|known| matches(symbol, &known.name));
                    found.extend(hits.map(|hit| (format!("{}!{}", loaded.name, hit.name), hit.address)));
                }
                // Where several modules are asked, the report tells.
                Err(_) if module != loaded.name => {}
                Err(why) => return Err(no_symbols(&loaded.name, why)),
            }
        }
        found.sort_unstable_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        Ok(found)
    }

    fn names(&self, address: u64) -> Vec<String> {
        if self.image.contains(&address) {
            return match self.kernel.target().nearest_symbols(address) {
                Some((names, distance)) => named(KERNEL, &names, distance),
                None => vec![format!("{KERNEL}+{:#x}", address.wrapping_sub(self.image.start))],
            };
        }
        let found = self.modules.iter().find_map(|loaded| Some((loaded, loaded.range_of(address)?)));
        let Some((loaded, (base, _))) = found else { return Vec::new() };
        let symbols = self.symbols(loaded).map(|symbols| symbols.symbols.as_slice()).unwrap_or_default();
        let end = symbols.partition_point(|symbol| symbol.address <= address);
        let nearest =
            end.checked_sub(1).and_then(|last| symbols.get(last)).filter(|symbol| symbol.address >= base);
        let Some(nearest) = nearest.map(|symbol| symbol.address) else {
            return vec![format!(
                "{}+{:#x}",
                loaded.name,
                address.wrapping_sub(loaded.base.clone().unwrap_or(base))
            )];
        };
        let same = symbols
            .get(..end)
            .unwrap_or_default()
            .iter()
            .rev()
            .take_while(|symbol| symbol.address == nearest);
        let names: Vec<String> = same.map(|symbol| symbol.name.clone()).collect();
        named(&loaded.name, &names, address.wrapping_sub(nearest))
    }

    fn report(&self, notes: &Notes) {
        for loaded in &self.modules {
            match loaded.symbols.get() {
                Some(Ok(symbols)) if symbols.missing > 0 => {
                    notes.partial(format!(
                        "{} symbols of module {} cannot be read",
                        symbols.missing, loaded.name
                    ));
                }
                Some(Err(why)) if why.is_loss() => {
                    notes.partial(format!("symbols of module {} cannot be read: {why}", loaded.name));
                }
                _ => {}
            }
        }
    }

    fn symbols_between(&self, start: u64, end: u64) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        let mut last = end.checked_sub(1);
        while let Some(address) = last.filter(|address| *address >= start) {
            let begin = self.symbol_start(address).filter(|begin| *begin >= start);
            let Some(begin) = begin else { break };
            found.extend(self.describe(begin).map(|name| (begin, name)));
            last = begin.checked_sub(1);
        }
        found.reverse();
        found
    }
}

/// The kernel's spelling of a module's name: `modprobe` accepts dashes, the kernel has underscores.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn no_symbol(name: &str) -> Error {
    Error::usage(format!("no such symbol: {name}"))
        .with_hint("rekal address_resolver 'linux!*part*' lists symbols by part of their name")
}

fn no_symbols(module: &str, why: &Absent) -> Error {
    Error::damaged(format!("symbols of module {module} cannot be read: {why}"))
}

#[cfg(test)]
mod tests;
