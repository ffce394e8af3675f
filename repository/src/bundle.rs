//! A part of the search path in one archive: for a machine without a network.
//!
//! The archive is a repository itself: put it into the search path, with `#minisign=KEY` where it must be signed. It holds
//! what was asked for and everything needed to find and use it: symlinks on the way and symlinks to it, the documents
//! merged into it, the indexes of its folder, an inventory with hashes, and the inventory's signature.
//!
//! Its bytes depend on the documents alone. No time goes in, neither of today nor of a file, and nothing of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek, Write};

use profile::names::{BuildId, NameError, ProfileName};
use profile::{Kind, Profile};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::LAYOUT;
use crate::find::LinuxEvidence;
use crate::inventory::{Inventory, InventoryEntry};
use crate::search_path::SearchPath;
use crate::signature::{SIGNATURE_FILE, SecretKey};
use crate::source::sha256_hex;
use crate::trace::{Answer, Trace};
use crate::verify::SIGNED_COMMENT;

/// Most documents of one bundle.
const MAX_DOCUMENTS: usize = 100_000;

/// What a bundle shall hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// The profile of this name.
    Name(ProfileName),
    /// The Linux kernel of this build-id.
    BuildId(BuildId),
    /// All profiles of a PDB with this GUID and age, 33 to 39 hex digits in upper case.
    Guid(String),
}

impl Want {
    /// Tells by its shape what a text is: GUID and age, a build-id, else a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        if (33..40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self::Guid(text.to_ascii_uppercase()));
        }
        BuildId::from_hex(text)
            .map_or_else(|| ProfileName::new(text).map(Self::Name), |id| Ok(Self::BuildId(id)))
    }
}

/// Why a bundle cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// More documents than anyone carries along.
    #[error("more than {MAX_DOCUMENTS} documents for one bundle")]
    TooMany,
    /// Writing failed.
    #[error("cannot write the bundle: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// Writing failed.
    #[error("cannot write the bundle: {0}")]
    Io(#[from] std::io::Error),
}

/// Documents ready to be written as one archive.
#[derive(Debug, Default)]
pub struct Bundle {
    documents: BTreeMap<ProfileName, Member>,
    missing: Vec<(String, Answer)>,
}

#[derive(Debug)]
struct Member {
    gzip: Vec<u8>,
    entry: InventoryEntry,
}

impl Bundle {
    /// What is in it: names and sizes in bytes, compressed.
    pub fn documents(&self) -> impl Iterator<Item = (&ProfileName, usize)> {
        self.documents.iter().map(|(name, member)| (name, member.gzip.len()))
    }

    /// What was asked for and is not in it, with the reason.
    #[must_use]
    pub fn missing(&self) -> &[(String, Answer)] {
        &self.missing
    }

    /// Writes the archive, signed where there is a key.
    pub fn write(&self, out: impl Write + Seek, key: Option<&SecretKey>) -> Result<(), BundleError> {
        let mut inventory = Inventory::default();
        let entries = self.documents.iter().map(|(name, member)| (name.clone(), member.entry.clone()));
        inventory.entries.extend(entries);
        let inventory = inventory.to_gzip();
        let signature = key.map(|key| key.sign(&inventory, SIGNED_COMMENT));
        // Documents are compressed already.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644);
        let mut zip = ZipWriter::new(out);
        zip.start_file(format!("{LAYOUT}/inventory.gz"), options)?;
        zip.write_all(&inventory)?;
        if let Some(signature) = signature {
            zip.start_file(format!("{LAYOUT}/{SIGNATURE_FILE}"), options)?;
            zip.write_all(signature.as_bytes())?;
        }
        for (name, member) in &self.documents {
            zip.start_file(format!("{LAYOUT}/{name}.gz"), options)?;
            zip.write_all(&member.gzip)?;
        }
        zip.finish()?;
        Ok(())
    }

    fn add(&mut self, name: &ProfileName, profile: &Profile) -> Result<(), BundleError> {
        if self.documents.len() >= MAX_DOCUMENTS {
            return Err(BundleError::TooMany);
        }
        let text = profile.text().as_bytes();
        let entry = InventoryEntry::describe(profile, 0.0, &sha256_hex(text));
        self.documents.insert(name.clone(), Member { gzip: profile::gzip(text), entry });
        Ok(())
    }
}

impl SearchPath {
    /// Collects what is wanted, with everything that belongs to it. What cannot be had is in [`Bundle::missing`].
    pub fn bundle(&self, wants: &[Want]) -> Result<Bundle, BundleError> {
        let mut bundle = Bundle::default();
        for want in wants {
            let (label, names) = self.wanted(want);
            if names.is_empty() {
                bundle.missing.push((label, Answer::NotFound));
            }
            for name in names {
                self.add(&mut bundle, name)?;
            }
        }
        for name in self.companions(&bundle) {
            self.add(&mut bundle, name)?;
        }
        Ok(bundle)
    }

    fn wanted(&self, want: &Want) -> (String, Vec<ProfileName>) {
        match want {
            Want::Name(name) => (name.to_string(), vec![name.clone()]),
            Want::BuildId(id) => {
                let evidence = LinuxEvidence { build_id: Some(id.clone()), ..LinuxEvidence::default() };
                let found = self.find_linux(&evidence).unwrap_or_default();
                (format!("build-id {id}"), found.into_iter().map(|found| found.name).take(1).collect())
            }
            Want::Guid(id) => {
                let inventories = self.sources().filter_map(|source| source.inventory().ok());
                let listed: BTreeSet<ProfileName> = inventories
                    .flat_map(|inventory| inventory.entries.keys())
                    .filter(|name| guid_of(name).is_some_and(|listed| listed.eq_ignore_ascii_case(id)))
                    .cloned()
                    .collect();
                // Not listed anywhere: a repo-server may make it. Kernels are what is asked for.
                let made = || ProfileName::new(&format!("nt/GUID/{id}")).ok();
                let names = if listed.is_empty() { made().into_iter().collect() } else { listed };
                (format!("GUID {id}"), names.into_iter().collect())
            }
        }
    }

    /// Adds a document and what it refers to.
    fn add(&self, bundle: &mut Bundle, name: ProfileName) -> Result<(), BundleError> {
        let mut pending = vec![name];
        while let Some(name) = pending.pop() {
            if bundle.documents.contains_key(&name) {
                continue;
            }
            let mut trace = Trace::default();
            let Some(found) = self.sources().find_map(|source| source.read(&name, &mut trace)) else {
                let mut answers = trace.0.into_iter().map(|asked| asked.answer);
                let told = answers.rfind(|answer| !matches!(answer, Answer::NotFound | Answer::NotListed));
                bundle.missing.push((name.to_string(), told.unwrap_or(Answer::NotFound)));
                continue;
            };
            bundle.add(&name, &found.profile)?;
            if let Kind::Symlink { target } = found.profile.kind() {
                match ProfileName::new(&target) {
                    Ok(target) => pending.push(target),
                    Err(error) => bundle.missing.push((transport::plain(&target), Answer::damaged(error))),
                }
            }
            let merged: Vec<String> = found.profile.section("$MERGE").ok().flatten().unwrap_or_default();
            pending.extend(merged.iter().filter_map(|name| ProfileName::new(name).ok()));
        }
        Ok(())
    }

    /// Symlinks that lead to what is in the bundle, and the indexes of its folders.
    fn companions(&self, bundle: &Bundle) -> BTreeSet<ProfileName> {
        let mut names: BTreeSet<ProfileName> = bundle.documents.keys().cloned().collect();
        let folders: BTreeSet<String> =
            names.iter().filter_map(|name| Some(folder(name)?.to_owned())).collect();
        let inventories: Vec<&Inventory> =
            self.sources().filter_map(|source| source.inventory().ok()).collect();
        let entries = || inventories.iter().flat_map(|inventory| &inventory.entries);
        for (name, _) in entries() {
            if folder(name).is_some_and(|folder| folders.contains(folder)) && is_index(name) {
                names.insert(name.clone());
            }
        }
        loop {
            let before = names.len();
            for (name, entry) in entries() {
                let target = entry.text("Target").and_then(|target| ProfileName::new(target).ok());
                if target.is_some_and(|target| names.contains(&target)) {
                    names.insert(name.clone());
                }
            }
            // Symlinks to symlinks are found in the next round.
            if names.len() == before {
                return names;
            }
        }
    }
}

/// The id of a name `<module>/GUID/<id>`.
fn guid_of(name: &ProfileName) -> Option<&str> {
    name.as_str().split_once("/GUID/").map(|(_, id)| id)
}

/// The first part of a name that has several.
fn folder(name: &ProfileName) -> Option<&str> {
    name.as_str().split_once('/').map(|(first, _)| first)
}

/// Whether a name is that of an index: `nt/index`, `nt/eprocess_index`.
fn is_index(name: &ProfileName) -> bool {
    let rest = name.as_str().split_once('/').map_or("", |(_, rest)| rest);
    rest == "index" || rest.ends_with("_index") && !rest.contains('/')
}
