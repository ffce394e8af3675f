//! PDBs from the configured symbol servers, each fetched once and kept in the layout of symbol stores.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use profile_gen::symbol_server::{
    self, Defaults, Failure, FetchError, Guard, Options, PdbFile, SymbolPath, SymbolServer,
};
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::sync::Semaphore;
use transport::Url;

use crate::config::Build;
use crate::flights::{Flights, Full};
use crate::log::Log;
use crate::misses::{Kind, Miss, Misses};

/// Most downloads at a time.
const DOWNLOADS: usize = 4;

/// Longest time for one file.
const DEADLINE: Duration = Duration::from_secs(300);

/// A PDB on this machine.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) path: PathBuf,
    /// The file is removed with it, where no directory keeps symbols.
    _scratch: Option<NamedTempFile>,
}

/// What came of a fetch.
pub(crate) type Outcome = Result<Arc<Fetched>, Miss>;

/// The symbol servers behind this one.
pub(crate) struct Upstream {
    server: Arc<SymbolServer>,
    flights: Flights<PdbFile, Outcome>,
    misses: Arc<Misses<PdbFile>>,
    downloads: Arc<Semaphore>,
    log: Arc<Log>,
}

impl Upstream {
    /// The stores of a configuration; `directory` is where symbols are kept. `None` where there is neither a server nor
    /// a directory.
    pub(crate) fn new(config: &Build, directory: Option<PathBuf>, log: Arc<Log>) -> Option<Self> {
        let keep = directory.as_ref().map(|path| format!("{}*", path.display())).unwrap_or_default();
        let mut elements: Vec<String> =
            config.symbol_servers.iter().map(|url| format!("srv*{keep}{url}")).collect();
        if elements.is_empty() {
            elements
                .extend(directory.filter(|path| path.is_dir()).map(|path| format!("srv*{}", path.display())));
        }
        let path = SymbolPath::parse(&elements.join(";"), &Defaults::default());
        if path.is_empty() {
            return None;
        }
        let limits = symbol_server::Limits {
            max_file: config.pdb_mib << 20,
            deadline: DEADLINE,
            attempts: 3,
            longest_pause: Duration::from_secs(5),
            // Shorter than what is remembered here, so that it never outlasts that.
            remember_missing: Duration::from_secs(config.not_found_seconds / 2),
            remember_wrong: Duration::from_secs(config.malformed_seconds / 2),
            ..symbol_server::Limits::default()
        };
        let guard: Arc<dyn Guard> = Arc::new(PublicOnly);
        let guard = (!config.private_addresses).then_some(guard);
        let server = SymbolServer::new(&path, Options { limits, guard, ..Options::default() });
        Some(Self {
            server: Arc::new(server),
            flights: Flights::new(config.queue),
            misses: Arc::new(Misses::new(config)),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
            log,
        })
    }

    /// Fetches a PDB, or waits for the fetch that is under way.
    pub(crate) async fn fetch(&self, file: &PdbFile) -> Outcome {
        if let Some(miss) = self.misses.get(file) {
            return Err(miss);
        }
        let flight = self.flights.join(file, || {
            let (server, misses) = (Arc::clone(&self.server), Arc::clone(&self.misses));
            let (downloads, log, file) = (Arc::clone(&self.downloads), Arc::clone(&self.log), file.clone());
            async move {
                let _turn = downloads.acquire_owned().await;
                let wanted = file.clone();
                let fetched = tokio::task::spawn_blocking(move || fetch(&server, &wanted)).await;
                let fetched = fetched
                    .unwrap_or_else(|_| Err((Kind::Malformed, "internal error".to_owned(), Vec::new())));
                match fetched {
                    Ok((fetched, source)) => {
                        log.event("symbols fetched", json!({ "file": file.to_string(), "source": source }));
                        Ok(Arc::new(fetched))
                    }
                    Err((kind, reason, tried)) => {
                        let miss = misses.remember(file.clone(), misses.miss(kind, reason, tried));
                        let reason = &miss.reason;
                        log.event(
                            "symbols not fetched",
                            json!({ "file": file.to_string(), "reason": reason }),
                        );
                        Err(miss)
                    }
                }
            }
        });
        match flight {
            Ok(flight) => flight
                .landed()
                .await
                .unwrap_or_else(|| Err(self.misses.miss(Kind::Down, "internal error", vec![]))),
            Err(Full) => Err(self.misses.miss(Kind::Busy, "too many downloads wait", vec![])),
        }
    }
}

fn fetch(server: &SymbolServer, file: &PdbFile) -> Result<(Fetched, String), (Kind, String, Vec<String>)> {
    let fetched = server.fetch_pdb(file).map_err(|error| explain(&error))?;
    if let Some(path) = fetched.path {
        return Ok((Fetched { path, _scratch: None }, fetched.source));
    }
    let scratch = || -> std::io::Result<NamedTempFile> {
        let file = NamedTempFile::new()?;
        std::fs::write(file.path(), &fetched.bytes)?;
        Ok(file)
    };
    let scratch =
        scratch().map_err(|error| (Kind::Down, format!("cannot keep what is fetched: {error}"), vec![]))?;
    Ok((Fetched { path: scratch.path().to_owned(), _scratch: Some(scratch) }, fetched.source))
}

fn explain(error: &FetchError) -> (Kind, String, Vec<String>) {
    let kind = match &error.failure {
        Failure::NoStores | Failure::NotFound | Failure::Offline => Kind::NotFound,
        Failure::Withheld(_) => Kind::Refused,
        Failure::Wrong(_) => Kind::Malformed,
        Failure::Unreachable(_) => Kind::Down,
    };
    (kind, error.to_string(), error.trace.iter().map(ToString::to_string).collect())
}

/// Keeps requests made for strangers away from this machine and its neighbours.
struct PublicOnly;

impl Guard for PublicOnly {
    fn url(&self, url: &Url) -> Result<(), String> {
        match url.scheme() {
            "http" | "https" => Ok(()),
            scheme => Err(format!("only http and https are asked, not {scheme}")),
        }
    }

    fn address(&self, address: IpAddr) -> Result<(), String> {
        if is_public(address) { Ok(()) } else { Err(format!("not a public address: {address}")) }
    }
}

/// Whether an address is one of the internet at large, by the registries of special-purpose addresses (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && b & 0xc0 == 64;
    let protocols = (a, b, c) == (192, 0, 0);
    let relay = (a, b, c) == (192, 88, 99);
    let benchmark = a == 198 && b & 0xfe == 18;
    !(a == 0
        || a >= 240
        || shared
        || protocols
        || relay
        || benchmark
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match segments {
        // Mapped, translated (RFC 6052) and 6to4 addresses lead to the IPv4 address inside them.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(embedded(high, low))
        }
        [0x2002, high, low, ..] => is_public_v4(embedded(high, low)),
        // Teredo, benchmarks, ORCHID and the other special parts of 2001::/23, and documentation.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // Of everything else only 2000::/3 is given out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for private in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "::7f00:1",
            "100::1",
            "4000::1",
            "fec0::1",
        ] {
            assert!(!is_public(private.parse().expect("an address")), "{private}");
        }
        for public in
            ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1", "2001:4860:4860::8888", "::ffff:8.8.8.8"]
        {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
    }
}
