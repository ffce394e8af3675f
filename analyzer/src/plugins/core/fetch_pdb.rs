//! `fetch_pdb`: fetches the PDB of a Windows module, or the module itself, from symbol stores.
//!
//! Named by an executable file, whose debug directory says which PDB is its own, or by name and GUID+age (of an
//! executable: time stamp and size). What is fetched is checked to be that very build before it is written. Truth: the
//! layout of Microsoft's symbol server; `llvm-pdbutil` reads the GUID of a PDB.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memory::{AddressSpace, FileSpace};
use profile_gen::pdb::identify;
use profile_gen::symbol_server::{ExecutableFile, FetchError, Fetched, PdbFile};

use crate::module_profile::{fetch_error, warn};
use crate::pe::Pe;
use crate::plugin::prelude::*;

/// The command.
pub struct FetchPdb;

/// Which file, and where to put it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the PDB, or an executable file that names it
    #[arg(value_name = "FILE")]
    pdb_filename: Option<String>,
    /// GUID and age in hex, as version_scan prints them; of an executable time stamp and size, as stores write them
    #[arg(value_name = "GUID")]
    guid: Option<String>,
    /// The same as FILE, as the original also took it
    #[arg(
        short = 'f',
        long,
        value_name = "FILE",
        visible_alias = "pdb_filename",
        conflicts_with = "pdb_filename"
    )]
    filename: Option<String>,
    /// The same as GUID
    #[arg(long = "guid", value_name = "GUID", conflicts_with = "guid")]
    guid_option: Option<String>,
    /// Directory to write the file into [default: the current one]
    #[arg(short = 'D', long, value_name = "DIR")]
    dump_dir: Option<PathBuf>,
    /// Ask stores again that were found not to have the file within the last day
    #[arg(long)]
    ask_again: bool,
}

row! {
    pub struct Row {
        /// Name of the file.
        name: String,
        /// GUID and age asked for; of an executable time stamp and size.
        id: String,
        /// Ages that the PDB itself says: that of the file and that of its link. The second is what executables name.
        ages: Read<ListOf<u32>>,
        /// Length in bytes.
        size: ByteSize,
        /// The store that gave it.
        source: String,
        /// The file written.
        path: String,
    }
}

/// A file to ask for.
enum Wanted {
    Pdb(PdbFile),
    Executable(ExecutableFile),
}

impl Plugin for FetchPdb {
    const NAME: &'static str = "fetch_pdb";
    const SUMMARY: &'static str = "Fetch the PDB of a Windows module from symbol stores";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let wanted = wanted(session, args)?;
        let (name, id) = match &wanted {
            Wanted::Pdb(file) => (file.name(), file.id().to_string()),
            Wanted::Executable(file) => (file.name(), file.key()),
        };
        // Opened first: a file that may not be written is known before the work, not after it.
        let directory = args.dump_dir.clone().unwrap_or_default();
        let mut file = session.create_file(&directory.join(name))?;
        let fetched = fetch(session, &wanted, args.ask_again).map_err(|error| fetch_error(&[error]))?;
        warn(session, &fetched);
        file.write_all(&fetched.bytes).map_err(Error::output)?;
        let path = file.path().display().to_string();
        file.commit()?;
        let ages = match &wanted {
            Wanted::Pdb(_) => identify(&fetched.bytes)
                .map(|identity| ListOf(std::iter::once(identity.id.age).chain(identity.dbi_age).collect()))
                .map_err(|_| Absent::Malformed("the PDB's own identity cannot be read")),
            Wanted::Executable(_) => Err(Absent::NotApplicable("executables have no age")),
        };
        let size = ByteSize(fetched.bytes.len() as u64);
        out.push(Row { name: name.to_owned(), id, ages, size, source: fetched.source, path })
    }
}

fn fetch(session: &Session, wanted: &Wanted, ask_again: bool) -> Result<Fetched, FetchError> {
    let again;
    let server = if ask_again {
        again = session.new_symbol_server(true);
        &again
    } else {
        session.symbol_server()
    };
    match wanted {
        Wanted::Pdb(file) => server.fetch_pdb(file),
        Wanted::Executable(file) => server.fetch_executable(file),
    }
}

fn wanted(session: &Session, args: &Args) -> Result<Wanted, Error> {
    let usage = |error: profile_gen::symbol_server::IdError| Error::usage(error.to_string());
    let image = session.config.filename.as_ref().and_then(|path| path.to_str());
    let Some(name) = args.pdb_filename.as_deref().or(args.filename.as_deref()).or(image) else {
        return Err(Error::usage("no file is named").with_hint(
            "rekal fetch_pdb ntkrnlmp.pdb GUID, or rekal fetch_pdb ntoskrnl.exe for an executable that is here",
        ));
    };
    let Some(guid) = args.guid.as_deref().or(args.guid_option.as_deref()) else {
        return of_executable(Path::new(name)).map(Wanted::Pdb);
    };
    let is_pdb = name.rsplit_once('.').is_none_or(|(_, extension)| extension.eq_ignore_ascii_case("pdb"));
    if is_pdb {
        PdbFile::parse(name, guid).map(Wanted::Pdb).map_err(usage)
    } else {
        ExecutableFile::parse(name, guid).map(Wanted::Executable).map_err(usage)
    }
}

/// The PDB that an executable on this machine names.
fn of_executable(path: &Path) -> Result<PdbFile, Error> {
    let name = path.display();
    if !path.is_file() {
        return Err(Error::usage(format!("no GUID given, and no such executable file: {name}")).with_hint(
            "GUID and age are what rekal version_scan prints of an image, and rekal peinfo of an executable",
        ));
    }
    let file = FileSpace::open(path, &memory::Limits::default())
        .map_err(|error| Error::analysis(format!("cannot read {name}: {error}")))?;
    let file: Arc<dyn AddressSpace> = Arc::new(file);
    let record = Pe::file(&file, 0).and_then(|pe| pe.rsds());
    let record =
        record.map_err(|why| Error::analysis(format!("{name} does not say which PDB is its own: {why}")))?;
    PdbFile::new(&record.path, record.id).map_err(|error| Error::analysis(error.to_string()))
}
