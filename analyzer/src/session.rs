//! A session: one image, its configuration, notes, and facts found out on demand.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use memory::Image;
use profile_gen::symbol_server::{self, SymbolPath, SymbolServer};
use repository::SearchPath;

use crate::error::Error;
use crate::module_profile::Told;
use crate::notes::{Note, Notes};

/// What the user set, by option or configuration file.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The image (`-f`).
    pub filename: Option<PathBuf>,
    /// Profile name or file to use instead of detection (`-p`).
    pub profile: Option<String>,
    /// Directories, archives and URLs that hold profiles, in order.
    pub repository_path: Vec<String>,
    /// The repositories are those that came with the program, not the user's: they are only read, and what is made goes
    /// to the cache directory.
    pub own_repositories: bool,
    /// Where downloads are kept.
    pub cache_dir: Option<PathBuf>,
    /// No network access at all.
    pub offline: bool,
    /// Directory table base to use instead of detection.
    pub dtb: Option<u64>,
    /// Virtual slide of the kernel to use instead of detection.
    pub kernel_slide: Option<u64>,
    /// Pagefiles of the system, in the order of their numbers (`--pagefile`).
    pub pagefiles: Vec<PathBuf>,
    /// Swap areas of a Linux system, files or devices (`--swap`).
    pub swap: Vec<PathBuf>,
    /// Directory that plugins write files into.
    pub output_dir: Option<PathBuf>,
    /// Whether existing files may be overwritten.
    pub overwrite: bool,
    /// Where Windows symbols are fetched from; an empty path asks nobody.
    pub symbol_path: SymbolPath,
    /// Told of every use of the network before it is made, in a few words.
    pub on_network: Option<fn(&str)>,
}

/// Something about the image that is found out once: a kernel, a page table root, a list of modules.
pub trait Fact: 'static {
    /// What is found out.
    type Value: Send + Sync;
    /// Name for messages.
    const NAME: &'static str;

    /// Finds it out.
    fn compute(session: &Session) -> Result<Self::Value, Error>;
}

/// A fact with the notes made while it was found out: whoever uses it later must know them too.
type Known = (Result<Arc<dyn Any + Send + Sync>, Error>, Vec<Note>);
type Slot = Arc<OnceLock<Known>>;

thread_local! {
    /// Names of the facts being computed on this thread, outermost first.
    static CHAIN: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// One image under analysis.
pub struct Session {
    /// What the user set.
    pub config: Config,
    /// What the user must know besides the rows.
    pub notes: Notes,
    facts: Mutex<HashMap<TypeId, Slot>>,
    image: OnceLock<Result<Image, Error>>,
    repositories: OnceLock<Result<Arc<SearchPath>, Error>>,
    symbol_server: OnceLock<SymbolServer>,
    context: Mutex<Option<i32>>,
    /// PDBs looked for because the image names them, not the user.
    pub(crate) unasked_fetches: AtomicUsize,
}

impl Session {
    /// A session over the configured image; nothing is opened yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            notes: Notes::default(),
            facts: Mutex::default(),
            image: OnceLock::new(),
            repositories: OnceLock::new(),
            symbol_server: OnceLock::new(),
            context: Mutex::default(),
            unasked_fetches: AtomicUsize::new(0),
        }
    }

    /// Id of the process whose addresses commands mean unless they are told; none for the kernel.
    pub fn context(&self) -> Option<i32> {
        *self.context.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the process whose addresses the commands that follow mean; none for the kernel.
    pub fn set_context(&self, pid: Option<i32>) {
        *self.context.lock().unwrap_or_else(PoisonError::into_inner) = pid;
    }

    /// The image, opened on first use.
    pub fn image(&self) -> Result<&Image, Error> {
        let open = || {
            let path = self.config.filename.as_ref().ok_or_else(|| {
                Error::usage("this command needs a memory image").with_hint("name it: rekal -f IMAGE COMMAND")
            })?;
            memory::open(path, &memory::Limits::default()).map_err(|e| crate::diagnosis::open_error(&e))
        };
        let image = self.image.get_or_init(open).as_ref().map_err(Clone::clone)?;
        if image.live {
            self.notes
                .info("the image is the running machine: what changes while it is read may not fit together");
        }
        for warning in &image.warnings {
            self.notes.partial(warning.clone());
        }
        Ok(image)
    }

    /// The profile repositories, opened on first use.
    pub fn repositories(&self) -> Result<&Arc<SearchPath>, Error> {
        let open = || {
            let config = repository::Config {
                entries: self.config.repository_path.clone(),
                read_only: self.config.own_repositories,
                cache_dir: self.config.cache_dir.clone(),
                offline: self.config.offline,
                ..repository::Config::default()
            };
            let path = SearchPath::open(&config).map_err(|e| Error::usage(e.to_string()))?;
            Ok(Arc::new(match self.config.on_network {
                Some(listener) => path.on_network(move |url| listener(&format!("asking {url}"))),
                None => path,
            }))
        };
        self.repositories.get_or_init(open).as_ref().map_err(Clone::clone)
    }

    /// The symbol stores, opened on first use.
    pub fn symbol_server(&self) -> &SymbolServer {
        self.symbol_server.get_or_init(|| self.new_symbol_server(false))
    }

    /// The symbol stores; `ask_again` also asks those that are remembered not to have a file.
    #[must_use]
    pub fn new_symbol_server(&self, ask_again: bool) -> SymbolServer {
        let options = symbol_server::Options {
            offline: self.config.offline,
            state_dir: self.config.cache_dir.as_ref().map(|directory| directory.join("symbol-state")),
            ask_again,
            listener: Some(Arc::new(Told::new(self.config.on_network))),
            ..symbol_server::Options::default()
        };
        SymbolServer::new(&self.config.symbol_path, options)
    }

    /// One repository directory by itself, for commands that write into it. It is created where it is missing.
    pub fn repository_at(&self, directory: &Path) -> Result<SearchPath, Error> {
        let layout = directory.join(repository::LAYOUT);
        std::fs::create_dir_all(&layout).map_err(|error| {
            Error::output(std::io::Error::new(error.kind(), format!("{}: {error}", layout.display())))
        })?;
        let entry =
            directory.to_str().ok_or_else(|| Error::usage(format!("not UTF-8: {}", directory.display())))?;
        let config = repository::Config { entries: vec![entry.to_owned()], ..repository::Config::default() };
        SearchPath::open(&config).map_err(|e| Error::usage(e.to_string()))
    }

    /// The notes so far, those of the repositories included, emptying the list.
    pub fn take_notes(&self) -> Vec<Note> {
        if let Some(Ok(repositories)) = self.repositories.get() {
            for note in repositories.take_notes() {
                self.notes.info(note);
            }
        }
        self.notes.take()
    }

    /// A fact, found out on first use and remembered with its notes, failures too. A fact that needs itself is an error that names
    /// the chain.
    pub fn fact<F: Fact>(&self) -> Result<Arc<F::Value>, Error> {
        let chain = CHAIN.with_borrow(Clone::clone);
        if chain.contains(&F::NAME) {
            return Err(Error::analysis(format!("fact needs itself: {} > {}", chain.join(" > "), F::NAME)));
        }
        let slot = {
            let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(facts.entry(TypeId::of::<F>()).or_default())
        };
        let compute = || {
            CHAIN.with_borrow_mut(|chain| chain.push(F::NAME));
            let before = self.notes.count();
            let value = F::compute(self).map(|value| Arc::new(value) as Arc<dyn Any + Send + Sync>);
            CHAIN.with_borrow_mut(Vec::pop);
            (value, self.notes.since(before))
        };
        let (value, notes) = slot.get_or_init(compute);
        self.notes.repeat(notes);
        value.clone()?.downcast().map_err(|_| Error::analysis(format!("fact has another type: {}", F::NAME)))
    }
}
