//! A volume: members by name, in a zip archive or a directory.

use crate::bytes::to_u64;
use crate::file::SpaceReader;
use crate::format::Refused;
use crate::image::Limits;
use crate::join::JoinSpace;
use crate::{AddressSpace, Fault, FileSpace};
use flate2::read::DeflateDecoder;
use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use zip::{CompressionMethod, ZipArchive};

/// Deepest folder of a directory volume, and most files in it.
const MAX_DEPTH: usize = 8;
const MAX_FILES: usize = 1 << 16;

/// Where a member lies in the volume's bytes.
#[derive(Clone, Copy)]
pub(super) struct Member {
    pub(super) offset: u64,
    /// Bytes there.
    pub(super) stored: u64,
    deflated: bool,
}

impl Member {
    /// Whether the bytes are there as they are.
    pub(super) fn is_plain(&self) -> bool {
        !self.deflated
    }
}

/// A volume.
pub(super) struct Volume {
    /// What offsets of members count in.
    pub(super) space: Arc<dyn AddressSpace>,
    /// Members by full name: the volume's own name in front of relative ones.
    members: HashMap<String, Member>,
    /// Name of the volume, `aff4://...`; empty when it is not told.
    pub(super) urn: String,
}

/// Undoes percent-encoding; what is no valid escape stays.
fn decode(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Volume {
    /// Reads the directory of a zip archive.
    pub(super) fn zip(space: &Arc<dyn AddressSpace>, limits: &Limits) -> Result<Self, Refused> {
        let reader = BufReader::new(SpaceReader::new(&**space));
        let mut zip = ZipArchive::new(reader).map_err(|error| format!("a damaged zip archive: {error}"))?;
        if zip.len() > limits.max_runs {
            return Err(format!("more members than the limit: {}", zip.len()).into());
        }
        let comment = String::from_utf8_lossy(zip.comment()).into_owned();
        let mut named = Vec::new();
        for index in 0..zip.len() {
            let Ok(member) = zip.by_index_raw(index) else { continue };
            let (Ok(name), Some(offset)) = (member.name(), member.data_start()) else { continue };
            let deflated = match member.compression() {
                CompressionMethod::Stored => false,
                CompressionMethod::Deflated => true,
                _ => continue,
            };
            named.push((decode(&name), Member { offset, stored: member.compressed_size(), deflated }));
        }
        Ok(Self::new(Arc::clone(space), named, comment.trim_end_matches('\0')))
    }

    /// Lists the files of a directory.
    pub(super) fn directory(path: &Path, limits: &Limits) -> Result<Self, Refused> {
        let mut files = Vec::new();
        list(path, "", 0, &mut files);
        files.sort();
        let (mut named, mut parts) = (Vec::new(), Vec::new());
        let mut offset = 0u64;
        for name in files {
            let Ok(file) = FileSpace::open(&path.join(&name), limits) else { continue };
            let stored = file.end();
            named.push((decode(&name), Member { offset, stored, deflated: false }));
            offset = offset.saturating_add(stored);
            parts.push(Arc::new(file) as Arc<dyn AddressSpace>);
        }
        Ok(Self::new(Arc::new(JoinSpace::new("directory", parts)), named, ""))
    }

    fn new(space: Arc<dyn AddressSpace>, named: Vec<(String, Member)>, comment: &str) -> Self {
        let mut volume = Self { space, members: named.into_iter().collect(), urn: String::new() };
        let described = volume.text("container.description", 4096);
        let urn = [described.as_deref().unwrap_or_default(), comment]
            .into_iter()
            .map(|text| text.trim_end_matches('\0').trim())
            .find(|text| text.starts_with("aff4://"));
        volume.urn = urn.unwrap_or_default().to_owned();
        let full = |name: String| match name.starts_with("aff4://") {
            true => name,
            false => format!("{}/{}", volume.urn, name.trim_start_matches('/')),
        };
        volume.members = volume.members.into_iter().map(|(name, member)| (full(name), member)).collect();
        volume
    }

    /// A member by full name.
    pub(super) fn member(&self, name: &str) -> Option<Member> {
        self.members.get(name).copied()
    }

    /// The bytes of a member, at most `cap` of them.
    pub(super) fn read(&self, name: &str, cap: usize) -> Result<Vec<u8>, Fault> {
        let missing = Fault::Truncated { offset: self.space.end() };
        let member = self.member(name).ok_or(missing)?;
        let stored = self.space.read_vec(member.offset, member.stored, cap)?;
        if !member.deflated {
            return Ok(stored);
        }
        let mut bytes = Vec::new();
        let mut decoder = DeflateDecoder::new(stored.as_slice()).take(to_u64(cap).saturating_add(1));
        let corrupt = Fault::Corrupt { offset: member.offset };
        decoder.read_to_end(&mut bytes).map_err(|_| corrupt)?;
        if bytes.len() > cap {
            return Err(Fault::TooLong { addr: member.offset, len: to_u64(bytes.len()) });
        }
        Ok(bytes)
    }

    /// A member as text; absent when it is not there or damaged.
    pub(super) fn text(&self, name: &str, cap: usize) -> Option<String> {
        self.read(name, cap).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Adds the regular files below a folder, with names relative to the first one.
fn list(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (Ok(kind), Some(name)) = (entry.file_type(), entry.file_name().to_str().map(str::to_owned))
        else {
            continue;
        };
        if files.len() >= MAX_FILES {
            return;
        }
        if kind.is_file() {
            files.push(format!("{prefix}{name}"));
        } else if kind.is_dir() && depth < MAX_DEPTH {
            list(&entry.path(), &format!("{prefix}{name}/"), depth.saturating_add(1), files);
        }
    }
}
