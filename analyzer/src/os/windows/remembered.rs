//! What an earlier run found out of the same image, so that memory is not searched again.
//!
//! One small JSON file per image below the cache directory, named by a hash of what identifies the image file. It only says
//! where to look first: the profile is tested against the image as ever. A file that is damaged, or of another image, costs
//! nothing but that test.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::PathBuf;

use memory::Image;
use serde_json::{Value, json};

use super::kernel::Layout;
use super::roots::{MODES, Root};
use crate::session::Session;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// Pages of the image that are part of its fingerprint.
const PROBES: u64 = 64;

/// A place where the kernel was found before, and the name of its profile.
pub(super) struct Remembered {
    pub(super) root: Root,
    pub(super) base: u64,
    pub(super) profile: String,
}

/// Where the file for the session's image is; `None` where nothing can be remembered, or the user decides what is found.
fn place(session: &Session, image: &Image) -> Option<PathBuf> {
    let config = &session.config;
    if config.profile.is_some() || config.dtb.is_some() || config.kernel_slide.is_some() {
        return None;
    }
    let path = config.filename.as_ref()?.canonicalize().ok()?;
    let metadata = path.metadata().ok()?;
    let mut hash = DefaultHasher::new();
    (path, metadata.len(), metadata.modified().ok()).hash(&mut hash);
    // The same name, size and time may still be another image: a few pages tell.
    let end = image.space.end();
    let mut page = [0; 4096];
    for n in 0..PROBES {
        let at = (end / PROBES).saturating_mul(n) & !0xfff;
        image.space.read_padded(at, &mut page);
        page.hash(&mut hash);
    }
    let name = format!("{:016x}.json", hash.finish());
    Some(config.cache_dir.as_ref()?.join("sessions").join(name))
}

/// What was found in the session's image before.
pub(super) fn recall(session: &Session, image: &Image) -> Option<Remembered> {
    let path = place(session, image)?;
    if path.metadata().ok()?.len() > MAX_FILE {
        return None;
    }
    let value: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let number = |key: &str| value.get(key)?.as_u64();
    let text = |key: &str| value.get(key)?.as_str();
    let paging = MODES.into_iter().find(|mode| Some(mode.name) == text("paging"))?;
    let source = "remembered from an earlier run".to_owned();
    Some(Remembered {
        root: Root { dtb: number("dtb")?, paging, source, entry: None },
        base: number("base")?,
        profile: text("profile")?.to_owned(),
    })
}

/// Remembers what was found. Nothing depends on it, so a failure is none.
pub(super) fn remember(session: &Session, image: &Image, layout: Layout, profile: &str) {
    let Some(path) = place(session, image) else { return };
    let Some(directory) = path.parent() else { return };
    let value = json!({
        "paging": layout.paging.name, "dtb": layout.dtb, "base": layout.base, "profile": profile,
    });
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(value.to_string().as_bytes())?;
        file.persist(&path)?;
        Ok(())
    };
    let _ = write();
}
