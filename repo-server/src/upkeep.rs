//! What happens without being asked: files changed by others are noticed, announced names are read, the inventory is
//! saved.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use profile::names::ProfileName;
use serde_json::json;

use crate::app::Service;
use crate::names::Symbol;

/// A look through the tree is never started before this many times its own duration passed: at most 5 % of one core.
const REST: u32 = 20;

/// Runs until it is aborted.
pub(crate) async fn run(service: Arc<Service>) {
    let mut pause = Duration::from_secs(service.config.limits.rescan_seconds.max(1));
    let mut announced = None;
    loop {
        tokio::time::sleep(pause).await;
        let start = Instant::now();
        let round = Arc::clone(&service);
        let last = announced.take();
        // A panic in there is a defect, but no reason to stop serving.
        announced = tokio::task::spawn_blocking(move || once(&round, last)).await.unwrap_or_default();
        pause = Duration::from_secs(service.config.limits.rescan_seconds.max(1)).max(start.elapsed() * REST);
    }
}

/// One round; takes and returns when the file of announced names was last changed.
fn once(service: &Service, announced: Option<SystemTime>) -> Option<SystemTime> {
    let announced = announce(service, announced);
    if let Err(error) = service.store.sweep() {
        service.log.event("sweep failed", json!({ "error": error.to_string() }));
    }
    save(service);
    announced
}

/// Saves the inventory where the server is one that writes.
pub(crate) fn save(service: &Service) {
    if service.config.writes()
        && let Err(error) = service.store.save_inventory()
    {
        service.log.event("inventory not saved", json!({ "error": error.to_string() }));
    }
}

/// Announces the names of the configured file where it changed after `last`; returns when it did.
pub(crate) fn announce(service: &Service, last: Option<SystemTime>) -> Option<SystemTime> {
    let path = service.config.build.announce.as_ref()?;
    let read = || -> std::io::Result<Option<(SystemTime, String)>> {
        let changed = fs::metadata(path)?.modified()?;
        if Some(changed) == last { Ok(None) } else { Ok(Some((changed, fs::read_to_string(path)?))) }
    };
    let (changed, text) = match read() {
        Ok(Some(read)) => read,
        Ok(None) => return last,
        Err(error) => {
            service.log.event("announced names not read", json!({ "error": error.to_string() }));
            return last;
        }
    };
    let mut names = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let symbol = ProfileName::new(line).ok().and_then(|name| Symbol::of_profile(&name));
        match symbol {
            Some(symbol) => drop(names.insert(symbol.profile().clone())),
            None => service.log.event("not a name to announce", json!({ "line": number })),
        }
    }
    // It must not lie in the future, or original clients fetch a profile again and again.
    let seconds = changed.min(SystemTime::now()).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    service.store.catalogue.announce(names, seconds);
    Some(changed)
}
