//! A profile repository over HTTP, for rekal and for original Rekall clients.
//!
//! ```text
//! serve.rs    connections, request ids, log, metrics; outlet.rs sends
//!   app.rs    every route; the `Service` they share
//!     endpoints/   one file per concern
//!       store.rs       documents as bodies ready to send (blob.rs, answer.rs), publishing
//!       catalogue/     what there is: inventory, listings, lookups, kept while it changes
//!         blobs.rs     the files: a directory, or a bucket
//! ```

mod answer;
mod app;
mod audit;
mod blob;
mod blobs;
#[cfg(feature = "s3")]
mod bucket;
mod builds;
mod catalogue;
mod config;
mod endpoints;
mod files;
mod flights;
mod log;
mod metrics;
mod misses;
mod names;
mod outlet;
pub mod requests;
mod serve;
mod store;
mod tls;
mod tokens;
mod upkeep;
mod uploads;
mod upstream;

pub use app::Service;
pub use config::{Config, ConfigError, Limits, Tls};
pub use serve::serve;
pub use tls::{TlsError, acceptor};
