//! A repository of which only signed documents are taken.
//!
//! An entry of the search path that ends in `#minisign=KEY` requires that its `inventory.gz` is signed by that key
//! (`inventory.gz.minisig` beside it) and that each document has the SHA-256 the inventory lists. Everything else is
//! refused: a missing or wrong signature, a document that is not listed or listed without a hash, one that was changed.
//! Entries without a key are read as they are; whoever can write there, or between, decides what an analysis sees.
//!
//! A signature does not tell its age: who can answer for a server can give an older signed inventory.

use std::sync::OnceLock;

use profile::names::ProfileName;

use crate::config::Limits;
use crate::inventory::Inventory;
use crate::signature::PublicKey;
use crate::source::{Found, Signed, Source, sha256_hex};
use crate::trace::{Answer, Trace};

/// What stands between an entry and the key it requires.
const MARK: &str = "#minisign=";

/// Divides an entry of a search path into the repository and the key it requires.
pub(crate) fn split(entry: &str) -> (&str, Option<&str>) {
    entry.rsplit_once(MARK).map_or((entry, None), |(place, key)| (place, Some(key)))
}

/// A repository behind a required key.
pub(crate) struct Trusted {
    inner: Box<dyn Source>,
    key: Result<PublicKey, String>,
    limits: Limits,
    inventory: OnceLock<Result<Inventory, Answer>>,
}

impl Trusted {
    pub(crate) fn new(inner: Box<dyn Source>, key: &str, limits: Limits) -> Self {
        let key = PublicKey::parse(key).map_err(|error| error.to_string());
        Self { inner, key, limits, inventory: OnceLock::new() }
    }

    /// SHA-256 of a document, as signed.
    fn listed(&self, name: &ProfileName) -> Result<&str, Answer> {
        let entry = self.inventory()?.get(name).ok_or(Answer::NotListed)?;
        entry.sha256().ok_or_else(|| Answer::refused("the signed inventory lists no SHA-256 of it"))
    }

    /// The document, unless it is not the signed one.
    fn checked(&self, name: &ProfileName, trace: &mut Trace) -> Result<Found, Option<Answer>> {
        let listed = self.listed(name).map_err(Some)?;
        // What the repository itself answers is in the trace already.
        let found = self.inner.read(name, trace).ok_or(None)?;
        if sha256_hex(found.profile.text().as_bytes()) == listed {
            Ok(found)
        } else {
            Err(Some(Answer::damaged("its SHA-256 is not the one of the signed inventory")))
        }
    }
}

/// The inventory, if `key` signed it.
pub(crate) fn verified(signed: &Signed, key: &PublicKey, max_text: usize) -> Result<Inventory, Answer> {
    let signature = signed.signature.as_deref();
    let signature =
        signature.ok_or_else(|| Answer::refused(format!("not signed; required is the key {key}")))?;
    key.verify(&signed.inventory, signature).map_err(Answer::refused)?;
    Inventory::parse(&signed.inventory, max_text).map_err(Answer::damaged)
}

impl Source for Trusted {
    fn label(&self) -> &str {
        self.inner.label()
    }

    fn read(&self, name: &ProfileName, trace: &mut Trace) -> Option<Found> {
        let failure = match self.checked(name, trace) {
            Ok(found) => return Some(found),
            Err(failure) => failure,
        };
        if let Some(answer) = failure {
            trace.add(self.label(), name, answer);
        }
        None
    }

    fn has(&self, name: &ProfileName) -> Answer {
        match self.inventory() {
            Ok(inventory) if inventory.get(name).is_some() => self.inner.has(name),
            Ok(_) => Answer::NotListed,
            Err(answer) => answer,
        }
    }

    fn inventory(&self) -> Result<&Inventory, Answer> {
        let verify = || {
            let key = self.key.as_ref().map_err(Answer::refused)?;
            let signed = self.inner.signed_inventory()?;
            verified(&signed, key, self.limits.max_inventory)
        };
        self.inventory.get_or_init(verify).as_ref().map_err(Clone::clone)
    }

    fn signed_inventory(&self) -> Result<Signed, Answer> {
        self.inner.signed_inventory()
    }
}
