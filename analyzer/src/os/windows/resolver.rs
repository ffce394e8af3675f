//! Symbols to addresses and back: the kernel by its profile, modules by theirs where a repository has it, else by what they
//! export.
//!
//! The kernel is the module `nt`. Symbols of other modules are looked for when first asked for; a debug file is fetched only for a
//! module that the user names.

use std::sync::{Arc, OnceLock};

use memory::AddressSpace;
use object::Read;
use profile::Profile;
use profile::names::{PdbId, ProfileName};

use super::library::libraries;
use super::module::{modules, short_name};
use super::{Kernel, KernelFact, Process};
use crate::error::Error;
use crate::module_profile;
use crate::notes::Notes;
use crate::os::expression::matches;
use crate::os::symbols::{Symbols, named};
use crate::pe::{ExportTarget, Pe};
use crate::session::{Fact, Session};

/// Name of the kernel among the modules.
pub const KERNEL: &str = "nt";
/// Bytes of a kernel image where no list of modules says; symbols behind the last one are believed this far.
const KERNEL_SIZE: u64 = 0x200_0000;
/// Most modules whose symbols are used; systems have a few hundred.
const MAX_MODULES: usize = 1 << 14;

/// The resolver of the session's image.
pub struct ResolverFact;

impl Fact for ResolverFact {
    type Value = Resolver;
    const NAME: &'static str = "windows symbols";

    fn compute(session: &Session) -> Result<Resolver, Error> {
        let kernel = session.fact::<KernelFact>()?;
        let list = match modules(&session.notes, kernel.target()) {
            Ok(list) => list,
            Err(error) => {
                session.notes.partial(format!("symbols of modules are missing: {error}"));
                Vec::new()
            }
        };
        if list.len() > MAX_MODULES {
            session.notes.partial(format!("symbols of the first {MAX_MODULES} modules only"));
        }
        let mut loaded = Vec::new();
        for module in list.iter().take(MAX_MODULES) {
            // A torn entry is in the table of modules; it has no symbols.
            if let (Ok(name), Ok(base), Ok(size)) = (module.name(), module.base(), module.size()) {
                loaded.push(Loaded::new(short_name(&name), base, size.into()));
            }
        }
        drop(list);
        Ok(Resolver::new(session, kernel, loaded))
    }
}

/// A module.
struct Loaded {
    name: String,
    base: u64,
    size: u64,
    symbols: OnceLock<Result<Table, String>>,
}

impl Loaded {
    fn new(name: String, base: u64, size: u64) -> Self {
        Self { name, base, size, symbols: OnceLock::new() }
    }
}

/// Symbols of a module, relative to its base.
enum Table {
    /// Of its profile.
    Profile(Arc<Profile>),
    /// What it exports, by ascending address.
    Exports(Vec<(u64, String)>),
}

impl Table {
    /// Names at the symbol that is nearest at or below a relative address, and the distance from it.
    fn nearest(&self, rva: u64) -> Option<(Vec<String>, u64)> {
        match self {
            Self::Profile(profile) => {
                let hits = profile.symbols_at_or_below(rva);
                let at = hits.first()?.value;
                Some((hits.iter().map(|hit| hit.name.to_owned()).collect(), rva.wrapping_sub(at)))
            }
            Self::Exports(exports) => {
                let end = exports.partition_point(|(at, _)| *at <= rva);
                let below = exports.get(..end)?;
                let at = below.last()?.0;
                let same = below.iter().rev().take_while(|(other, _)| *other == at);
                Some((same.map(|(_, name)| name.clone()).collect(), rva.wrapping_sub(at)))
            }
        }
    }

    fn value(&self, name: &str) -> Option<u64> {
        match self {
            Self::Profile(profile) => profile.symbol(name),
            Self::Exports(exports) => exports.iter().find(|(_, known)| known == name).map(|(at, _)| *at),
        }
    }

    fn search(&self, pattern: &str) -> Vec<(u64, String)> {
        let hit = |name: &str| matches(pattern, name);
        match self {
            Self::Profile(profile) => profile
                .symbols()
                .filter(|symbol| hit(symbol.name))
                .map(|symbol| (symbol.value, symbol.name.to_owned()))
                .collect(),
            Self::Exports(exports) => exports.iter().filter(|(_, name)| hit(name)).cloned().collect(),
        }
    }
}

/// Loads the profile of a name from the repositories; says who was asked where none has it.
type LoadProfile = Box<dyn Fn(&ProfileName) -> Result<Profile, String> + Send + Sync>;

fn loader(session: &Session) -> LoadProfile {
    let repositories = session.repositories().map(Arc::clone);
    Box::new(move |name| {
        let repositories = repositories.as_ref().map_err(ToString::to_string)?;
        repositories.load_named(name).map(|loaded| loaded.profile).map_err(|error| error.to_string())
    })
}

/// Symbols of the kernel and its modules, or of a process.
pub struct Resolver {
    kernel: Arc<Kernel>,
    /// Memory the modules are in.
    space: Arc<dyn AddressSpace>,
    modules: Vec<Loaded>,
    load: LoadProfile,
    /// The only modules whose profiles are looked for; empty for all.
    tracked: &'static [&'static str],
}

impl Resolver {
    /// Symbols of the modules of a process, as its loader lists them. Processes have many modules and there are many of them,
    /// so profiles are looked for of few; the others have what they export.
    pub fn of_process(session: &Session, kernel: &Arc<Kernel>, process: &Process<'_>) -> Read<Self> {
        let user = process.user_target(kernel)?;
        let mut modules = Vec::new();
        for library in libraries(&session.notes, process, &user)?.into_iter().take(MAX_MODULES) {
            if let (Ok(name), Ok(base), Ok(size)) = (library.name, library.base, library.size) {
                modules.push(Loaded::new(short_name(&name), base, size.into()));
            }
        }
        let space = Arc::clone(user.shared_space());
        Ok(Self { kernel: Arc::clone(kernel), space, modules, load: loader(session), tracked: &["ntdll"] })
    }

    fn new(session: &Session, kernel: Arc<Kernel>, mut modules: Vec<Loaded>) -> Self {
        if !modules.iter().any(|module| module.base == kernel.base()) {
            modules.insert(0, Loaded::new(KERNEL.to_owned(), kernel.base(), KERNEL_SIZE));
        }
        for module in modules.iter_mut().filter(|module| module.base == kernel.base()) {
            KERNEL.clone_into(&mut module.name);
            module.symbols =
                OnceLock::from(Ok(Table::Profile(Arc::clone(kernel.target().types().profile()))));
        }
        let space = Arc::clone(kernel.target().shared_space());
        Self { kernel, space, modules, load: loader(session), tracked: &[] }
    }

    /// The module that holds an address: `nt`, or a loaded module; `None` for memory of none.
    #[must_use]
    pub fn module_of(&self, address: u64) -> Option<&str> {
        self.loaded_at(address).map(|loaded| loaded.name.as_str())
    }

    fn loaded_at(&self, address: u64) -> Option<&Loaded> {
        self.modules.iter().find(|loaded| address.wrapping_sub(loaded.base) < loaded.size)
    }

    fn symbols<'s>(&'s self, loaded: &'s Loaded) -> Result<&'s Table, &'s String> {
        loaded.symbols.get_or_init(|| self.read(loaded)).as_ref()
    }

    fn read(&self, loaded: &Loaded) -> Result<Table, String> {
        let pe = Pe::mapped(&self.space, loaded.base).map_err(|why| why.to_string())?;
        let wanted = self.tracked.is_empty() || self.tracked.contains(&loaded.name.as_str());
        if wanted
            && let Ok(record) = pe.rsds()
            && let Ok(name) = ProfileName::new(&format!("{}/GUID/{}", loaded.name, record.id))
            && let Ok(profile) = (self.load)(&name)
        {
            return Ok(Table::Profile(Arc::new(profile)));
        }
        let exports = pe.exports().map_err(|why| why.to_string())?;
        let mut table: Vec<(u64, String)> = exports
            .entries
            .items
            .into_iter()
            .filter_map(|export| match (export.name, export.target) {
                (Ok(name), Ok(ExportTarget::Rva(rva))) => Some((u64::from(rva), name)),
                _ => None,
            })
            .collect();
        table.sort();
        Ok(Table::Exports(table))
    }

    /// Where a module is mapped, and its profile: that of the debug file it names, else (or where its headers are gone) of
    /// the one with a GUID and age. The profile comes from the repositories or is made of the PDB that a symbol store has.
    pub fn profile_of(
        &self,
        session: &Session,
        module: &str,
        guid: Option<PdbId>,
    ) -> Result<(u64, Arc<Profile>), Error> {
        let loaded = self.module(module).ok_or_else(|| no_module(module))?;
        let record = Pe::mapped(&self.space, loaded.base).and_then(|pe| pe.rsds());
        let (id, pdb) = match (guid, record) {
            (Some(id), record) => (
                id,
                record.map_or_else(|_| format!("{}.pdb", loaded.name), |rsds| rsds.file_name().to_owned()),
            ),
            (None, Ok(rsds)) => (rsds.id, rsds.file_name().to_owned()),
            (None, Err(why)) => {
                let why = format!("the headers of module {module} do not name its debug file: {why}");
                return Err(Error::analysis(why).with_hint(format!("name it: --{module}_guid GUIDAGE")));
            }
        };
        // Where symbols were asked for before, the profile is there.
        if guid.is_none()
            && let Some(Ok(Table::Profile(profile))) = loaded.symbols.get()
        {
            return Ok((loaded.base, Arc::clone(profile)));
        }
        match module_profile::find(session, &loaded.name, &pdb, id) {
            Ok(found) => Ok((loaded.base, Arc::new(found.profile))),
            Err(unavailable) => Err(Error::analysis(format!("no profile of module {module}: {unavailable}"))
                .with_details(
                    unavailable.repositories.iter().map(|asked| format!("asked: {asked}")).collect(),
                )
                .with_hint(format!("rekal build_local_profile {module} {id}"))),
        }
    }

    fn module(&self, name: &str) -> Option<&Loaded> {
        let name = short_name(name);
        self.modules.iter().find(|loaded| loaded.name == name)
    }
}

impl Symbols for Resolver {
    /// Of a module that no repository has the profile of, the PDB is fetched; its exports must do where that fails.
    fn prepare(&self, session: &Session, module: &str) {
        let Some(loaded) = self.module(module).filter(|loaded| loaded.symbols.get().is_none()) else {
            return;
        };
        match self.profile_of(session, module, None) {
            Ok((_, profile)) => {
                let _ = loaded.symbols.set(Ok(Table::Profile(profile)));
            }
            Err(why) => {
                session.notes.info(format!("only exports of module {} are known: {why}", loaded.name));
            }
        }
    }

    fn symbol_of(&self, module: &str, symbol: &str) -> Result<u64, Error> {
        let loaded = self.module(module).ok_or_else(|| no_module(module))?;
        let table = self.symbols(loaded).map_err(|why| no_symbols(&loaded.name, why))?;
        let value = table.value(symbol).ok_or_else(|| no_symbol(&format!("{}!{symbol}", loaded.name)))?;
        Ok(loaded.base.wrapping_add(value))
    }

    fn bare_name(&self, name: &str) -> Result<u64, Error> {
        if let Ok(address) = self.kernel.target().symbol(name) {
            return Ok(address);
        }
        self.module(name).map(|loaded| loaded.base).ok_or_else(|| no_symbol(name))
    }

    fn read_pointer(&self, address: u64) -> Read<u64> {
        self.kernel.target().read_ptr(address)
    }

    fn search(&self, pattern: &str) -> Result<Vec<(String, u64)>, Error> {
        let (module, symbol) = pattern.split_once('!').unwrap_or((KERNEL, pattern));
        let mut found = Vec::new();
        for loaded in self.modules.iter().filter(|loaded| matches(&module.to_lowercase(), &loaded.name)) {
            match self.symbols(loaded) {
                Ok(table) => {
                    let hits = table.search(symbol).into_iter();
                    found.extend(hits.map(|(rva, name)| {
                        (format!("{}!{name}", loaded.name), loaded.base.wrapping_add(rva))
                    }));
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
        let Some(loaded) = self.loaded_at(address) else { return Vec::new() };
        let rva = address.wrapping_sub(loaded.base);
        match self.symbols(loaded).ok().and_then(|table| table.nearest(rva)) {
            Some((names, distance)) => named(&loaded.name, &names, distance),
            None if rva == 0 => vec![loaded.name.clone()],
            None => vec![format!("{}+{rva:#x}", loaded.name)],
        }
    }

    fn symbols_between(&self, start: u64, end: u64) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        let mut last = end.checked_sub(1);
        while let Some(address) = last.filter(|address| *address >= start) {
            let begin = self.loaded_at(address).and_then(|loaded| {
                let (_, distance) = self.symbols(loaded).ok()?.nearest(address.wrapping_sub(loaded.base))?;
                Some(address.wrapping_sub(distance)).filter(|begin| *begin >= start)
            });
            let Some(begin) = begin else { break };
            found.extend(self.describe(begin).map(|name| (begin, name)));
            last = begin.checked_sub(1);
        }
        found.reverse();
        found
    }

    fn report(&self, notes: &Notes) {
        for loaded in &self.modules {
            if let Some(Err(why)) = loaded.symbols.get() {
                notes.info(format!("symbols of module {} are missing: {why}", loaded.name));
            }
        }
    }
}

fn no_module(name: &str) -> Error {
    Error::usage(format!("no such module: {name}"))
        .with_hint("rekal modules lists the loaded modules; the kernel itself is the module nt")
}

fn no_symbol(name: &str) -> Error {
    Error::usage(format!("no such symbol: {name}"))
        .with_hint("rekal address_resolver 'nt!*part*' lists symbols by part of their name")
}

fn no_symbols(module: &str, why: &str) -> Error {
    Error::analysis(format!("symbols of module {module} are missing: {why}"))
}
