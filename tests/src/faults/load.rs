//! What clients do, and what they may rely on afterwards.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use profile::{Document, Profile};

use super::Random;
use super::http::{Answer, ask};
use super::server::TOKEN;
use super::upstream::PDB;

/// Most failures told in full.
const SHOWN: usize = 20;

/// What was acknowledged, and what went wrong.
#[derive(Default)]
pub struct Load {
    /// Numbers of documents that were acknowledged.
    stored: Mutex<BTreeSet<u64>>,
    /// GUIDs whose profiles were built and served.
    built: Mutex<Vec<u64>>,
    /// Names that were listed and whole at an earlier check.
    checked: Mutex<BTreeSet<String>>,
    next: AtomicU64,
    /// Answers by sort.
    pub counts: Counts,
    failures: Mutex<Vec<String>>,
    /// Ends the load.
    pub stop: AtomicBool,
    /// Held for writing while nobody may write.
    pub writing: RwLock<()>,
}

/// How often what happened.
#[derive(Debug, Default)]
pub struct Counts {
    /// Uploads acknowledged.
    pub stored: AtomicU64,
    /// Uploads refused because the disk does not take them.
    pub refused: AtomicU64,
    /// Builds served.
    pub built: AtomicU64,
    /// Builds that failed or are not ready.
    pub not_built: AtomicU64,
    /// Documents read and equal to what was sent.
    pub read: AtomicU64,
    /// Inventories read.
    pub inventories: AtomicU64,
    /// Requests without a whole answer.
    pub broken: AtomicU64,
}

impl Load {
    fn fail(&self, what: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < SHOWN {
            failures.push(what);
        }
    }

    /// What went wrong so far.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn get(&self, server: SocketAddr, target: &str) -> Option<Answer> {
        let answer = ask(server, "GET", target, "", b"");
        self.counts.broken.fetch_add(u64::from(answer.is_none()), Ordering::Relaxed);
        answer
    }

    /// Sends documents until the load ends. What is sent is a function of its number.
    pub fn send(&self, server: SocketAddr, pause: Duration) {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let body = document(number).to_canonical_json();
            let answer = {
                let _turn = self.writing.read().unwrap_or_else(PoisonError::into_inner);
                ask(server, "PUT", &format!("/v1.0/Load/{number}"), TOKEN, body.as_bytes())
            };
            match answer.map(|answer| (answer.status, answer.body)) {
                Some((200 | 201, _)) => {
                    self.counts.stored.fetch_add(1, Ordering::Relaxed);
                    self.stored.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
                }
                Some((503 | 507, _)) => drop(self.counts.refused.fetch_add(1, Ordering::Relaxed)),
                Some((status, body)) => {
                    let why = String::from_utf8_lossy(&body).into_owned();
                    self.fail(format!("upload {number}: status {status}: {why}"));
                }
                None => drop(self.counts.broken.fetch_add(1, Ordering::Relaxed)),
            }
            std::thread::sleep(pause);
        }
    }

    /// Asks for profiles that must be built, each for the first time.
    pub fn build(&self, server: SocketAddr, seed: u64, pause: Duration) {
        let mut random = Random::new(seed);
        while !self.stop.load(Ordering::Relaxed) {
            let guid = random.number() | 1;
            match self.get(server, &format!("/v1.0/{}.gz", built_name(guid))) {
                Some(answer) if answer.status == 200 => {
                    self.check_built(guid, &answer.body);
                    self.counts.built.fetch_add(1, Ordering::Relaxed);
                    self.built.lock().unwrap_or_else(PoisonError::into_inner).push(guid);
                }
                _ => drop(self.counts.not_built.fetch_add(1, Ordering::Relaxed)),
            }
            std::thread::sleep(pause);
        }
    }

    /// Reads what was acknowledged, and the inventory now and then.
    pub fn read(&self, server: SocketAddr, seed: u64, pause: Duration) {
        let mut random = Random::new(seed);
        while !self.stop.load(Ordering::Relaxed) {
            if random.below(10) == 0 {
                self.read_inventory(server);
            }
            let known = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
            let number =
                known.iter().nth(usize::try_from(random.below(known.len() as u64)).unwrap_or(0)).copied();
            drop(known);
            if let Some(number) = number {
                self.read_one(server, number);
            }
            std::thread::sleep(pause);
        }
    }

    fn read_one(&self, server: SocketAddr, number: u64) {
        match self.get(server, &format!("/v1.0/Load/{number}")) {
            Some(answer) if answer.status == 200 => {
                if answer.body == document(number).to_canonical_json().as_bytes() {
                    self.counts.read.fetch_add(1, Ordering::Relaxed);
                } else {
                    self.fail(format!("document {number} is not what was sent"));
                }
            }
            Some(answer) => self.fail(format!("acknowledged document {number}: status {}", answer.status)),
            None => {}
        }
    }

    fn check_built(&self, guid: u64, body: &[u8]) {
        let profile = Profile::parse(body, &profile::Limits::default());
        let id = built_name(guid);
        match profile {
            Ok(profile) if profile.metadata_str("GUID_AGE").is_some_and(|age| id.ends_with(age)) => {}
            Ok(_) => self.fail(format!("{id} is of another file")),
            Err(error) => self.fail(format!("{id}: {error}")),
        }
    }

    /// Reads the inventory; returns the names listed.
    fn read_inventory(&self, server: SocketAddr) -> BTreeSet<String> {
        let Some(answer) = self.get(server, "/v1.0/inventory.gz") else { return BTreeSet::new() };
        let profile = Profile::parse(&answer.body, &profile::Limits::default());
        let list = profile
            .map(|profile| profile.section::<serde_json::Map<String, serde_json::Value>>("$INVENTORY"));
        match list {
            Ok(Ok(Some(list))) if answer.status == 200 => {
                self.counts.inventories.fetch_add(1, Ordering::Relaxed);
                list.keys().cloned().collect()
            }
            _ => {
                self.fail(format!("inventory: status {}, {} bytes", answer.status, answer.body.len()));
                BTreeSet::new()
            }
        }
    }

    /// Reads everything that was acknowledged, and everything that is listed and was not read before: nothing is lost,
    /// nothing is half there.
    pub fn verify(&self, server: SocketAddr) {
        let listed = self.read_inventory(server);
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for number in &stored {
            if !listed.contains(&format!("Load/{number}")) {
                self.fail(format!("acknowledged document {number} is not listed"));
            }
            self.read_one(server, *number);
        }
        for guid in self.built.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            match self.get(server, &format!("/v1.0/{}.gz", built_name(*guid))) {
                Some(answer) if answer.status == 200 => self.check_built(*guid, &answer.body),
                answer => {
                    self.fail(format!("{}: {:?}", built_name(*guid), answer.map(|answer| answer.status)));
                }
            }
        }
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        for lost in checked.difference(&listed) {
            self.fail(format!("was listed, and is not any more: {lost}"));
        }
        for name in listed {
            if !checked.insert(name.clone()) {
                continue;
            }
            let known = name.strip_prefix("Load/").and_then(|number| number.parse().ok());
            match known {
                Some(number) if stored.contains(&number) => {}
                // Not acknowledged, but there: it must be whole.
                Some(number) => self.read_one(server, number),
                None => self.read_listed(server, &name),
            }
        }
    }

    fn read_listed(&self, server: SocketAddr, name: &str) {
        let answer = self.get(server, &format!("/v1.0/{name}.gz"));
        let whole = answer.as_ref().is_some_and(|answer| {
            answer.status == 200 && Profile::parse(&answer.body, &profile::Limits::default()).is_ok()
        });
        if !whole {
            self.fail(format!("listed, but not served: {name}: {:?}", answer.map(|answer| answer.status)));
        }
    }

    /// Forgets what was checked, so that the next check is of what came since.
    pub fn forget(&self) {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.built.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn built_name(guid: u64) -> String {
    format!("{PDB}/GUID/{guid:016X}{:016X}1", guid.rotate_left(17))
}

/// A document of 1 to 300 KB.
fn document(number: u64) -> Document {
    let mut random = Random::new(number);
    let mut document = Document::default();
    document.set("Type", "Profile");
    document.set("ProfileClass", "Linux");
    document.set("Number", number);
    // Most are small, some are large.
    let symbols = 1 << random.below(13);
    for _ in 0..symbols {
        document.constants.insert(format!("symbol_{:x}", random.number()), random.number());
    }
    document
}
