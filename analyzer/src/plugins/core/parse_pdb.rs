//! `parse_pdb`: makes a profile from the symbols of a Windows module.
//!
//! Reads a PDB file (see `profile_gen::pdb`); the profile goes to a file, or to standard output in place of the table.
//! What of the file is not in the profile is said. `docs/pdb-differences.md` lists where the profile differs from the
//! original's. Truth: `llvm-pdbutil` on every struct size, member offset, bit-field, enum value and public symbol.

use std::path::{Path, PathBuf};

use profile_gen::pdb::{PdbOptions, convert_pdb_file};

use crate::plugin::prelude::*;
use crate::profile_file::{self, Report};

/// The command.
pub struct ParsePdb;

/// What to convert and where to put it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The PDB file, or the compressed form of symbol stores (`.pd_`)
    #[arg(value_name = "FILE", required_unless_present = "filename")]
    pdb_filename: Option<PathBuf>,
    /// The PDB file, as the original also took it
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with = "pdb_filename")]
    filename: Option<PathBuf>,
    /// Profile class to record instead of the one that fits the file's name
    #[arg(long, value_name = "CLASS")]
    profile_class: Option<String>,
    /// File to write, gzip-compressed if its name ends in .gz; without it the profile goes to standard output
    #[arg(long, visible_alias = "output", value_name = "FILE")]
    output_filename: Option<PathBuf>,
    /// Directory to write the file into
    #[arg(short = 'D', long, value_name = "DIR")]
    dump_dir: Option<PathBuf>,
    /// Version of Windows to record
    #[arg(long, value_name = "MAJOR.MINOR.REV", value_parser = version)]
    windows_version: Option<Version>,
    /// Leave out symbols: structs and enums only
    #[arg(long)]
    concise: bool,
}

/// Major, minor and revision of a version of Windows.
#[derive(Debug, Clone)]
struct Version(String, String, String);

fn version(text: &str) -> Result<Version, String> {
    let parts: Vec<&str> = text.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match parts.as_slice() {
        [major, minor, rev] if parts.iter().all(is_number) => {
            Ok(Version((*major).to_owned(), (*minor).to_owned(), (*rev).to_owned()))
        }
        _ => Err(format!("not three numbers with dots between them: {text}")),
    }
}

impl Plugin for ParsePdb {
    const NAME: &'static str = "parse_pdb";
    const SUMMARY: &'static str = "Make a profile from a PDB file";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Report;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Report>) -> Result<(), Error> {
        let source = args.pdb_filename.as_ref().or(args.filename.as_ref());
        let source = source.ok_or_else(|| Error::usage("no PDB file given"))?;
        // Opened first: a file that may not be written is known before the work, not after it.
        let file = target(args, source).map(|path| session.create_file(&path)).transpose()?;
        let options = PdbOptions {
            profile_class: args.profile_class.clone(),
            windows_version: args.windows_version.clone().map(|Version(a, b, c)| (a, b, c)),
            concise: args.concise,
            file_name: source.file_name().map(|name| name.to_string_lossy().into_owned()),
            guid_age: None,
        };
        let converted = convert_pdb_file(source, &options)
            .map_err(|error| Error::analysis(format!("{}: {error}", source.display())))?;
        let mut rows = profile_file::of_pdb(session, &converted.report, &converted.metadata);
        let Some(file) = file else { return out.document(&converted.json) };
        rows.push(Report::written(&profile_file::write(file, &converted.json)?));
        // Shown only when everything is written: a reader who has seen enough rows must not stop the work.
        rows.into_iter().try_for_each(|row| out.push(row))
    }
}

/// The file to write, where one is asked for: `--output_filename`, in `--dump_dir` if that is given; of a directory
/// alone the name follows from the source.
fn target(args: &Args, source: &Path) -> Option<PathBuf> {
    match (&args.dump_dir, &args.output_filename) {
        (Some(directory), Some(name)) => Some(directory.join(name)),
        (Some(directory), None) => Some(directory.join(source.with_extension("json").file_name()?)),
        (None, name) => name.clone(),
    }
}
