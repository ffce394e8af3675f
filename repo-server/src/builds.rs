//! Profiles made when they are first asked for: fetched, converted in a limited process, checked, stored, listed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use profile::names::ProfileName;
use profile::{Document, Profile};
use profile_gen::pdb::PdbOptions;
use profile_gen::worker::{Conversion, Worker, WorkerError, WorkerLimits};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::app::Service;
use crate::config::Build;
use crate::flights::{Flight, Flights, Full};
use crate::misses::{Kind, Miss, Misses};
use crate::names::Symbol;
use crate::upstream::Fetched;

/// Most addresses whose builds are counted at a time.
const MAX_ADDRESSES: usize = 10_000;

/// What came of a build.
pub(crate) type Outcome = Result<(), Miss>;

/// What a request for a missing profile leads to.
pub(crate) enum Started {
    /// It is being built; the result comes here.
    Building(Flight<Outcome>),
    /// It is known that it cannot be had.
    Missed(Miss),
    /// This address asked for too much.
    TooMany,
}

/// The builds of this server.
pub(crate) struct Builds {
    allow: Vec<String>,
    flights: Flights<ProfileName, Outcome>,
    misses: Misses<ProfileName>,
    workers: Semaphore,
    worker: Result<Worker, String>,
    asked: Mutex<HashMap<IpAddr, Allowance>>,
    per_minute: f64,
}

/// How many builds an address may still cause.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Builds {
    pub(crate) fn new(config: &Build) -> Self {
        let limits = WorkerLimits {
            input: config.pdb_mib << 20,
            memory: config.convert_mib << 20,
            cpu_seconds: config.convert_seconds,
            wall: Duration::from_secs(config.convert_seconds * 2),
            threads: 1,
            ..WorkerLimits::default()
        };
        let worker = match &config.worker {
            Some(program) => Ok(Worker::new(program.clone(), limits)),
            None => Worker::this_program(limits).map_err(|error| error.to_string()),
        };
        Self {
            allow: config.allow.iter().map(|name| name.to_ascii_lowercase()).collect(),
            flights: Flights::new(config.queue),
            misses: Misses::new(config),
            workers: Semaphore::new(config.workers.max(1)),
            worker,
            asked: Mutex::default(),
            per_minute: f64::from(config.per_address_per_minute),
        }
    }

    /// Whether a PDB may be asked for upstream; the name in lower case.
    pub(crate) fn allows(&self, pdb: &str) -> bool {
        self.allow.iter().any(|allowed| allowed == pdb)
    }

    /// Number of builds that wait or run.
    pub(crate) fn len(&self) -> usize {
        self.flights.len()
    }

    /// The build of a profile that is under way.
    pub(crate) fn under_way(&self, name: &ProfileName) -> bool {
        self.flights.joinable(name).is_some()
    }

    /// Why a profile could not be built lately.
    pub(crate) fn missed(&self, name: &ProfileName) -> Option<Miss> {
        self.misses.get(name)
    }

    /// A profile was stored, so what was said about it does not hold any more.
    pub(crate) fn stored(&self, name: &ProfileName) {
        self.misses.forget(name);
    }

    /// Joins or starts the build of a profile that is not there.
    pub(crate) fn start(&self, service: &Arc<Service>, symbol: &Symbol, peer: IpAddr) -> Started {
        let name = symbol.profile();
        if let Some(flight) = self.flights.joinable(name) {
            return Started::Building(flight);
        }
        if let Some(miss) = self.misses.get(name) {
            return Started::Missed(miss);
        }
        if !symbol.pdbs().iter().any(|file| self.allows(file.name())) {
            let reason = format!("this server does not build profiles of {}", symbol.module());
            return Started::Missed(self.misses.miss(Kind::Refused, reason, Vec::new()));
        }
        if !self.take_allowance(peer) {
            return Started::TooMany;
        }
        // The build must not keep a stopped service alive.
        let (service, symbol) = (Arc::downgrade(service), symbol.clone());
        match self.flights.join(name, || build(service, symbol)) {
            Ok(flight) => Started::Building(flight),
            Err(Full) => Started::Missed(self.misses.miss(Kind::Busy, "too many builds wait", Vec::new())),
        }
    }

    /// Whether the address may cause one more build; its allowance grows by so many a minute.
    fn take_allowance(&self, address: IpAddr) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let refilled = |allowance: &Allowance| {
            let grown = now.duration_since(allowance.at).as_secs_f64() / 60.0 * self.per_minute;
            (allowance.left + grown).min(self.per_minute)
        };
        if asked.len() >= MAX_ADDRESSES {
            asked.retain(|_, allowance| refilled(allowance) < self.per_minute);
        }
        if asked.len() >= MAX_ADDRESSES && !asked.contains_key(&address) {
            return false;
        }
        let allowance = asked.entry(address).or_insert(Allowance { left: self.per_minute, at: now });
        *allowance = Allowance { left: refilled(allowance), at: now };
        let may = allowance.left >= 1.0;
        if may {
            allowance.left -= 1.0;
        }
        may
    }
}

async fn build(service: Weak<Service>, symbol: Symbol) -> Outcome {
    let Some(service) = service.upgrade() else { return Ok(()) };
    let start = Instant::now();
    let built = attempt(&service, &symbol).await;
    let name = symbol.profile();
    match built {
        Ok(()) => {
            let seconds = start.elapsed().as_secs_f64();
            service.metrics.builds("built");
            service.log.event("profile built", json!({ "name": name.as_str(), "seconds": seconds }));
            Ok(())
        }
        Err(miss) => {
            service.metrics.builds(miss.kind.name());
            let (kind, reason) = (miss.kind.name(), &miss.reason);
            service
                .log
                .event("profile not built", json!({ "name": name.as_str(), "kind": kind, "reason": reason }));
            Err(service.builds.misses.remember(name.clone(), miss))
        }
    }
}

async fn attempt(service: &Arc<Service>, symbol: &Symbol) -> Outcome {
    let builds = &service.builds;
    let Some(upstream) = &service.upstream else {
        return Err(builds.misses.miss(Kind::Refused, "this server builds nothing", Vec::new()));
    };
    let mut tried = Vec::new();
    for file in symbol.pdbs().into_iter().filter(|file| builds.allows(file.name())) {
        match upstream.fetch(&file).await {
            Ok(fetched) => {
                let _turn = builds.workers.acquire().await;
                let (service, symbol) = (Arc::clone(service), symbol.clone());
                let file = file.name().to_owned();
                let made = tokio::task::spawn_blocking(move || convert(&service, &symbol, &file, &fetched));
                return made.await.unwrap_or_else(|_| {
                    Err(builds.misses.miss(Kind::Malformed, "internal error", Vec::new()))
                });
            }
            Err(miss) if miss.kind == Kind::NotFound => tried.extend(miss.tried),
            Err(mut miss) => {
                tried.append(&mut miss.tried);
                miss.tried = tried;
                return Err(miss);
            }
        }
    }
    let reason = format!("no symbol server has symbols of {} {}", symbol.module(), symbol.id());
    Err(builds.misses.miss(Kind::NotFound, reason, tried))
}

/// Converts a fetched PDB, checks the profile and publishes it. Blocks.
fn convert(service: &Service, symbol: &Symbol, file: &str, fetched: &Fetched) -> Outcome {
    let builds = &service.builds;
    let miss = |kind, reason: String| builds.misses.miss(kind, reason, Vec::new());
    let worker = builds.worker.as_ref().map_err(|reason| miss(Kind::Down, reason.clone()))?;
    let options = PdbOptions {
        // The class under which original clients know the kernel, whatever its file is called.
        profile_class: (symbol.module() == "nt").then(|| "Nt".to_owned()),
        file_name: Some(file.to_owned()),
        guid_age: Some(symbol.id().to_string()),
        ..PdbOptions::default()
    };
    let converted = worker.convert(&fetched.path, &Conversion::Pdb(options)).map_err(|error| {
        let kind = match &error {
            WorkerError::Start(_) => Kind::Down,
            _ => Kind::Malformed,
        };
        miss(kind, error.to_string())
    })?;
    let document = check(service, symbol, converted.json).map_err(|reason| miss(Kind::Malformed, reason))?;
    // Whoever published another profile under this name meanwhile has said what it is.
    match service.publish(symbol.profile(), document.to_canonical_json(), false) {
        Ok(_) | Err(crate::store::PublishError::Taken(_)) => Ok(()),
        Err(error) => Err(miss(Kind::Down, error.to_string())),
    }
}

/// What a worker made is believed as little as what it was made of.
fn check(service: &Service, symbol: &Symbol, json: String) -> Result<Document, String> {
    let profile = Profile::parse_text(json).map_err(|error| error.to_string())?;
    let mut document = profile.to_document().map_err(|error| error.to_string())?;
    if profile.metadata_str("GUID_AGE") != Some(&symbol.id().to_string()) {
        return Err("the profile is of another file".to_owned());
    }
    if document.structs.is_empty() && document.constants.is_empty() && document.functions.is_empty() {
        return Err("the symbols hold neither types nor addresses".to_owned());
    }
    if symbol.module() == "nt" {
        if !profile.has_struct("_EPROCESS") {
            return Err("the symbols describe no kernel: there is no _EPROCESS".to_owned());
        }
        // As the original's own builds of kernels, where the repository has it.
        let undocumented = "nt/undocumented";
        if ProfileName::new(undocumented).is_ok_and(|name| service.store.catalogue.get(&name).is_some()) {
            document.merge = vec![undocumented.to_owned()];
        }
    }
    Ok(document)
}
