//! `repo`: mirrors, bundles, checks, signs and cleans profile repositories.
//!
//! The work is done in the crate `repository`; this is its command line. Truth: the `minisign` program checks what
//! `repo sign` signs and signs what `repo verify` accepts; a mirror and a bundle are read back as repositories.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use repository::{Answer, Garbage, GarbageKind, Limits, MirrorOptions, Problem, PublicKey, SecretKey, Want};

use crate::os::system::Kernel;
use crate::output::OutputFile;
use crate::plugin::prelude::*;

/// Largest list of names and key file that is read, in bytes.
const MAX_LIST: u64 = 16 << 20;

/// The command.
pub struct Repo;

/// What to do with which repository.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Action {
    /// Copy the repository behind a URL, or bring the copy up to date
    Mirror(MirrorArgs),
    /// Write an archive that works as a repository without a network
    Bundle(BundleArgs),
    /// Compare a repository with the hashes of its inventory, and check its signature
    Verify(VerifyArgs),
    /// Sign the inventory of a repository directory
    Sign(SignArgs),
    /// Make a pair of keys: FILE for `sign` and FILE.pub for those who check
    Keygen(KeygenArgs),
    /// Make a token for uploads: the holder gets the token, the server's configuration its SHA-256
    Token,
    /// List what is of no use in a repository or cache directory, and delete it on request
    Gc(GcArgs),
}

#[derive(Debug, clap::Args)]
struct MirrorArgs {
    /// Repository to copy; ends in #minisign=KEY where it must be signed
    url: String,
    /// Directory of the copy
    directory: PathBuf,
    /// Transfers at a time
    #[arg(long, default_value_t = 4, value_name = "N")]
    jobs: usize,
    /// Delete documents that the repository no longer lists
    #[arg(long)]
    prune: bool,
}

#[derive(Debug, clap::Args)]
struct BundleArgs {
    /// Archive to write
    out_file: PathBuf,
    /// Names, build-ids, or GUIDs with age
    wanted: Vec<String>,
    /// File with more of them, one a line; # begins a comment
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Image whose kernel's profile is wanted; may be given several times
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// Secret key to sign with
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// Repository directory or archive
    repository: PathBuf,
    /// Public key that must have signed it: RW... or a file
    #[arg(long)]
    key: Option<String>,
}

#[derive(Debug, clap::Args)]
struct SignArgs {
    /// Repository directory
    directory: PathBuf,
    /// Secret key to sign with
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, clap::Args)]
struct KeygenArgs {
    /// File for the secret key
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct GcArgs {
    /// Repository or cache directory
    directory: PathBuf,
    /// Delete what is listed; without it nothing is changed
    #[arg(long)]
    delete: bool,
    /// Delete also documents that are only not listed, and symlinks that lead nowhere
    #[arg(long, requires = "delete")]
    unlisted: bool,
    /// Hours for which unfinished files are left alone
    #[arg(long = "min_age", default_value_t = 24, value_name = "HOURS")]
    min_age: u64,
}

row! {
    pub struct Row {
        /// What is told: `listed`, `fetched`, `failed`, `document`, `missing`, `changed`, `written` and so on.
        item: &'static str,
        /// How many, where it is a number.
        count: Option<u64>,
        /// Bytes of the document or file.
        size: Option<ByteSize>,
        /// The document or file, and what is wrong with it.
        comment: String,
    }
}

impl Plugin for Repo {
    const NAME: &'static str = "repo";
    const SUMMARY: &'static str = "Mirror, bundle, verify, sign and clean profile repositories";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        match &args.action {
            Action::Mirror(args) => mirror(session, args, out),
            Action::Bundle(args) => bundle(session, args, out),
            Action::Verify(args) => verify(args, out),
            Action::Sign(args) => {
                let key = secret_key(&args.key)?;
                let path = repository::sign(&args.directory, &key, &Limits::default()).map_err(|error| {
                    Error::analysis(error.to_string()).with_hint("rekal build_inventory DIR")
                })?;
                out.push(text("written", path.display()))
            }
            Action::Keygen(args) => keygen(session, args, out),
            Action::Token => {
                let (token, sha256) =
                    repository::new_token().map_err(|error| Error::analysis(error.to_string()))?;
                out.push(text("token", token))?;
                out.push(text("sha256", sha256))
            }
            Action::Gc(args) => gc(session, args, out),
        }
    }
}

fn text(item: &'static str, comment: impl std::fmt::Display) -> Row {
    Row { item, count: None, size: None, comment: comment.to_string() }
}

fn count(item: &'static str, count: usize, comment: &str) -> Row {
    Row { item, count: Some(count as u64), size: None, comment: comment.to_owned() }
}

fn mirror(session: &Session, args: &MirrorArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
    if session.config.offline {
        return Err(Error::usage("a mirror needs the network, which --offline forbids"));
    }
    let options = MirrorOptions {
        jobs: args.jobs,
        prune: args.prune,
        limits: Limits::default(),
        on_network: session.config.on_network.map(|listener| Box::new(listener) as _),
    };
    let progress = std::sync::OnceLock::new();
    let step = |_, total| progress.get_or_init(|| session.progress("mirroring", total)).add(1);
    let done = repository::mirror(&args.url, &args.directory, options, &step)
        .map_err(|error| Error::analysis(error.to_string()))?;
    drop(progress);
    out.push(count("listed", done.listed, "documents of the repository"))?;
    out.push(count("current", done.current, "that were here already"))?;
    out.push(count("fetched", done.fetched, "fetched, or confirmed by the server"))?;
    if let Some(key) = &done.signed_by {
        out.push(text("signed", key))?;
    }
    for name in &done.pruned {
        out.push(text("pruned", name))?;
    }
    for (name, answer) in &done.failed {
        out.push(text("failed", format!("{name}: {answer}")))?;
    }
    if !done.failed.is_empty() {
        session.notes.partial(format!("documents that are missing from the mirror: {}", done.failed.len()));
    }
    Ok(())
}

fn bundle(session: &Session, args: &BundleArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
    let key = args.key.as_deref().map(secret_key).transpose()?;
    let mut file = session.create_file(&args.out_file)?;
    let mut wanted: Vec<String> = args.wanted.clone();
    if let Some(list) = &args.list {
        let lines = read_text(list)?;
        let names = lines.lines().map(|line| line.split('#').next().unwrap_or_default().trim().to_owned());
        wanted.extend(names.filter(|name| !name.is_empty()));
    }
    let parse = |text: &String| Want::parse(text).map_err(|error| Error::usage(error.to_string()));
    let mut wants = wanted.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let mut missing = Vec::new();
    for image in &args.image {
        match kernel_of(session, image) {
            Ok(want) => wants.push(want),
            Err(error) => missing.push(format!("{}: {error}", image.display())),
        }
    }
    if wants.is_empty() && missing.is_empty() {
        return Err(Error::usage("nothing to bundle").with_hint("name profiles, or images with --image"));
    }
    let failed = |error: repository::BundleError| Error::analysis(error.to_string());
    let bundle = session.repositories()?.bundle(&wants).map_err(failed)?;
    missing.extend(bundle.missing().iter().map(|(name, answer)| format!("{name}: {answer}")));
    let rows: Vec<Row> = bundle
        .documents()
        .map(|(name, size)| Row { size: Some(ByteSize(size as u64)), ..text("document", name) })
        .collect();
    if rows.is_empty() {
        return Err(Error::analysis("none of it is in any repository").with_details(missing));
    }
    bundle.write(&mut file, key.as_ref()).map_err(failed)?;
    let path = file.path().display().to_string();
    file.commit()?;
    rows.into_iter().try_for_each(|row| out.push(row))?;
    out.push(text("written", path))?;
    for line in &missing {
        out.push(text("missing", line))?;
    }
    if !missing.is_empty() {
        session.notes.partial(format!("not in the bundle: {}", missing.len()));
    }
    Ok(())
}

/// The profile of the kernel found in an image.
fn kernel_of(session: &Session, image: &Path) -> Result<Want, Error> {
    let config = crate::session::Config { filename: Some(image.to_owned()), ..session.config.clone() };
    let inner = Session::new(config);
    let kernel = Kernel::of(&inner)?;
    Want::parse(kernel.profile().0).map_err(|error| Error::identify(error.to_string()))
}

fn verify(args: &VerifyArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
    let key = args.key.as_deref().map(public_key).transpose()?;
    let found = repository::verify(&args.repository, key.as_ref(), &Limits::default())
        .map_err(|answer| Error::analysis(format!("{}: {answer}", args.repository.display())))?;
    out.push(count("listed", found.listed, "documents in the inventory"))?;
    out.push(count("intact", found.intact, "that have the listed SHA-256"))?;
    match &found.signature {
        None => {}
        Some(Ok(key)) => out.push(text("signed", key))?,
        Some(Err(answer)) => out.push(text("unsigned", answer))?,
    }
    for (name, problem) in &found.problems {
        let (item, reason) = match problem {
            Problem::Unreadable(Answer::NotFound) => ("missing", String::new()),
            Problem::Unreadable(answer) => ("unreadable", format!(": {answer}")),
            Problem::Changed => ("changed", ": its SHA-256 is not the listed one".to_owned()),
            Problem::Unhashed => ("unhashed", ": the inventory has no SHA-256 of it".to_owned()),
            Problem::Unlisted => ("unlisted", String::new()),
            Problem::Dangling(target) => ("dangling", format!(": no {target} here")),
        };
        out.push(text(item, format!("{name}{reason}")))?;
    }
    let unsigned = matches!(found.signature, Some(Err(_)));
    if unsigned || !found.problems.is_empty() {
        let signature = if unsigned { ", and not signed by the key" } else { "" };
        let message = format!("documents with problems: {}{signature}", found.problems.len());
        return Err(Error::analysis(message).with_hint("rekal build_inventory DIR lists what is there now"));
    }
    Ok(())
}

fn keygen(session: &Session, args: &KeygenArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
    let failed = |error: repository::SignatureError| Error::analysis(error.to_string());
    let key = SecretKey::generate().map_err(failed)?;
    let public = key.public().map_err(failed)?;
    let mut public_path = args.file.clone().into_os_string();
    public_path.push(".pub");
    let secret_file = session.create_file(&args.file)?;
    let public_file = session.create_file(Path::new(&public_path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let handle = secret_file.handle().map_err(Error::output)?;
        handle.set_permissions(fs::Permissions::from_mode(0o600)).map_err(Error::output)?;
    }
    for (mut file, content) in [(secret_file, key.to_file()), (public_file, public.to_file())] {
        file.write_all(content.as_bytes()).map_err(Error::output)?;
        let path = file.path().display().to_string();
        OutputFile::commit(file)?;
        out.push(text("written", path))?;
    }
    out.push(text("public", public))
}

fn gc(session: &Session, args: &GcArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
    let min_age = Duration::from_secs(args.min_age.saturating_mul(3600));
    let found = repository::find_garbage(&args.directory, min_age, &Limits::default())
        .map_err(|error| Error::analysis(format!("{}: {error}", args.directory.display())))?;
    let mut left = 0;
    for garbage in &found {
        let wanted = args.delete && (garbage.kind.is_certain() || args.unlisted);
        let failure = if wanted { repository::remove_garbage(garbage).err() } else { None };
        let Garbage { path, size, kind } = garbage;
        let state = match &failure {
            Some(error) => format!(": not deleted: {error}"),
            None if wanted => ": deleted".to_owned(),
            None => String::new(),
        };
        left += usize::from(!wanted);
        let comment = format!("{}{state}", path.display());
        out.push(Row { item: name(*kind), count: None, size: Some(ByteSize(*size)), comment })?;
        if failure.is_some() {
            session.notes.partial(format!("not deleted: {}", path.display()));
        }
    }
    if left > 0 && !args.delete {
        session.notes.info("nothing was changed; --delete deletes what is of no use");
    }
    Ok(())
}

fn name(kind: GarbageKind) -> &'static str {
    match kind {
        GarbageKind::Temporary => "temporary",
        GarbageKind::Part => "part",
        GarbageKind::Orphan => "orphan",
        GarbageKind::Dangling => "dangling",
        GarbageKind::Unlisted => "unlisted",
    }
}

fn secret_key(path: &Path) -> Result<SecretKey, Error> {
    SecretKey::parse(&read_text(path)?).map_err(|error| Error::usage(format!("{error}: {}", path.display())))
}

/// A key as text or, where that is none, the file of that name.
fn public_key(text: &str) -> Result<PublicKey, Error> {
    if let Ok(key) = PublicKey::parse(text) {
        return Ok(key);
    }
    let path = Path::new(text);
    PublicKey::parse(&read_text(path)?).map_err(|error| Error::usage(format!("{error}: {text}")))
}

fn read_text(path: &Path) -> Result<String, Error> {
    let failed = |reason: String| Error::usage(format!("cannot read {}: {reason}", path.display()));
    let size = fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > MAX_LIST {
        return Err(failed(format!("larger than {MAX_LIST} bytes")));
    }
    fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}
