//! A repository that is an http(s) URL: its inventory, then its profiles, with the cache in front.
//!
//! ```text
//! GET <base>/v1.0/inventory.gz      once a session, conditional when the cache has one
//! GET <base>/v1.0/<name>.gz         only names the inventory lists, only when the cache is not current
//! GET <base>/v1.0/<name>            after any HTTP error of the former: plain JSON
//! ```
//! These are the requests of original clients. Whatever goes wrong, what the cache holds is still used; without a
//! valid inventory the server is not asked again in this session. A repo-server (see [`crate::service`]) is also asked
//! by evidence, and for names it does not list but may make.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use profile::Profile;
use profile::names::ProfileName;
use transport::{Client, HttpError, Url, Validators, plain, shown};

use crate::LAYOUT;
use crate::cache::{Cache, Cached, Form, Record};
use crate::config::{Config, Limits};
use crate::exchange::{Ask, Reply, exchange};
use crate::find::{Candidate, LinuxEvidence};
use crate::inventory::{self, Inventory, InventoryEntry, InventoryError};
use crate::service::{self, Description, Waiting};
use crate::signature::{MAX_SIGNATURE, SIGNATURE_FILE};
use crate::source::{self, Found, Signed, Source};
use crate::trace::{Answer, Trace};

/// Longest wait for a busy server before it is asked again.
const MAX_BUSY: Duration = Duration::from_secs(10);

/// Wait before a transfer that broke off is taken up again.
const BROKEN_PAUSE: Duration = Duration::from_millis(300);

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
    description: OnceLock<Option<Description>>,
}

/// What the first question of a session showed.
#[derive(Default)]
struct Session {
    /// The server's inventory, or the cached one where it gave none.
    inventory: Option<Inventory>,
    /// Its bytes as served, which a signature may be of.
    bytes: Vec<u8>,
    /// Why the server is not asked any more.
    closed: Option<Answer>,
    /// Whether it is a repo-server.
    described: bool,
}

/// A body fetched, or the news that the cached one is current.
enum Fetched {
    NotModified {
        described: bool,
    },
    /// The server is making it.
    Later,
    Body {
        bytes: Vec<u8>,
        form: Form,
        validators: Validators,
        described: bool,
    },
}

/// What became of a document of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    /// The copy is the one the inventory lists.
    Current,
    /// It was fetched, or confirmed by the server.
    Fetched,
}

impl Remote {
    /// Whether an entry of a search path is a URL.
    pub(crate) fn is_url(entry: &str) -> bool {
        let scheme = entry.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        matches!(scheme.as_deref(), Some("http" | "https"))
    }

    pub(crate) fn new(entry: &str, config: &Config, shared: Arc<Shared>) -> Self {
        let base = Url::parse(entry).map_err(|error| format!("not a URL: {error}"));
        let cache = match (&base, &config.cache_dir) {
            (Ok(base), Some(directory)) => Some(Cache::new(directory, base, config.limits)),
            _ => None,
        };
        Self::with_cache(entry, base, cache, config, shared)
    }

    /// A repository of which everything is kept in `directory`, which is a repository itself.
    pub(crate) fn mirrored(entry: &str, directory: &Path, config: &Config, shared: Arc<Shared>) -> Self {
        let base = Url::parse(entry).map_err(|error| format!("not a URL: {error}"));
        let cache = Cache::mirror(directory, config.limits);
        Self::with_cache(entry, base, Some(cache), config, shared)
    }

    fn with_cache(
        entry: &str,
        base: Result<Url, String>,
        cache: Option<Cache>,
        config: &Config,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            label: base.as_ref().map_or_else(|_| plain(entry), shown),
            base,
            cache,
            offline: config.offline,
            limits: config.limits,
            shared,
            client: OnceLock::new(),
            session: OnceLock::new(),
            description: OnceLock::new(),
        }
    }

    fn session(&self) -> &Session {
        self.session.get_or_init(|| self.open_session())
    }

    fn open_session(&self) -> Session {
        let Ok(name) = ProfileName::new(inventory::NAME) else {
            return Session { closed: Some(Answer::NotFound), ..Session::default() };
        };
        let parse = |bytes: &[u8]| Inventory::parse(bytes, self.limits.max_inventory);
        let cached = self.cache.as_ref().and_then(|cache| cache.get(&name));
        let cached = cached.and_then(|cached| Some((parse(&cached.bytes).ok()?, cached)));
        let (inventory, cached) = cached.unzip();
        let (bytes, record) = cached.map(|cached| (cached.bytes, cached.record)).unzip();
        let kept = Session { inventory, bytes: bytes.unwrap_or_default(), ..Session::default() };
        if self.offline {
            return Session { closed: Some(Answer::Offline), ..kept };
        }
        let closed = match self.fetch(&name, record.as_ref()) {
            Ok(Fetched::NotModified { described }) => return Session { described, ..kept },
            Ok(Fetched::Body { bytes, form, validators, described }) => match parse(&bytes) {
                Ok(inventory) => {
                    let record = Record::new(form, validators, 0.0, String::new());
                    self.keep(|cache| cache.put(&name, &bytes, record));
                    return Session { inventory: Some(inventory), bytes, closed: None, described };
                }
                Err(error) => Answer::refused(no_inventory(&error)),
            },
            Ok(Fetched::Later) => Answer::refused("its inventory is not ready"),
            Err(Answer::NotFound) => Answer::refused(format!("it has no {LAYOUT}/inventory.gz")),
            Err(answer) => answer,
        };
        let rest =
            if kept.inventory.is_some() { "only what the cache holds is used" } else { "it is left out" };
        self.shared.note(format!("repository {} {closed}; {rest} in this session", self.label));
        Session { closed: Some(closed), ..kept }
    }

    /// One request; repeated where the transfer breaks off or the server is busy for a moment.
    fn request(&self, ask: Ask<'_>) -> Result<Reply, Answer> {
        let base = self.base.as_ref().map_err(Answer::refused)?;
        let client = self
            .client
            .get_or_init(|| Client::new(base, self.options()).map_err(|error| error.to_string()))
            .as_ref()
            .map_err(Answer::unreachable)?;
        let mut left = self.limits.attempts.max(1);
        loop {
            left -= 1;
            let start = Instant::now();
            let pause = match exchange(client, ask) {
                Ok(Reply::Status { status: 429 | 503, retry_after: Some(after), .. }) if left > 0 => {
                    after.min(MAX_BUSY)
                }
                // The part that was kept does not fit any more, and is gone.
                Ok(Reply::Status { status: 416, .. }) if left > 0 && ask.part.is_some() => Duration::ZERO,
                Ok(reply) => return Ok(reply),
                // A server that fell silent before it said anything will not talk when asked again.
                Err(HttpError::Interrupted(_))
                    if left > 0
                        && (start.elapsed() < self.limits.read_timeout
                            || ask.part.is_some_and(Path::exists)) =>
                {
                    BROKEN_PAUSE
                }
                Err(error @ HttpError::TooLarge(_)) => return Err(Answer::damaged(error)),
                Err(error) => return Err(Answer::unreachable(error)),
            };
            std::thread::sleep(pause);
        }
    }

    /// Asks for `<name>.gz` and, after an HTTP error, for the plain `<name>`.
    fn fetch(&self, name: &ProfileName, cached: Option<&Record>) -> Result<Fetched, Answer> {
        let mut failure = Answer::NotFound;
        for form in [Form::Gzip, Form::Plain] {
            let url = self.address(name, form)?;
            let earlier = cached.filter(|record| record.form == form).map(|record| &record.validators);
            let part = self.cache.as_ref().map(|cache| cache.part_path(name, form));
            match self.request(Ask {
                url: &url,
                earlier,
                part: part.as_deref(),
                max: self.limits.max_body,
            })? {
                Reply::NotModified { described } => return Ok(Fetched::NotModified { described }),
                Reply::Body { bytes, validators, described } => {
                    return Ok(Fetched::Body { bytes, form, validators, described });
                }
                Reply::Status { status: 202, .. } => return Ok(Fetched::Later),
                Reply::Status { status: 404 | 410, .. } => {}
                Reply::Status { status, .. } => failure = Answer::refused(format!("HTTP status {status}")),
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

    fn address(&self, name: &ProfileName, form: Form) -> Result<Url, Answer> {
        let base = self.base.as_ref().map_err(Answer::refused)?;
        address(base, name, form).ok_or_else(no_path)
    }

    /// Asks for something else than a document, without a condition.
    fn fetch_below(&self, parts: &[&str], query: &[(&str, String)]) -> Result<Reply, Answer> {
        let base = self.base.as_ref().map_err(Answer::refused)?;
        let mut url = below(base, parts).ok_or_else(no_path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.request(Ask { url: &url, earlier: None, part: None, max: self.limits.max_body })
    }

    /// Fetches a listed document whose cached copy is absent or not current.
    fn refresh(
        &self,
        name: &ProfileName,
        entry: &InventoryEntry,
        cached: Option<&Record>,
    ) -> Result<Option<Profile>, Answer> {
        match self.fetch(name, cached)? {
            Fetched::NotModified { .. } => {
                if let Some(record) = cached {
                    let mut record = record.clone();
                    record.listed = entry.last_modified;
                    self.keep(|cache| cache.confirm(name, &record));
                }
                Ok(None)
            }
            // Announced, but not made before somebody asked.
            Fetched::Later => self.build(name, entry).map(Some),
            Fetched::Body { bytes, form, validators, .. } => {
                self.accept(name, entry, &bytes, form, validators).map(Some)
            }
        }
    }

    /// Checks a body and keeps it.
    fn accept(
        &self,
        name: &ProfileName,
        entry: &InventoryEntry,
        bytes: &[u8],
        form: Form,
        validators: Validators,
    ) -> Result<Profile, Answer> {
        let (profile, sha256) = source::decode_hashed(bytes, &self.limits)?;
        if profile.metadata().is_empty() {
            return Err(Answer::damaged("no $METADATA section: some other document was served"));
        }
        if entry.sha256().is_some_and(|listed| listed != sha256) {
            return Err(Answer::damaged("its SHA-256 is not the one the inventory lists"));
        }
        let record = Record::new(form, validators, entry.last_modified, sha256);
        self.keep(|cache| cache.put(name, bytes, record));
        Ok(profile)
    }

    /// The server's description of itself; `None` for static repositories.
    fn description(&self) -> Option<&Description> {
        if !self.session().described {
            return None;
        }
        let ask = || match self.fetch_below(&[".well-known", "rekal-repository"], &[]) {
            Ok(Reply::Body { bytes, .. }) => Description::parse(&bytes),
            _ => None,
        };
        self.description.get_or_init(ask).as_ref()
    }

    /// Has the server make a profile, and waits for it.
    fn build(&self, name: &ProfileName, entry: &InventoryEntry) -> Result<Profile, Answer> {
        let url = self.address(name, Form::Gzip)?;
        let waiting = Waiting::until(self.limits.build_timeout);
        let mut told = false;
        loop {
            match self.request(Ask { url: &url, earlier: None, part: None, max: self.limits.max_body })? {
                Reply::Body { bytes, validators, .. } => {
                    return self.accept(name, entry, &bytes, Form::Gzip, validators);
                }
                Reply::Status { status: 202, retry_after, .. } => {
                    if !told {
                        self.shared.note(format!("{} makes {name}, which takes a while", self.label));
                        told = true;
                    }
                    if !waiting.pause(retry_after) {
                        let seconds = self.limits.build_timeout.as_secs();
                        return Err(Answer::unreachable(format!("still making it after {seconds} s")));
                    }
                }
                Reply::Status { status: 404 | 410, json, .. } => return Err(service::refusal(json.as_ref())),
                Reply::Status { status, .. } => return Err(Answer::refused(format!("HTTP status {status}"))),
                Reply::NotModified { .. } => return Err(Answer::damaged("not modified, but never sent")),
            }
        }
    }

    /// A document that is not listed: one made for us before, or one the server makes now.
    fn unlisted(&self, session: &Session, name: &ProfileName) -> Result<Found, Answer> {
        // Made on demand and not listed when it came, so no listing was ever kept for it.
        if let Some((cached, profile)) = self.cached(name).filter(|(cached, _)| cached.record.listed == 0.0) {
            return Ok(Found { profile, source: cached_source(&self.label, &cached) });
        }
        let builds = session.closed.is_none() && self.description().is_some_and(|it| it.builds(name));
        if !builds {
            return Err(Answer::NotListed);
        }
        let profile = self.build(name, &InventoryEntry::default())?;
        Ok(Found { profile, source: format!("{} (made on demand)", self.label) })
    }

    /// Asks for a kernel's profile by everything that is known of the kernel. Nothing is asked of static repositories.
    fn lookup(&self, evidence: &LinuxEvidence) -> Result<Vec<Candidate>, Answer> {
        let Some(parts) = self.description().and_then(Description::lookup) else { return Ok(Vec::new()) };
        let query = service::query(evidence);
        if query.is_empty() || self.session().closed.is_some() {
            return Ok(Vec::new());
        }
        match self.fetch_below(&parts, &query)? {
            Reply::Body { bytes, .. } => {
                let matches = service::matches(&bytes)
                    .ok_or_else(|| Answer::damaged("its answer to a lookup cannot be read"))?;
                let entry = |(name, reason)| Candidate { name, entry: self.label.clone(), reason };
                Ok(matches.into_iter().map(entry).collect())
            }
            Reply::Status { status: 404, .. } => Ok(Vec::new()),
            Reply::Status { status, .. } => Err(Answer::refused(format!("HTTP status {status}"))),
            Reply::NotModified { .. } => Err(Answer::damaged("not modified, but never sent")),
        }
    }

    /// Brings the copy of a listed document up to date.
    pub(crate) fn update(&self, name: &ProfileName, entry: &InventoryEntry) -> Result<Update, Answer> {
        let cached = self.cache.as_ref().and_then(|cache| cache.get(name));
        let record = cached.as_ref().map(|cached| &cached.record);
        if record.is_some_and(|record| is_current(record, entry)) {
            return Ok(Update::Current);
        }
        self.refresh(name, entry, record).map(|_| Update::Fetched)
    }

    /// The signature of the inventory, as the server has it now; `None` where it has none.
    pub(crate) fn fetch_signature(&self) -> Result<Option<String>, Answer> {
        match self.fetch_below(&[LAYOUT, SIGNATURE_FILE], &[])? {
            Reply::Body { bytes, .. } if bytes.len() <= MAX_SIGNATURE => Ok(String::from_utf8(bytes).ok()),
            _ => Ok(None),
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
        let Some(entry) = inventory.get(name) else { return self.unlisted(session, name) };
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
        Ok(Found { profile, source: cached_source(&self.label, &cached) })
    }
}

fn cached_source(label: &str, cached: &Cached) -> String {
    format!("{label} (cached in {})", cached.path.display())
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

    fn signed_inventory(&self) -> Result<Signed, Answer> {
        let session = self.session();
        let stale = || Answer::refused("its inventory is not kept in the form that is signed");
        let kept = self.cache.as_ref().and_then(Cache::signature);
        let signature = match &session.closed {
            Some(_) => kept,
            None => {
                let fetched = self.fetch_signature()?;
                self.keep(|cache| cache.put_signature(fetched.as_deref()));
                fetched
            }
        };
        if session.bytes.is_empty() {
            return Err(session.closed.clone().unwrap_or_else(stale));
        }
        Ok(Signed { inventory: session.bytes.clone(), signature })
    }

    fn ask(&self, evidence: &LinuxEvidence) -> Result<Vec<Candidate>, Answer> {
        self.lookup(evidence)
    }
}

fn no_path() -> Answer {
    Answer::refused("not a URL with a path")
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
    let extension = if form == Form::Gzip { ".gz" } else { "" };
    let file = format!("{name}{extension}");
    let parts: Vec<&str> = std::iter::once(LAYOUT).chain(file.split('/')).collect();
    below(base, &parts)
}

/// `<base>/<parts>`.
fn below(base: &Url, parts: &[&str]) -> Option<Url> {
    let mut url = base.clone();
    url.set_fragment(None);
    url.path_segments_mut().ok()?.pop_if_empty().extend(parts);
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
