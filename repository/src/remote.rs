//! A repository that is an http(s) URL: its inventory, then its profiles, with the cache in front.
//!
//! ```text
//! GET <base>/v1.0/inventory.gz      once a session, conditional when the cache has one
//! GET <base>/v1.0/<name>.gz         only names the inventory lists, only when the cache is not current
//! GET <base>/v1.0/<name>            after any HTTP error of the former: plain JSON
//! ```
//! These are the requests of original clients. Whatever goes wrong, what the cache holds is still used; without a
//! valid inventory the server is not asked again in this session.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use profile::Profile;
use profile::names::ProfileName;
use transport::{Client, HttpError, Request, Url, Validators, plain, shown};

use crate::LAYOUT;
use crate::cache::{Cache, Cached, Form, Record};
use crate::config::{Config, Limits};
use crate::inventory::{self, Inventory, InventoryEntry, InventoryError};
use crate::source::{self, Found, Source};
use crate::trace::{Answer, Trace};

/// Called with the URL before each network request.
pub(crate) type Listener = Box<dyn Fn(&str) + Send + Sync>;

/// What a search path and its URL repositories share: the listener for network use, and notes for the user.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) on_network: OnceLock<Listener>,
    notes: Mutex<Vec<String>>,
}

impl Shared {
    pub(crate) fn note(&self, text: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if !notes.contains(&text) {
            notes.push(text);
        }
    }

    pub(crate) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A repository behind a URL. Nothing is asked before the first question to it.
pub(crate) struct Remote {
    base: Result<Url, String>,
    label: String,
    cache: Option<Cache>,
    offline: bool,
    limits: Limits,
    shared: Arc<Shared>,
    client: OnceLock<Result<Client, String>>,
    session: OnceLock<Session>,
}

/// What the first question of a session showed.
struct Session {
    /// The server's inventory, or the cached one where it gave none.
    inventory: Option<Inventory>,
    /// Why the server is not asked any more.
    closed: Option<Answer>,
}

/// A body fetched, or the news that the cached one is current.
enum Fetched {
    NotModified,
    Body { bytes: Vec<u8>, form: Form, validators: Validators },
}

impl Remote {
    /// Whether an entry of a search path is a URL.
    pub(crate) fn is_url(entry: &str) -> bool {
        let scheme = entry.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        matches!(scheme.as_deref(), Some("http" | "https"))
    }

    pub(crate) fn new(entry: &str, config: &Config, shared: Arc<Shared>) -> Self {
        let base = Url::parse(entry).map_err(|error| format!("not a URL: {error}"));
        let label = base.as_ref().map_or_else(|_| plain(entry), shown);
        let cache = match (&base, &config.cache_dir) {
            (Ok(base), Some(directory)) => Some(Cache::new(directory, base, config.limits)),
            _ => None,
        };
        Self {
            base,
            label,
            cache,
            offline: config.offline,
            limits: config.limits,
            shared,
            client: OnceLock::new(),
            session: OnceLock::new(),
        }
    }

    fn session(&self) -> &Session {
        self.session.get_or_init(|| self.open_session())
    }

    fn open_session(&self) -> Session {
        let Ok(name) = ProfileName::new(inventory::NAME) else {
            return Session { inventory: None, closed: Some(Answer::NotFound) };
        };
        let parse = |bytes: &[u8]| Inventory::parse(bytes, self.limits.max_inventory);
        let cached = self.cache.as_ref().and_then(|cache| cache.get(&name));
        let cached = cached.and_then(|cached| Some((parse(&cached.bytes).ok()?, cached.record)));
        let (kept, record) = cached.unzip();
        if self.offline {
            return Session { inventory: kept, closed: Some(Answer::Offline) };
        }
        let closed = match self.fetch(&name, record.as_ref()) {
            Ok(Fetched::NotModified) => return Session { inventory: kept, closed: None },
            Ok(Fetched::Body { bytes, form, validators }) => match parse(&bytes) {
                Ok(inventory) => {
                    let record = Record::new(form, validators, 0.0, String::new());
                    self.keep(|cache| cache.put(&name, &bytes, record));
                    return Session { inventory: Some(inventory), closed: None };
                }
                Err(error) => Answer::refused(no_inventory(&error)),
            },
            Err(Answer::NotFound) => Answer::refused(format!("it has no {LAYOUT}/inventory.gz")),
            Err(answer) => answer,
        };
        let rest = if kept.is_some() { "only what the cache holds is used" } else { "it is left out" };
        self.shared.note(format!("repository {} {closed}; {rest} in this session", self.label));
        Session { inventory: kept, closed: Some(closed) }
    }

    /// Asks for `<name>.gz` and, after an HTTP error, for the plain `<name>`.
    fn fetch(&self, name: &ProfileName, cached: Option<&Record>) -> Result<Fetched, Answer> {
        let base = self.base.as_ref().map_err(Answer::refused)?;
        let client = self
            .client
            .get_or_init(|| Client::new(base, self.options()).map_err(|error| error.to_string()))
            .as_ref()
            .map_err(Answer::unreachable)?;
        let mut failure = Answer::NotFound;
        for form in [Form::Gzip, Form::Plain] {
            let url = address(base, name, form).ok_or_else(|| Answer::refused("not a URL with a path"))?;
            let earlier = cached.filter(|record| record.form == form).map(|record| &record.validators);
            let request = Request { earlier, ..Request::new(&url, self.limits.max_body as u64) };
            let mut bytes = Vec::new();
            match client.get(&request, &mut bytes) {
                Ok(head) => match head.status {
                    304 if earlier.is_some() => return Ok(Fetched::NotModified),
                    200 => return Ok(Fetched::Body { bytes, form, validators: head.validators }),
                    404 | 410 => {}
                    status => failure = Answer::refused(format!("HTTP status {status}")),
                },
                Err(error @ HttpError::TooLarge(_)) => return Err(Answer::damaged(error)),
                Err(error) => return Err(Answer::unreachable(error)),
            }
        }
        Err(failure)
    }

    fn options(&self) -> transport::Options {
        let (limits, shared) = (self.limits, Arc::clone(&self.shared));
        transport::Options {
            connect_timeout: limits.connect_timeout,
            read_timeout: limits.read_timeout,
            total_timeout: limits.total_timeout,
            max_redirects: limits.max_redirects,
            announce: Some(Arc::new(move |url| {
                if let Some(listener) = shared.on_network.get() {
                    listener(&shown(url));
                }
            })),
            ..transport::Options::default()
        }
    }

    /// Fetches a listed document whose cached copy is absent or not current.
    fn refresh(
        &self,
        name: &ProfileName,
        entry: &InventoryEntry,
        cached: Option<&Record>,
    ) -> Result<Option<Profile>, Answer> {
        match self.fetch(name, cached)? {
            Fetched::NotModified => {
                if let Some(record) = cached {
                    let mut record = record.clone();
                    record.listed = entry.last_modified;
                    self.keep(|cache| cache.confirm(name, &record));
                }
                Ok(None)
            }
            Fetched::Body { bytes, form, validators } => {
                let (profile, sha256) = source::decode_hashed(&bytes, &self.limits)?;
                if profile.metadata().is_empty() {
                    return Err(Answer::damaged("no $METADATA section: some other document was served"));
                }
                if entry.sha256().is_some_and(|listed| listed != sha256) {
                    return Err(Answer::damaged("its SHA-256 is not the one the inventory lists"));
                }
                let record = Record::new(form, validators, entry.last_modified, sha256);
                self.keep(|cache| cache.put(name, &bytes, record));
                Ok(Some(profile))
            }
        }
    }

    /// Writes to the cache. That it cannot be written is worth a note, never an error.
    fn keep(&self, write: impl FnOnce(&Cache) -> std::io::Result<()>) {
        if let Some(Err(error)) = self.cache.as_ref().map(write) {
            self.shared.note(format!("cannot write the profile cache: {error}"));
        }
    }

    fn cached(&self, name: &ProfileName) -> Option<(Cached, Profile)> {
        let cached = self.cache.as_ref()?.get(name)?;
        let profile = source::decode(&cached.bytes, &self.limits).ok()?;
        Some((cached, profile))
    }

    fn find(&self, name: &ProfileName, trace: &mut Trace) -> Result<Found, Answer> {
        let session = self.session();
        let inventory = session.inventory.as_ref().ok_or_else(|| closed(session))?;
        let entry = inventory.get(name).ok_or(Answer::NotListed)?;
        let cached = self.cached(name);
        let record = cached.as_ref().map(|(cached, _)| &cached.record);
        let refreshed = match &session.closed {
            _ if record.is_some_and(|record| is_current(record, entry)) => Ok(None),
            Some(answer) => Err(answer.clone()),
            None => self.refresh(name, entry, record),
        };
        let failure = match refreshed {
            Ok(Some(profile)) => return Ok(Found { profile, source: self.label.clone() }),
            Ok(None) => None,
            Err(answer) => Some(answer),
        };
        let Some((cached, profile)) = cached else { return Err(failure.unwrap_or(Answer::NotFound)) };
        // The server cannot give the newer document; the older one is still a profile of this name.
        if let Some(answer) = failure.filter(|answer| *answer != Answer::Offline) {
            trace.add(&self.label, name, answer);
        }
        Ok(Found { profile, source: format!("{} (cached in {})", self.label, cached.path.display()) })
    }
}

impl Source for Remote {
    fn label(&self) -> &str {
        &self.label
    }

    fn read(&self, name: &ProfileName, trace: &mut Trace) -> Option<Found> {
        let (answer, found) = match self.find(name, trace) {
            Ok(found) => (Answer::Found, Some(found)),
            Err(answer) => (answer, None),
        };
        trace.add(&self.label, name, answer);
        found
    }

    fn has(&self, name: &ProfileName) -> Answer {
        let session = self.session();
        match (&session.inventory, &session.closed) {
            (None, _) => closed(session),
            (Some(inventory), _) if inventory.get(name).is_none() => Answer::NotListed,
            (Some(_), Some(answer)) if self.cached(name).is_none() => answer.clone(),
            (Some(_), _) => Answer::Found,
        }
    }

    fn inventory(&self) -> Result<&Inventory, Answer> {
        let session = self.session();
        session.inventory.as_ref().ok_or_else(|| closed(session))
    }
}

fn closed(session: &Session) -> Answer {
    session.closed.clone().unwrap_or(Answer::NotFound)
}

/// The hash decides where the inventory has one; otherwise the time it lists, which is that of the server's clock, is
/// compared with the one listed when the copy was fetched.
fn is_current(record: &Record, entry: &InventoryEntry) -> bool {
    entry.sha256().map_or(record.listed >= entry.last_modified, |listed| listed == record.text_sha256)
}

fn no_inventory(error: &InventoryError) -> String {
    format!("{error}; a captive portal may have answered, or the address is that of no repository")
}

/// `<base>/v1.0/<name>` with or without `.gz`; a query of the base stays at the end, a trailing slash adds nothing.
fn address(base: &Url, name: &ProfileName, form: Form) -> Option<Url> {
    let mut url = base.clone();
    url.set_fragment(None);
    let extension = if form == Form::Gzip { ".gz" } else { "" };
    let file = format!("{name}{extension}");
    url.path_segments_mut().ok()?.pop_if_empty().push(LAYOUT).extend(file.split('/'));
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(base: &str, name: &str, form: Form) -> String {
        let name = ProfileName::new(name).expect("a name");
        address(&Url::parse(base).expect("a URL"), &name, form).expect("an address").to_string()
    }

    #[test]
    fn addresses_keep_slash_and_query_of_the_base_in_their_places() {
        assert_eq!(url("http://h/r", "a/b", Form::Gzip), "http://h/r/v1.0/a/b.gz");
        assert_eq!(url("http://h/r/", "a/b", Form::Plain), "http://h/r/v1.0/a/b");
        assert_eq!(url("http://h", "a", Form::Gzip), "http://h/v1.0/a.gz");
        assert_eq!(url("http://h/r?key=1#x", "a", Form::Gzip), "http://h/r/v1.0/a.gz?key=1");
        assert_eq!(url("http://h/r", "a b#c", Form::Gzip), "http://h/r/v1.0/a%20b%23c.gz");
    }

    #[test]
    fn shown_urls_hold_no_secrets() {
        let url = Url::parse("https://user:secret@h/r?token=secret").expect("a URL");
        assert_eq!(shown(&url), "https://h/r");
    }

    #[test]
    fn urls_are_told_from_paths() {
        assert!(Remote::is_url("HTTPS://h") && Remote::is_url("http://h"));
        assert!(!Remote::is_url("ftp://h") && !Remote::is_url("/srv/http://x") && !Remote::is_url("repo"));
    }
}
