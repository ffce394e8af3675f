//! The classic source of a Linux profile: a zip archive or a directory with a module or BTF, `System.map` and `.config`.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use crate::ConvertError;
use crate::unpack::{UnpackError, Wrapper, read_bounded, unpack};

/// Most entries of an archive or directory that are looked at.
const MAX_ENTRIES: usize = 100_000;
/// Deepest directory that is looked into.
const MAX_DEPTH: usize = 8;

/// Named files, wherever they are.
pub(crate) struct Archive<'a> {
    name: String,
    contents: Contents<'a>,
    /// Slash-separated, in listing order.
    names: Vec<String>,
}

/// What zip archives are read from: a file or bytes in memory.
trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

enum Contents<'a> {
    Zip(Box<zip::ZipArchive<Box<dyn ReadSeek + 'a>>>),
    Directory(PathBuf),
}

/// A file taken out of an archive, decompressed.
pub(crate) struct MemberFile {
    /// Base name without the extension of its compression.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// What a profile is made of, by name within the archive.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) module: Option<usize>,
    /// The types of a kernel without the kernel, where there is no module.
    pub(crate) btf: Option<usize>,
    pub(crate) system_map: Option<usize>,
    pub(crate) config: Option<usize>,
    pub(crate) dwarf_dump: Option<usize>,
}

impl<'a> Archive<'a> {
    /// Opens a zip archive.
    pub(crate) fn zip(file: impl Read + Seek + 'a, name: &str) -> Result<Self, ConvertError> {
        let file: Box<dyn ReadSeek + 'a> = Box::new(file);
        let archive = zip::ZipArchive::new(file).map_err(|error| ConvertError::Zip(error.to_string()))?;
        let names = archive
            .file_names_raw()
            .take(MAX_ENTRIES)
            .map(|name| String::from_utf8_lossy(name).replace('\\', "/"))
            .collect();
        Ok(Self { name: name.to_owned(), contents: Contents::Zip(Box::new(archive)), names })
    }

    /// Lists a directory; names are sorted, so the order of the file system does not matter.
    pub(crate) fn directory(path: &Path) -> Result<Self, ConvertError> {
        let mut names = Vec::new();
        list(path, "", 0, &mut names)?;
        names.sort_unstable();
        Ok(Self { name: base_name(path), contents: Contents::Directory(path.to_owned()), names })
    }

    /// Chooses files by name, as the original did: case-insensitive, the first that fits.
    pub(crate) fn select(&self) -> Selection {
        select(&self.names)
    }

    /// An error that says what is missing and what there is.
    pub(crate) fn missing(&self, missing: &'static str) -> ConvertError {
        const SHOWN: usize = 8;
        let mut found: Vec<String> =
            self.names.iter().take(SHOWN).map(|name| format!("{:?}", clip(name))).collect();
        if self.names.len() > SHOWN {
            found.push(format!("{} more", self.names.len() - SHOWN));
        }
        let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
        ConvertError::MissingMember { name: self.name.clone(), missing, found }
    }

    /// Name of an entry.
    pub(crate) fn name_of(&self, at: usize) -> &str {
        self.names.get(at).map_or("", String::as_str)
    }

    /// Reads an entry of at most `limit` bytes, also after decompression.
    pub(crate) fn read(&mut self, at: usize, limit: u64) -> Result<MemberFile, ConvertError> {
        let name = self.name_of(at).to_owned();
        let base = clip(name.rsplit('/').next().unwrap_or_default());
        let failed = |error: UnpackError| match error {
            UnpackError::TooLarge => ConvertError::TooLarge { name: base.clone(), limit },
            UnpackError::Damaged(reason) => ConvertError::Decompress { name: base.clone(), reason },
        };
        let bytes = match &mut self.contents {
            Contents::Zip(archive) => {
                let file = archive.by_index(at).map_err(|error| ConvertError::Zip(error.to_string()))?;
                read_bounded(file, limit).map_err(failed)?
            }
            Contents::Directory(root) => {
                let path = root.join(&name);
                let file =
                    File::open(&path).map_err(|error| ConvertError::Io { path: path.clone(), error })?;
                read_bounded(file, limit).map_err(failed)?
            }
        };
        match Wrapper::of(&bytes) {
            Some(wrapper) => {
                let plain = [".gz", ".xz", ".zst"].iter().find_map(|ext| base.strip_suffix(ext));
                let bytes = unpack(wrapper, &bytes, limit).map_err(failed)?;
                Ok(MemberFile { name: plain.unwrap_or(&base).to_owned(), bytes })
            }
            None => Ok(MemberFile { name: base.clone(), bytes }),
        }
    }
}

fn select(names: &[String]) -> Selection {
    let lower: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    let first = |fits: &dyn Fn(&str) -> bool| lower.iter().position(|name| fits(name));
    // `(^|/)prefix`: some component starts with it. A directory of that name is no file.
    let starts = |prefix: &'static str| {
        move |name: &str| !name.ends_with('/') && name.split('/').any(|part| part.starts_with(prefix))
    };
    let module = |ext: &'static str| {
        move |name: &str| {
            let name = [".gz", ".xz", ".zst"].iter().find_map(|e| name.strip_suffix(e)).unwrap_or(name);
            name.strip_suffix(ext).is_some_and(|stem| stem.contains("module"))
        }
    };
    // A path below `/lib/modules` contains "module" too; the file of that name is meant.
    let named_module = |name: &str| {
        name.rsplit('/').next().is_some_and(|base| base.starts_with("module")) && module(".ko")(name)
    };
    // As tools and packages name it, and where a running kernel shows it.
    let btf = |name: &str| {
        let name = [".gz", ".xz", ".zst"].iter().find_map(|e| name.strip_suffix(e)).unwrap_or(name);
        name.ends_with(".btf") || name == "btf" || name.ends_with("/btf") || name.ends_with("btf/vmlinux")
    };
    Selection {
        module: first(&named_module).or_else(|| first(&module(".ko"))).or_else(|| first(&module(".o"))),
        system_map: first(&starts("system.map")),
        config: first(&starts("config")).or_else(|| first(&starts(".config"))),
        btf: first(&|name| btf(name)),
        dwarf_dump: first(&|name| name.ends_with(".dwarf")),
    }
}

fn list(root: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) -> Result<(), ConvertError> {
    let path = root.join(prefix);
    let failed = |error| ConvertError::Io { path: path.clone(), error };
    for entry in fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A name that is no text cannot be one of those looked for.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && depth < MAX_DEPTH {
            list(root, &name, depth + 1, names)?;
        } else if kind.is_file() || kind.is_symlink() && root.join(&name).is_file() {
            names.push(name);
        }
        if names.len() >= MAX_ENTRIES {
            break;
        }
    }
    Ok(())
}

/// The last component of a path as text.
pub(crate) fn base_name(path: &Path) -> String {
    clip(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}

/// A name of bounded length without control characters, fit for messages.
fn clip(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> [Option<String>; 4] {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let selection = select(&names);
        [selection.module, selection.system_map, selection.config, selection.dwarf_dump]
            .map(|at| at.map(|at| names[at].clone()))
    }

    fn some(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn the_classic_zip_is_understood() {
        let names = ["module_dwarf.ko", "boot/System.map-5.10", "boot/config-5.10", "pmem-5.10.ko"];
        assert_eq!(chosen(&names), [some(names[0]), some(names[1]), some(names[2]), None]);
    }

    #[test]
    fn btf_serves_where_there_is_no_module() {
        for name in ["vmlinux.btf", "6.1/btf.xz", "sys/kernel/btf/vmlinux"] {
            let names = ["System.map", name].map(str::to_owned);
            assert_eq!((select(&names).module, select(&names).btf), (None, Some(1)), "{name}");
        }
        assert_eq!(select(&["btfhub.txt".to_owned(), "btf/".to_owned()]).btf, None);
    }

    #[test]
    fn names_are_chosen_without_regard_to_case_and_with_compression() {
        let names = ["boot/", "BOOT/SYSTEM.MAP", "x/Module.KO.xz", "module.dwarf", "a/.config"];
        assert_eq!(chosen(&names), [some(names[2]), some(names[1]), some(names[4]), some(names[3])]);
    }

    #[test]
    fn the_module_itself_goes_before_its_neighbours() {
        let names = ["lib/modules/6.1/loop.ko", "module.o", "kit/module.ko"];
        assert_eq!(chosen(&names)[0], some("kit/module.ko"));
        assert_eq!(chosen(&names[..2])[0], some("lib/modules/6.1/loop.ko"));
        assert_eq!(chosen(&["module.o", "module.c"])[0], some("module.o"));
    }
}
