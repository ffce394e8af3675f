//! Opening an image: which format is it, layer by layer, and why not any of the others.

use crate::beside::Beside;
use crate::bytes::{to_u64, to_usize};
use crate::format::{FORMATS, Layer, Opened, Yields, aff4};
use crate::{AddressSpace, FileSpace, Hints, device};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a layer that probes look at.
const HEAD: u64 = 4096;

/// Bounds on what opening an image may cost. Images are untrusted: nothing in one can raise these.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes a compressed wrapper (gz, xz, zst) may unpack to.
    pub max_unpacked: u64,
    /// Unpacked bytes kept in memory; what is longer goes to an unlinked temporary file. Also the most that
    /// is read from a pipe.
    pub max_in_memory: u64,
    /// Most extents (segments, ranges, records, blocks) one layer may have.
    pub max_runs: usize,
    /// Most bytes of one table or note section that are read into memory.
    pub max_table: usize,
    /// Most layers stacked on each other.
    pub max_layers: usize,
    /// Bytes of decompressed blocks that one layer keeps.
    pub cache: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_unpacked: 64 << 30,
            max_in_memory: 1 << 30,
            max_runs: 8 << 20,
            max_table: 512 << 20,
            max_layers: 8,
            cache: 64 << 20,
        }
    }
}

/// Why one format does not apply to a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the format, as in [`FORMATS`].
    pub format: &'static str,
    /// Name of the layer it was tried on: `"file"`, `"gzip"`.
    pub layer: String,
    /// The reason: lowercase, no full stop.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}: {}", self.format, self.layer, self.reason)
    }
}

/// An opened memory image.
pub struct Image {
    /// Physical memory; without any runs where the image has none, as a triage dump.
    pub space: Arc<dyn AddressSpace>,
    /// Memory the container stores by kernel virtual address, not by physical address: the data blocks of a
    /// triage dump. Complete page tables cannot be expected below it.
    pub virtual_space: Option<Arc<dyn AddressSpace>>,
    /// Names of the layers from the file up: `["file", "gzip", "LiME"]`.
    pub layers: Vec<String>,
    /// What the container tells beside the memory.
    pub hints: Hints,
    /// Why the other formats did not apply.
    pub refusals: Vec<Refusal>,
    /// What is wrong with the image though it opened, such as a truncated end.
    pub warnings: Vec<String>,
    /// Whether it is the memory of the running machine, which changes while it is read.
    pub live: bool,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("layers", &self.layers)
            .field("hints", &self.hints)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// Why a file could not be opened as a memory image.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is missing or unreadable.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The path is a directory.
    #[error("a directory, not a memory image: {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// The file has no bytes.
    #[error("empty file: {}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("not a memory image but {content}: {}", path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What it is, with its article: `"a PE executable"`.
        content: &'static str,
        /// What each format said.
        refusals: Vec<Refusal>,
    },
    /// A format recognised the file but cannot open it.
    #[error("cannot open {} image: {reason}: {}", format, path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Name of the format that recognised it.
        format: &'static str,
        /// Why it cannot be opened.
        reason: String,
        /// What the other formats said.
        refusals: Vec<Refusal>,
    },
}

impl OpenError {
    /// Why each format that was tried does not apply.
    #[must_use]
    pub fn refusals(&self) -> &[Refusal] {
        match self {
            Self::NotAnImage { refusals, .. } | Self::Refused { refusals, .. } => refusals,
            Self::Io { .. } | Self::Directory { .. } | Self::Empty { .. } => &[],
        }
    }
}

/// Opens a memory image of any known format, told by its content. Wrappers (gzip, xz, zstd, flattened) are
/// taken off round by round until a format yields physical memory; each may apply once.
///
/// # Errors
/// [`OpenError`] says which format came closest and keeps the reason of every other one.
pub fn open(path: &Path, limits: &Limits) -> Result<Image, OpenError> {
    if path.join(aff4::METADATA).is_file() {
        return open_directory(path, limits).map_err(|failure| failure.at(path));
    }
    if device::is_device(path) && FileSpace::is_seekable(path) {
        return open_device(path).map_err(|source| OpenError::Io { path: path.to_owned(), source });
    }
    let file = FileSpace::open(path, limits).map_err(|source| match source.kind() {
        io::ErrorKind::IsADirectory => OpenError::Directory { path: path.to_owned() },
        _ => OpenError::Io { path: path.to_owned(), source },
    })?;
    let image = open_beside(Arc::new(file), &Beside::of(path), limits).map_err(|failure| failure.at(path))?;
    Ok(Image { live: device::is_live(path), ..image })
}

/// Opens the memory of the running machine through a device.
fn open_device(path: &Path) -> io::Result<Image> {
    let space = device::open(path)?;
    Ok(Image {
        layers: vec![space.name()],
        space: Arc::new(space),
        virtual_space: None,
        hints: Hints::default(),
        refusals: Vec::new(),
        warnings: Vec::new(),
        live: true,
    })
}

/// Opens an image that is already an address space of file offsets; for tests, archives and buffers.
///
/// # Errors
/// As [`open`], without a path.
pub fn open_space(file: Arc<dyn AddressSpace>, limits: &Limits) -> Result<Image, Failure> {
    open_beside(file, &Beside::none(), limits)
}

/// Opens an AFF4 volume that is a directory.
fn open_directory(path: &Path, limits: &Limits) -> Result<Image, Failure> {
    let opened = aff4::open_directory(path, limits);
    let opened = opened.map_err(|refused| refused.into_failure("AFF4", Vec::new()))?;
    let mut image = Image {
        layers: vec!["directory".to_owned(), opened.space.name()],
        space: opened.space,
        virtual_space: None,
        hints: opened.hints,
        refusals: Vec::new(),
        warnings: opened.warnings.into_iter().map(|warning| format!("AFF4: {warning}")).collect(),
        live: false,
    };
    if opened.yields == Some(Yields::File) {
        stack_up(&mut image, vec!["AFF4"], &Beside::none(), limits)?;
    }
    Ok(image)
}

/// As [`open_space`], with the folder the file lies in.
fn open_beside(file: Arc<dyn AddressSpace>, beside: &Beside, limits: &Limits) -> Result<Image, Failure> {
    if file.end() == 0 {
        return Err(Failure::Empty);
    }
    let mut image = Image {
        layers: vec![file.name()],
        space: file,
        virtual_space: None,
        hints: Hints::default(),
        refusals: Vec::new(),
        warnings: Vec::new(),
        live: false,
    };
    stack_up(&mut image, Vec::new(), beside, limits)?;
    Ok(image)
}

/// Stacks layers until one is memory.
fn stack_up(
    image: &mut Image,
    mut used: Vec<&'static str>,
    beside: &Beside,
    limits: &Limits,
) -> Result<(), Failure> {
    let nothing = Beside::none();
    while image.layers.len() <= limits.max_layers {
        // Only the file itself has neighbours; what is unpacked from it has none.
        let beside = if used.is_empty() { beside } else { &nothing };
        if stack(image, &mut used, beside, limits)? == Yields::Memory {
            return Ok(());
        }
    }
    let reason = format!("more than {} layers", limits.max_layers);
    let refusals = std::mem::take(&mut image.refusals);
    Err(Failure::Refused { format: used.last().copied().unwrap_or("raw"), reason, refusals })
}

/// One round: the first format whose probe accepts the top layer is stacked on it.
fn stack(
    image: &mut Image,
    used: &mut Vec<&'static str>,
    beside: &Beside,
    limits: &Limits,
) -> Result<Yields, Failure> {
    let name = image.layers.last().cloned().unwrap_or_default();
    let mut head = vec![0; to_usize(HEAD.min(image.space.end()))];
    let gaps = image.space.read_padded(0, &mut head);
    let readable = to_u64(head.len()).saturating_sub(gaps.missing);
    if readable == 0 {
        let (format, refusals) = (used.last().copied().unwrap_or("raw"), std::mem::take(&mut image.refusals));
        let reason = gaps.first.map_or_else(|| "no bytes".to_owned(), |(_, fault)| fault.to_string());
        return Err(Failure::Refused { format, reason, refusals });
    }
    let base = Arc::clone(&image.space);
    let layer = Layer { base: &base, head: &head, beside, limits };
    for format in FORMATS {
        let mut refuse = |reason: &str| {
            image.refusals.push(Refusal {
                format: format.name,
                layer: name.clone(),
                reason: reason.to_owned(),
            });
        };
        if let Err(reason) = (format.probe)(&layer) {
            refuse(reason);
            continue;
        }
        if used.contains(&format.name) {
            refuse("already applied once");
            continue;
        }
        let opened = (format.open)(&layer);
        let refusals = std::mem::take(&mut image.refusals);
        let Opened { space, virtual_space, hints, warnings, yields } = match opened {
            Ok(opened) => opened,
            Err(refused) => return Err(refused.into_failure(format.name, refusals)),
        };
        image.refusals = refusals;
        image.layers.push(space.name());
        image.space = space;
        image.virtual_space = virtual_space;
        image.hints.merge(hints);
        image.warnings.extend(warnings.into_iter().map(|warning| format!("{}: {warning}", format.name)));
        used.push(format.name);
        return Ok(yields.unwrap_or(format.yields));
    }
    // Unreachable while raw, which takes everything, ends the table.
    let refusals = std::mem::take(&mut image.refusals);
    Err(Failure::Refused { format: "raw", reason: "no format applies".to_owned(), refusals })
}

/// [`OpenError`] without the path.
#[derive(Debug)]
pub enum Failure {
    /// No bytes at all.
    Empty,
    /// The bytes are something else.
    NotAnImage {
        /// What they are, with the article.
        content: &'static str,
        /// What each format said.
        refusals: Vec<Refusal>,
    },
    /// A format recognised the bytes but cannot open them.
    Refused {
        /// Name of the format.
        format: &'static str,
        /// Why it cannot.
        reason: String,
        /// What the other formats said.
        refusals: Vec<Refusal>,
    },
}

impl Failure {
    fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Empty => OpenError::Empty { path },
            Self::NotAnImage { content, refusals } => OpenError::NotAnImage { path, content, refusals },
            Self::Refused { format, reason, refusals } => {
                OpenError::Refused { path, format, reason, refusals }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_no_image_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("empty"), b"").unwrap();
        std::fs::write(path("text"), "hello world\n".repeat(1000)).unwrap();
        std::fs::write(path("short"), [0; 4095]).unwrap();
        let message = |name: &str| {
            let error = open(&path(name), &Limits::default()).unwrap_err();
            error.to_string().replace(&folder.path().display().to_string(), "DIR")
        };
        assert_eq!(message("empty"), "empty file: DIR/empty");
        assert_eq!(message("text"), "not a memory image but a text file: DIR/text");
        let short = "cannot open raw image: smaller than one page of 4096 bytes: 4095: DIR/short";
        assert_eq!(message("short"), short);
        assert_eq!(message("gone"), "cannot read DIR/gone: No such file or directory (os error 2)");
        assert!(message("").starts_with("a directory, not a memory image: DIR"));
        let error = open(&path("text"), &Limits::default()).unwrap_err();
        assert!(
            error
                .refusals()
                .iter()
                .any(|refusal| { refusal.to_string() == "LiME on file: no \"EMiL\" signature at the start" })
        );
    }

    #[test]
    fn a_page_of_zeros_is_a_raw_image() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0; 4096 + 5]).unwrap();
        let image = open(file.path(), &Limits::default()).unwrap();
        assert_eq!(image.layers, ["file", "raw"]);
        assert_eq!(image.warnings, ["raw: size is no multiple of 4096, the end may be cut off: 4101"]);
        assert_eq!(image.space.read_u64(4096), Err(crate::Fault::NotInImage { phys: 4101 }));
    }
}
