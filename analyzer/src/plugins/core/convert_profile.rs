//! `convert_profile`: makes a profile from a kernel's symbols.
//!
//! Reads the classic zip of a module with `System.map`, a `vmlinux` with DWARF, BTF (see `profile_gen`), or a memory image
//! of a kernel that carries BTF and kallsyms in its own memory (see `os::linux`), and
//! ends with a report of what the profile holds and lacks. A profile no command could work with is not written.
//! Profiles and symbol tables of Volatility 3 (ISF) are sources too, and ISF can be written.
//! Truth: the kernel's own BTF, `readelf` on its `vmlinux`, and Volatility 3 reading what is written for it.

use std::path::{Path, PathBuf};

use profile::Document;
use profile::names::{BuildId, ProfileName};
use profile_gen::{ConvertError, Converted, FitnessReport, LinuxOptions, convert_linux};

use crate::error::ErrorKind;
use crate::os::linux::profile_of_image;
use crate::plugin::prelude::*;
use crate::profile_file::{self, Report};

/// The command.
pub struct ConvertProfile;

/// What to convert and where to put it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Zip or directory with module.ko and System.map, vmlinux with debug information, BTF, a memory image, a profile, or
    /// a symbol table of Volatility 3
    source: PathBuf,
    /// File to write: JSON, gzip-compressed if the name ends in .gz
    #[arg(required_unless_present = "repository")]
    out_file: Option<PathBuf>,
    /// Repository directory to store it in, as Linux/BuildID/ID with the symlink Linux/RELEASE
    #[arg(long, value_name = "DIR")]
    repository: Option<PathBuf>,
    /// What to write: a profile, or a symbol table (ISF) for Volatility 3
    #[arg(long, value_enum, default_value_t = Form::Profile, conflicts_with = "repository")]
    to: Form,
    /// The kernel's System.map or /proc/kallsyms, where the source does not hold it
    #[arg(long, value_name = "FILE")]
    system_map: Option<PathBuf>,
    /// The kernel's .config
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Profile class to record instead of Linux
    #[arg(long, value_name = "CLASS")]
    profile_class: Option<String>,
    /// Release (uname -r) of the kernel, where the source does not hold it
    #[arg(long)]
    release: Option<String>,
    /// GNU build-id of the kernel in hex, where the source does not hold it
    #[arg(long, value_name = "HEX", value_parser = build_id)]
    build_id: Option<BuildId>,
}

/// Formats that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Rekall's JSON
    Profile,
    /// Volatility 3's symbol table
    Isf,
}

fn build_id(text: &str) -> Result<BuildId, String> {
    BuildId::from_hex(text).ok_or_else(|| format!("not a build-id (16 to 64 hex digits): {text}"))
}

impl Plugin for ConvertProfile {
    const NAME: &'static str = "convert_profile";
    const SUMMARY: &'static str = "Make a profile from a kernel's symbols or another tool's symbol table";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Report;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Report>) -> Result<(), Error> {
        let options = LinuxOptions {
            system_map: args.system_map.clone(),
            config: args.config.clone(),
            profile_class: args.profile_class.clone(),
            release: args.release.clone(),
            build_id: args.build_id.clone(),
        };
        // Opened first: a file that may not be written is known before the work, not after it.
        let file = args.out_file.as_deref().map(|path| session.create_file(path)).transpose()?;
        let converted = convert(&args.source, &options)?;
        let (document, report) = (&converted.document, &converted.report);
        for warning in &report.warnings {
            session.notes.info(warning.clone());
        }
        let mut rows = describe(document, report);
        if !report.usable {
            // The failure counts, even where nobody reads the rows to their end.
            let shown = rows.into_iter().try_for_each(|row| out.push(row));
            shown.or_else(|error| if error.kind() == ErrorKind::Stopped { Ok(()) } else { Err(error) })?;
            return Err(Error::analysis("the profile would be of no use and is not written").with_hint(
                "the rows named `missing` say what the source lacks; use the kernel's vmlinux or BTF",
            ));
        }
        if let Some(file) = file {
            let text = match args.to {
                Form::Profile => document.to_canonical_json(),
                Form::Isf => profile::isf::document_to_isf(document),
            };
            rows.push(Report::written(&profile_file::write(file, &text)?));
        }
        if let Some(directory) = &args.repository {
            for path in store(session, directory, document)? {
                rows.push(Report::written(&path));
            }
        }
        // Shown only when everything is written: a reader who has seen enough rows must not stop the work.
        rows.into_iter().try_for_each(|row| out.push(row))
    }
}

/// Reads a source that is a profile already, or makes one of its symbols; what is no source of symbols may be a memory
/// image that holds them.
fn convert(source: &Path, options: &LinuxOptions) -> Result<Converted, Error> {
    if let Some(mut known) =
        profile_gen::read_document(source).map_err(|error| Error::analysis(error.to_string()))?
    {
        if let Some(class) = &options.profile_class {
            known.document.set("ProfileClass", class.as_str());
        }
        return Ok(known);
    }
    let error = match convert_linux(source, options) {
        Ok(converted) => return Ok(converted),
        Err(error) => error,
    };
    let image = matches!(error, ConvertError::Unrecognised { .. })
        .then(|| memory::open(source, &memory::Limits::default()).ok())
        .flatten();
    match image {
        Some(image) => profile_of_image(&*image.space)
            .map_err(|in_memory| in_memory.with_details(vec![format!("as a file of symbols: {error}")])),
        None => Err(Error::analysis(error.to_string())),
    }
}

/// The fitness report.
fn describe(document: &Document, report: &FitnessReport) -> Vec<Report> {
    let mut rows = Vec::new();
    for (item, key) in [("release", "Release"), ("build-id", "BuildID"), ("banner", "Banner")] {
        if let Some(text) = metadata(document, key) {
            rows.push(Report::text(item, text));
        }
    }
    rows.push(Report::text("content", format!("sha256 {}", document.content_hash())));
    rows.push(Report::count("types", report.types, "structs and unions"));
    rows.push(Report::count("enums", report.enums, "enumerations"));
    rows.push(Report::count("symbols", report.symbols, "symbols with addresses"));
    let ambiguous = "names of several layouts; the rarer ones are called name@1, name@2, ...";
    rows.push(Report::count("ambiguous", report.ambiguous_names, ambiguous));
    for missing in &report.missing {
        let commands = missing.plugins.join(", ");
        let comment = format!("{} lacks {}; needed by {commands}", missing.need, missing.items.join(", "));
        rows.push(Report::count("missing", missing.items.len(), comment));
    }
    rows
}

/// Stores the document in a repository under its names; returns the files written.
fn store(session: &Session, directory: &Path, document: &Document) -> Result<Vec<PathBuf>, Error> {
    let repository = session.repository_at(directory)?;
    let release = metadata(document, "Release").map(|release| ProfileName::new(&format!("Linux/{release}")));
    let release =
        release.transpose().map_err(|error| Error::analysis(format!("unusable release: {error}")))?;
    let id =
        metadata(document, "BuildID").and_then(BuildId::from_hex).map(|id| ProfileName::linux_build_id(&id));
    let failed = |error: repository::StoreError| Error::analysis(error.to_string());
    match (id, release) {
        (Some(id), release) => {
            let mut paths = vec![repository.store(&id, document).map_err(failed)?];
            if let Some(release) = release {
                paths.push(repository.make_symlink(&release, &id).map_err(failed)?);
            }
            Ok(paths)
        }
        (None, Some(release)) => Ok(vec![repository.store(&release, document).map_err(failed)?]),
        (None, None) => {
            Err(Error::analysis("no name to store the profile under: neither build-id nor release is known")
                .with_hint("say which kernel it is: --build_id or --release"))
        }
    }
}

fn metadata<'d>(document: &'d Document, key: &str) -> Option<&'d str> {
    document.metadata.get(key)?.as_str()
}
