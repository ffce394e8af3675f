//! A repository that is a zip archive: members by name, with or without a `v1.0/` in front, plain or `.gz`.
//!
//! Nothing is ever extracted; a member's path is only compared with profile names, so `../` in it is harmless.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use profile::names::ProfileName;
use zip::ZipArchive;

use crate::LAYOUT;
use crate::config::Limits;
use crate::directory::{may_be_document, may_be_linux};
use crate::inventory::{self, Inventory, InventoryEntry};
use crate::signature::{MAX_SIGNATURE, SIGNATURE_FILE};
use crate::source::{self, Found, Signed, Source};
use crate::trace::{Answer, Trace};

/// A zip archive of profiles; opened when first asked.
pub(crate) struct Archive {
    path: PathBuf,
    label: String,
    limits: Limits,
    opened: OnceLock<Result<Opened, String>>,
    inventory: OnceLock<Inventory>,
}

struct Opened {
    zip: Mutex<ZipArchive<BufReader<File>>>,
    /// Index of the member by profile name; where both are there the plain one, as in directories.
    members: BTreeMap<ProfileName, usize>,
    /// Index of the inventory's signature.
    signature: Option<usize>,
}

impl Archive {
    pub(crate) fn new(path: PathBuf, limits: Limits) -> Self {
        let label = path.display().to_string();
        Self { path, label, limits, opened: OnceLock::new(), inventory: OnceLock::new() }
    }

    /// The names of its documents.
    pub(crate) fn names(&self) -> Result<Vec<ProfileName>, Answer> {
        let names = self.opened()?.members.keys().filter(|name| name.as_str() != inventory::NAME);
        Ok(names.cloned().collect())
    }

    fn opened(&self) -> Result<&Opened, Answer> {
        let open = || {
            let file = File::open(&self.path).map_err(|error| error.to_string())?;
            let zip = ZipArchive::new(BufReader::new(file))
                .map_err(|error| format!("not a zip archive: {error}"))?;
            if zip.len() > self.limits.max_tree {
                return Err(format!("more than {} members", self.limits.max_tree));
            }
            let members = members(&zip);
            let signature = zip.index_for_name(&format!("{LAYOUT}/{SIGNATURE_FILE}"));
            Ok(Opened { zip: Mutex::new(zip), members, signature })
        };
        self.opened.get_or_init(open).as_ref().map_err(Answer::refused)
    }

    fn bytes(&self, name: &ProfileName) -> Result<Vec<u8>, Answer> {
        let opened = self.opened()?;
        let index = *opened.members.get(name).ok_or(Answer::NotFound)?;
        member(opened, index, self.limits.max_text)
    }

    /// The stored inventory completed by unlisted members; those that may be Linux kernels are opened.
    fn list(&self, members: &BTreeMap<ProfileName, usize>) -> Inventory {
        let stored = ProfileName::new(inventory::NAME).ok().and_then(|name| self.bytes(&name).ok());
        let mut inventory = stored
            .and_then(|bytes| Inventory::parse(&bytes, self.limits.max_inventory).ok())
            .unwrap_or_default();
        inventory.entries.retain(|name, _| members.contains_key(name));
        let mut reads = 0;
        for name in members.keys().filter(|name| name.as_str() != inventory::NAME) {
            if inventory.entries.contains_key(name) {
                continue;
            }
            let mut entry = InventoryEntry::default();
            if may_be_linux(name) && reads < self.limits.max_reads {
                reads += 1;
                let content = self.bytes(name).and_then(|bytes| source::decode_hashed(&bytes, &self.limits));
                let Ok((profile, sha256)) = content else { continue };
                entry = InventoryEntry::describe(&profile, 0.0, &sha256);
            }
            inventory.entries.insert(name.clone(), entry);
        }
        inventory
    }
}

/// The bytes of one member, at most `max`.
fn member(opened: &Opened, index: usize, max: usize) -> Result<Vec<u8>, Answer> {
    let mut zip = opened.zip.lock().unwrap_or_else(PoisonError::into_inner);
    let member = zip.by_index(index).map_err(Answer::damaged)?;
    let mut bytes = Vec::new();
    member.take(max as u64 + 1).read_to_end(&mut bytes).map_err(Answer::damaged)?;
    if bytes.len() > max {
        return Err(Answer::damaged(format!("larger than the limit of {max} bytes")));
    }
    Ok(bytes)
}

/// The profile names of an archive's members. A member below a `v1.0` directory (also one further down, as in the
/// archives that hosting sites make of a repository) is named by what follows it.
fn members(zip: &ZipArchive<BufReader<File>>) -> BTreeMap<ProfileName, usize> {
    let mut members = BTreeMap::new();
    for index in 0..zip.len() {
        let Some(Ok(path)) = zip.name_for_index(index) else { continue };
        let marker = format!("{LAYOUT}/");
        let name = match path.strip_prefix(&marker) {
            Some(rest) => rest,
            None => path.split_once(&format!("/{marker}")).map_or(&*path, |(_, rest)| rest),
        };
        if name.ends_with('/') || name.starts_with("src/") || !may_be_document(name) {
            continue;
        }
        let Ok(profile_name) = ProfileName::new(name) else { continue };
        if name.ends_with(".gz") {
            members.entry(profile_name).or_insert(index);
        } else {
            members.insert(profile_name, index);
        }
    }
    members
}

impl Source for Archive {
    fn label(&self) -> &str {
        &self.label
    }

    fn read(&self, name: &ProfileName, trace: &mut Trace) -> Option<Found> {
        let (answer, found) = match self.bytes(name).and_then(|bytes| source::decode(&bytes, &self.limits)) {
            Ok(profile) => {
                (Answer::Found, Some(Found { profile, source: format!("{}: {name}", self.label) }))
            }
            Err(answer) => (answer, None),
        };
        trace.add(&self.label, name, answer);
        found
    }

    fn has(&self, name: &ProfileName) -> Answer {
        match self.opened() {
            Ok(opened) if opened.members.contains_key(name) => Answer::Found,
            Ok(_) => Answer::NotFound,
            Err(answer) => answer,
        }
    }

    fn inventory(&self) -> Result<&Inventory, Answer> {
        let members = &self.opened()?.members;
        Ok(self.inventory.get_or_init(|| self.list(members)))
    }

    fn signed_inventory(&self) -> Result<Signed, Answer> {
        let name = ProfileName::new(inventory::NAME).map_err(Answer::refused)?;
        let inventory = self.bytes(&name)?;
        let opened = self.opened()?;
        let signature = opened.signature.and_then(|index| member(opened, index, MAX_SIGNATURE).ok());
        Ok(Signed { inventory, signature: signature.and_then(|bytes| String::from_utf8(bytes).ok()) })
    }
}
