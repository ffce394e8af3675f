//! The lab folder that `tools/guest-image` fills: kernels, images of guests, profile zips.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::rekal::run_quietly;
use crate::truth::Truth;

/// The lab folder.
#[derive(Debug, Clone)]
pub struct Lab(PathBuf);

/// An image of a guest: its dumps in several formats, and its truth.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Name, e.g. `6.1-kaslr`.
    pub name: String,
    /// Release of its kernel (`uname -r`).
    pub release: String,
    folder: PathBuf,
}

/// What a profile is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileSource {
    /// The `vmlinux` of the debug package: DWARF and its own symbol table.
    Vmlinux,
    /// The kernel's BTF with the debug package's System.map.
    Btf,
    /// The zip of a module compiled against the kernel's headers.
    Zip,
    /// The memory image itself: BTF and kallsyms of the running kernel.
    Image,
}

impl ProfileSource {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Vmlinux, Self::Btf, Self::Zip, Self::Image];

    fn name(self) -> &'static str {
        match self {
            Self::Vmlinux => "vmlinux",
            Self::Btf => "btf",
            Self::Zip => "zip",
            Self::Image => "image",
        }
    }
}

impl Lab {
    /// Opens the folder.
    pub fn open(folder: PathBuf) -> Result<Self> {
        if !folder.join("images").is_dir() {
            bail!("no lab, run tools/guest-image/matrix.sh first: {}", folder.display());
        }
        Ok(Self(folder))
    }

    /// The default place, as in `tools/guest-image/env.sh`.
    #[must_use]
    pub fn default_folder() -> PathBuf {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        variable("GUEST_LAB").unwrap_or_else(|| {
            let cache = variable("XDG_CACHE_HOME")
                .unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".cache"));
            cache.join("rekal-guest-lab")
        })
    }

    /// The guests that `matrix.sh` made, by name.
    pub fn guests(&self) -> Result<Vec<Guest>> {
        let mut guests = Vec::new();
        for item in std::fs::read_dir(self.0.join("images"))? {
            let folder = item?.path();
            let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
            if !folder.join("stamp").is_file() {
                continue; // unfinished, or not of the matrix
            }
            let release = std::fs::read_to_string(folder.join("release"))
                .with_context(|| format!("cannot read the release of: {name}"))?;
            guests.push(Guest { name: name.to_owned(), release: release.trim().to_owned(), folder });
        }
        guests.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(guests)
    }

    /// Address of a symbol in the kernel's System.map, before it was moved.
    pub fn linked_address(&self, guest: &Guest, symbol: &str) -> Result<Option<u64>> {
        let release = guest.release.as_str();
        let file = self.0.join(format!("build/k/{release}/usr/lib/debug/boot/System.map-{release}"));
        let map =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read: {}", file.display()))?;
        let end = format!(" {symbol}");
        let line = map.lines().find(|line| line.ends_with(&end));
        line.map(|line| crate::emulator::number(line.split(' ').next().unwrap_or_default())).transpose()
    }

    /// A repository with the profile of one kernel, made by `rekal convert_profile` in `into`.
    pub fn repository(
        &self,
        program: &Path,
        guest: &Guest,
        source: ProfileSource,
        into: &Path,
    ) -> Result<PathBuf> {
        let release = guest.release.as_str();
        let repository = into.join(format!("{release}-{}", source.name()));
        if repository.is_dir() {
            return Ok(repository);
        }
        std::fs::create_dir_all(&repository)?;
        let kernel = self.0.join("build/k").join(release);
        let debug = kernel.join("usr/lib/debug/boot");
        let system_map = debug.join(format!("System.map-{release}"));
        let build_id = PathBuf::from(guest.truth()?.build_id()?);
        let option = Path::new;
        let mut arguments = vec![option("convert_profile"), option("--repository"), &repository];
        let path = match source {
            ProfileSource::Vmlinux => debug.join(format!("vmlinux-{release}")),
            ProfileSource::Btf => kernel.join("vmlinux.btf"),
            ProfileSource::Zip => self.0.join("zips").join(format!("{release}-dwarf5.zip")),
            ProfileSource::Image => guest.raw(),
        };
        if source == ProfileSource::Btf {
            arguments.extend([option("--system_map"), &system_map, option("--release"), option(release)]);
        }
        if matches!(source, ProfileSource::Btf | ProfileSource::Zip) {
            arguments.extend([option("--build_id"), &build_id]);
        }
        arguments.push(&path);
        let done = run_quietly(program, &arguments);
        if done.is_err() {
            // Best effort: a half-made repository must not be taken for a finished one.
            let _ = std::fs::remove_dir_all(&repository);
        }
        done.with_context(|| format!("profile of {release} from {}", source.name()))?;
        Ok(repository)
    }
}

impl Guest {
    /// What the guest reported.
    pub fn truth(&self) -> Result<Truth> {
        let boot_seconds = self.info("boot_seconds")?.as_f64().context("boot_seconds is no number")?;
        // The guest's clock starts after its emulator and runs no faster. One second covers the way to the pause.
        let paused_by = std::time::Duration::try_from_secs_f64(boot_seconds + 1.0)?;
        Ok(Truth::from_folder(&self.folder.join("truth"))?.paused_by(paused_by))
    }

    /// The physical address where its memory begins.
    pub fn ram_start(&self) -> Result<u64> {
        self.info("ram_start")?.as_u64().context("ram_start is no address")
    }

    /// What was noted when the guest ran.
    pub(crate) fn info(&self, name: &str) -> Result<serde_json::Value> {
        let bytes = std::fs::read(self.folder.join("info.json")).context("cannot read: info.json")?;
        let mut info: serde_json::Map<_, _> = serde_json::from_slice(&bytes)?;
        info.remove(name).with_context(|| format!("not in info.json: {name}"))
    }

    /// The dumps of the paused guest, in every format there is, by file name.
    pub fn dumps(&self) -> Result<Vec<PathBuf>> {
        let mut dumps = Vec::new();
        for item in std::fs::read_dir(&self.folder)? {
            let path = item?.path();
            if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("mem")) {
                dumps.push(path);
            }
        }
        dumps.sort();
        Ok(dumps)
    }

    /// The raw dump: offset is physical address.
    #[must_use]
    pub fn raw(&self) -> PathBuf {
        self.folder.join("mem.raw")
    }
}
