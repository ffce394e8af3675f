//! The service and every route of it.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use profile::names::{BuildId, ProfileName};
use repository::SecretKey;
use tokio::sync::Semaphore;

use crate::answer::{self, Answer};
use crate::blobs::{Blobs, Disk};
use crate::builds::Builds;
use crate::config::Config;
use crate::endpoints::{build, inventory, lookup, ops, page, profiles, symbols, upload};
use crate::files::Files;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::store::{PublishError, Published, Store};
use crate::upkeep;
use crate::uploads::Uploads;
use crate::upstream::Upstream;

/// Longest wait of a request for its turn at the disk.
const WAIT_FOR_TURN: Duration = Duration::from_secs(1);

/// The address a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// A repository and everything that serves it.
pub struct Service {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    pub(crate) log: Arc<Log>,
    pub(crate) builds: Builds,
    /// Where missing symbols come from; absent where none are fetched or kept.
    pub(crate) upstream: Option<Upstream>,
    pub(crate) files: Files,
    pub(crate) uploads: Uploads,
    /// The directory for what is no profile; absent where none was named and the root itself holds the names.
    pub(crate) state: Option<PathBuf>,
    turns: Semaphore,
    draining: AtomicBool,
}

impl Service {
    /// Opens the repository at `root`, a directory or (with the feature `s3`) `s3://bucket/prefix`, and looks through it.
    /// Blocks.
    pub fn open(root: &Path, config: Config) -> io::Result<Arc<Self>> {
        if let Some(place) = root.to_str().and_then(|root| root.strip_prefix("s3://")) {
            return Self::over(bucket(place)?, None, config);
        }
        let disk = Disk::open(root)?;
        let beside = disk.beside();
        Self::over(Box::new(disk), beside, config)
    }

    fn over(blobs: Box<dyn Blobs>, beside: Option<PathBuf>, config: Config) -> io::Result<Arc<Self>> {
        let state = config.state.clone().or(beside);
        let key = config.signing_key.as_deref().map(signing_key).transpose()?;
        let store = Store::open(blobs, &config.limits, key)?;
        let log = Arc::new(Log::start());
        let symbols = config.build.symbols.clone();
        let symbols = symbols.or_else(|| state.as_ref().map(|state| state.join("symbols")));
        let upstream = Upstream::new(&config.build, symbols, Arc::clone(&log));
        let uploads = Uploads::new(&config, state.as_deref())?;
        let service = Arc::new(Self {
            store,
            metrics: Metrics::new(),
            builds: Builds::new(&config.build),
            upstream,
            files: Files::new(),
            uploads,
            log,
            state,
            turns: Semaphore::new(config.limits.requests),
            draining: AtomicBool::new(false),
            config,
        });
        upkeep::announce(&service, None);
        Ok(service)
    }

    /// Runs blocking work on a thread of its own, of which there are so many only; the error is the answer to send.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Answer> {
        let busy =
            || answer::later(StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time", WAIT_FOR_TURN);
        let turn = tokio::time::timeout(WAIT_FOR_TURN, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(busy()) };
        let service = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&service)).await;
        done.map_err(|_| answer::refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error"))
    }

    /// Stores a document, compressed, in one step, and lists it; when it returns, the document outlives a crash. `text`
    /// is the canonical JSON. Another document of that name is replaced only where `replace` says so. Blocks.
    pub(crate) fn publish(
        &self,
        name: &ProfileName,
        text: String,
        replace: bool,
    ) -> Result<Published, PublishError> {
        let published = self.store.publish(name, text, replace)?;
        self.builds.stored(name);
        Ok(published)
    }

    /// The file with debug information of a kernel: uploads put it there. `None` where the server keeps no such files.
    pub(crate) fn debuginfo(&self, id: &BuildId) -> Option<PathBuf> {
        Some(self.state.as_ref()?.join("buildid").join(id.as_str()).join("debuginfo"))
    }

    /// Whether the server is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

fn signing_key(path: &Path) -> io::Result<SecretKey> {
    let failed = |error: &dyn std::fmt::Display| {
        io::Error::other(format!("cannot use the signing key {}: {error}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    SecretKey::parse(&text).map_err(|error| failed(&error))
}

#[cfg(feature = "s3")]
fn bucket(place: &str) -> io::Result<Box<dyn Blobs>> {
    Ok(Box::new(crate::bucket::Bucket::open(place)?))
}

#[cfg(not(feature = "s3"))]
fn bucket(_: &str) -> io::Result<Box<dyn Blobs>> {
    Err(io::Error::other("this program was built without buckets; build it with the cargo feature s3"))
}

/// Every route. GET implies HEAD; a method that a route does not have is 405.
///
/// | route | answer |
/// |---|---|
/// | `/v1.0/<name>.gz` | the document, always gzip bytes, whatever `Content-Encoding` a client would like |
/// | `/v1.0/<name>` | the document as JSON; `Accept-Encoding` decides how it travels |
/// | `/v1.0/inventory.gz`, `/v1.0/inventory` | what the repository holds; `?prefix=` a part, `?since=` what changed |
/// | `/v1.0/inventory.gz.minisig` | its signature, where there is one |
/// | `PUT`, `DELETE /v1.0/<name>`, `POST /upload/pdb`, `POST /upload/linux` | writing, for holders of tokens |
/// | `/` | the page for people |
/// | `/list` | names in pages, for people and scripts |
/// | `/lookup` | names by what is known of a binary or a kernel |
/// | `/builds/<name>` | what became of a build |
/// | `/<pdb>/<GUIDAGE>/<pdb>` | symbols for debuggers of Windows |
/// | `/buildid/<id>/debuginfo` | debug information for those of Linux |
/// | `/.well-known/rekal-repository` | what this server can do |
/// | `/healthz`, `/readyz`, `/metrics` | for operators |
///
/// Original clients with a trailing slash in their base URL ask for `//v1.0/...`.
pub(crate) fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1.0/inventory.gz", get(inventory::gzip))
        .route("//v1.0/inventory.gz", get(inventory::gzip))
        .route("/v1.0/inventory.gz.minisig", get(inventory::signature))
        .route("/v1.0/inventory", get(inventory::plain))
        .route("//v1.0/inventory", get(inventory::plain))
        .route("/v1.0/{*name}", get(profiles::document).put(upload::put).delete(upload::delete))
        .route("//v1.0/{*name}", get(profiles::document))
        .route("/upload/pdb", post(upload::pdb))
        .route("/upload/linux", post(upload::linux))
        .route("/", get(page::html))
        .route("/page.js", get(page::script))
        .route("/page.css", get(page::style))
        .route("/list", get(inventory::list))
        .route("/lookup", get(lookup::lookup))
        .route("/builds/{*name}", get(build::status))
        .route("/{pdb}/{id}/{file}", get(symbols::pdb))
        .route("/buildid/{id}/debuginfo", get(symbols::debuginfo))
        .route("/.well-known/rekal-repository", get(ops::capabilities))
        .route("/healthz", get(ops::health))
        .route("/readyz", get(ops::ready))
        .route("/metrics", get(ops::metrics))
        .fallback(ops::unknown)
        // Bodies are bounded where they are received, each kind by its own limit.
        .layer(DefaultBodyLimit::disable())
        .with_state(service)
}
