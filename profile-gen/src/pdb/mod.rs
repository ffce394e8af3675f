//! PDB files of Microsoft compilers as profiles: types, public symbols, identity.
//!
//! `pdb2` reads the container (MSF 7.00), the DBI header and symbol records; type records are read by [`records`], section
//! headers and OMAP tables by [`address`]. A file may be an attack: sizes are checked against its length, the work is proportional to
//! it, and panics of the library end as errors.
//! `docs/pdb-differences.md` lists where the profile deliberately differs from what the original wrote.

mod address;
mod identity;
mod names;
mod primitive;
mod records;
mod types;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ::pdb::{FallibleIterator as _, MachineType, PDB, StreamIndex, SymbolData};
use profile::names::PdbId;
use profile::{Document, Metadata, Struct, StructWriter};
use serde::{Deserialize, Serialize};

use crate::cabinet::{CabinetError, expand as expand_cabinet, is_cabinet};
use address::{AddressMap, Place};
pub use identity::{PdbIdentity, identify};
use records::Records;

const MAGIC: &[u8] = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0";
/// Bytes by which a file is recognised and checked: those of the MSF header.
const HEAD: u64 = 0x40;
/// Largest PDB that is made of a cabinet, in bytes; those of Windows have up to 50 MB.
const MAX_EXPANDED: u64 = 1 << 30;
/// Most streams of a file; their numbers have 16 bits.
const MAX_STREAMS: u64 = 1 << 16;
/// Kinds of public symbols: `S_PUB32` and the one of older compilers, whose name has a length in front.
const S_PUB32: u16 = 0x110e;
const S_PUB32_ST: u16 = 0x1009;
/// Stream numbers of the PDB information and of the types.
const INFORMATION: u16 = 1;
const TYPES: u16 = 2;
/// Base names of files that have a profile class of their own in the original.
const CLASSES: [&str; 8] =
    ["Ntkrnlmp", "Ntkrnlpa", "Ntkrpamp", "Ntoskrnl", "Win32k", "Tcpip", "Ntdll", "Ndis"];

/// What the caller knows about a PDB and wants from it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PdbOptions {
    /// Profile class to record; by default the capitalised base name where the original has such a class, else
    /// `BasicPEProfile`.
    pub profile_class: Option<String>,
    /// Version of Windows the file belongs to: major, minor, revision.
    pub windows_version: Option<(String, String, String)>,
    /// Leave out symbols: structs and enums only.
    pub concise: bool,
    /// Name of the file, e.g. `ntkrnlmp.pdb`; directories in front are dropped.
    pub file_name: Option<String>,
    /// GUID and age under which the file was asked for. By default the GUID of the file and the age of its DBI stream.
    pub guid_age: Option<String>,
}

impl PdbOptions {
    /// The options for what a compressed file of this name expands to: `a.pd_` is `a.pdb`.
    fn expanded(&self) -> Self {
        let name = self.file_name.as_deref().map(|name| match name.strip_suffix('_') {
            Some(stem) if stem.to_ascii_lowercase().ends_with(".pd") => format!("{stem}b"),
            _ => name.to_owned(),
        });
        Self { file_name: name, ..self.clone() }
    }
}

/// A finished conversion.
#[derive(Debug)]
pub struct ConvertedPdb {
    /// The profile.
    pub document: Document,
    /// What it holds and what could not be read.
    pub report: ConvertReport,
}

/// A finished conversion as text.
#[derive(Debug)]
pub struct PdbJson {
    /// Canonical JSON, the same as that of [`ConvertedPdb::document`].
    pub json: String,
    /// `$METADATA` of the profile.
    pub metadata: Metadata,
    /// What it holds and what could not be read.
    pub report: ConvertReport,
}

/// What a conversion found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConvertReport {
    /// Structs, classes and unions written.
    pub structs: usize,
    /// Enums written.
    pub enums: usize,
    /// Symbols written.
    pub symbols: usize,
    /// Public symbols in the file.
    pub publics: usize,
    /// Public symbols that the OMAP table places nowhere: their code was removed, or the tool that moved it does not
    /// say where to.
    pub removed: usize,
    /// Public symbols outside every section: absolute values.
    pub without_section: usize,
    /// Type records and list entries of unknown kinds, by leaf.
    pub unknown_leaves: BTreeMap<u16, u64>,
    /// Type records and members that are cut off or lie outside their struct.
    pub damaged_records: usize,
    /// Whether the file defines no types at all: stripped of private symbols, as most drivers' public PDBs are.
    pub no_types: bool,
    /// Whether arguments of functions were left out because there are more than in any real file.
    pub arguments_cut: bool,
    /// Whether members of base classes were left out because there are more than in any real file.
    pub hoisting_cut: bool,
    /// Things to know about the input.
    pub warnings: Vec<String>,
}

impl ConvertReport {
    /// What the file describes and the profile lacks, because it could not be read; one sentence each.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        let mut losses = self.warnings.clone();
        for (leaf, count) in &self.unknown_leaves {
            losses.push(format!("{count} type records of unknown kind {leaf:#06x} are left out"));
        }
        if self.damaged_records > 0 {
            losses.push(format!("{} type records or members are damaged and left out", self.damaged_records));
        }
        for (cut, what) in
            [(self.arguments_cut, "arguments of functions"), (self.hoisting_cut, "base classes")]
        {
            if cut {
                losses.push(format!("{what} are left out in part: there are more than in any real file"));
            }
        }
        losses
    }

    /// What else is good to know: things the file itself does not hold.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.no_types {
            remarks.push("the file defines no types: it is stripped of private symbols".to_owned());
        }
        for (count, what) in [
            (self.removed, "their code was removed after linking"),
            (self.without_section, "they are absolute values, in no section"),
        ] {
            if count > 0 {
                remarks.push(format!("{count} public symbols are left out: {what}"));
            }
        }
        remarks
    }
}

/// Why a file cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum PdbError {
    /// The file cannot be read.
    #[error("cannot read it: {0}")]
    Io(io::Error),
    /// Not a PDB in the format of Visual C++ 7 and later.
    #[error("not a PDB file that can be read: it is {0}")]
    Unrecognised(&'static str),
    /// The header promises more than there is.
    #[error("truncated PDB: its header promises {promised} bytes, but it has {len}; fetch it again")]
    Truncated {
        /// Bytes by the header.
        promised: u64,
        /// Bytes there are.
        len: u64,
    },
    /// The contents contradict themselves.
    #[error("damaged PDB, fetch it again: {0}")]
    Damaged(String),
    /// A compressed file that does not expand.
    #[error(transparent)]
    Cabinet(#[from] CabinetError),
    /// More members than a file of its size can have.
    #[error("damaged PDB: its types have more members than a file of its size can describe")]
    TooManyMembers,
}

impl From<io::Error> for PdbError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<::pdb::Error> for PdbError {
    fn from(error: ::pdb::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Makes a profile from the bytes of a PDB file.
pub fn convert_pdb(bytes: &[u8], options: &PdbOptions) -> Result<ConvertedPdb, PdbError> {
    let mut document = Document::default();
    let report = guarded(Box::new(Cursor::new(bytes)), options, &mut document)?;
    Ok(ConvertedPdb { document, report })
}

/// Makes a profile of a PDB file as canonical JSON text, holding neither the whole file nor all structs at once. The
/// compressed form of symbol stores (`.pd_`, a cabinet) is expanded in memory, to at most [`MAX_EXPANDED`] bytes.
pub fn convert_pdb_file(path: &Path, options: &PdbOptions) -> Result<PdbJson, PdbError> {
    let mut text = Text::default();
    let mut file = File::open(path)?;
    let mut head = Vec::new();
    (&mut file).take(4).read_to_end(&mut head)?;
    let report = if is_cabinet(&head) {
        let mut packed = head;
        file.take(MAX_EXPANDED).read_to_end(&mut packed)?;
        let bytes = expand_cabinet(&packed, "a.pdb", MAX_EXPANDED)?;
        guarded(Box::new(Cursor::new(bytes)), &options.expanded(), &mut text)?
    } else {
        guarded(Box::new(file), options, &mut text)?
    };
    let json = text.writer.map_or_else(String::new, StructWriter::finish);
    Ok(PdbJson { json, metadata: text.metadata, report })
}

/// Where a profile goes while it is made.
trait Target {
    /// Takes everything but the structs; called once.
    fn begin(&mut self, document: Document);

    /// Takes the next struct; names ascend.
    fn structure(&mut self, name: &str, definition: Struct);
}

impl Target for Document {
    fn begin(&mut self, document: Document) {
        *self = document;
    }

    fn structure(&mut self, name: &str, definition: Struct) {
        self.structs.insert(name.to_owned(), definition);
    }
}

/// The profile as text.
#[derive(Default)]
struct Text {
    metadata: Metadata,
    writer: Option<StructWriter>,
}

impl Target for Text {
    fn begin(&mut self, document: Document) {
        self.writer = Some(StructWriter::new(&document));
        self.metadata = document.metadata;
    }

    fn structure(&mut self, name: &str, definition: Struct) {
        if let Some(writer) = &mut self.writer {
            writer.add(name, &definition);
        }
    }
}

/// Bytes of a PDB, wherever they are.
trait Input: Read + Seek + Send + fmt::Debug {}

impl<T: Read + Seek + Send + fmt::Debug> Input for T {}

fn guarded(
    mut input: Box<dyn Input + '_>,
    options: &PdbOptions,
    target: &mut dyn Target,
) -> Result<ConvertReport, PdbError> {
    check(&mut *input)?;
    // The library asserts what damaged files break; nothing of it is used after a panic.
    catch_unwind(AssertUnwindSafe(|| convert(input, options, target)))
        .unwrap_or_else(|_| Err(PdbError::Damaged("its parts contradict each other".to_owned())))
}

fn check(input: &mut dyn Input) -> Result<(), PdbError> {
    let len = input.seek(SeekFrom::End(0))?;
    input.rewind()?;
    let mut head = Vec::new();
    input.take(HEAD).read_to_end(&mut head)?;
    check_header(&head, len)
}

/// Refuses what is no MSF 7.00 file and what would make the library allocate or read more than there is.
fn check_header(bytes: &[u8], len: u64) -> Result<(), PdbError> {
    if !bytes.starts_with(MAGIC) {
        return Err(PdbError::Unrecognised(match bytes {
            head if is_cabinet(head) => "a cabinet (.pd_), to be expanded first",
            [b'M', b'Z', ..] => "an executable: its symbols are in a separate .pdb",
            [b'B', b'S', b'J', b'B', ..] => "a portable PDB of .NET, which describes no memory layout",
            _ if bytes.starts_with(b"Microsoft C/C++ program database 2.00") => {
                "a PDB 2.00 of Visual C++ 6 or earlier"
            }
            _ if bytes.starts_with(b"Microsoft MSFZ Container") => "a compressed PDB (MSFZ)",
            [] => "empty",
            _ => "something else",
        }));
    }
    let [page_size, pages, directory] = [0x20, 0x28, 0x2c].map(|at| u64::from(word(bytes, at)));
    let promised = page_size * pages;
    if promised > len {
        return Err(PdbError::Truncated { promised, len });
    }
    // Every page belongs to one stream at most, so the directory lists no more pages than there are.
    if directory > 4 * (pages + MAX_STREAMS + 1) {
        return Err(PdbError::Damaged(format!("its stream directory has {directory} bytes")));
    }
    Ok(())
}

fn convert(
    input: Box<dyn Input + '_>,
    options: &PdbOptions,
    target: &mut dyn Target,
) -> Result<ConvertReport, PdbError> {
    let mut pdb = PDB::open(input)?;
    let mut document = Document::default();
    let mut report = ConvertReport::default();
    let information = Information::read(&mut pdb)?;
    let (machine, age) = match pdb.debug_information() {
        Ok(dbi) => (dbi.machine_type()?, dbi.age()),
        Err(error) => {
            report.warnings.push(format!("no debug information (DBI stream): {error}"));
            (MachineType::Unknown, None)
        }
    };
    let publics = if options.concise { Vec::new() } else { publics(&mut pdb, &mut report) };
    let arch = arch(machine, &publics);
    add_symbols(publics, arch == "I386", &mut document, &mut report);

    let file = options.file_name.as_deref().map(base_name).filter(|name| !name.is_empty());
    if let Some(file) = file {
        document.set("PDBFile", file);
    }
    let class = options.profile_class.clone().unwrap_or_else(|| default_class(file.unwrap_or_default()));
    document.set("ProfileClass", class);
    document.set("Type", "Profile");
    document.set("Version", information.version);
    let own_age = age.filter(|&age| age != 0).unwrap_or(information.id.age);
    let guid_age =
        options.guid_age.clone().unwrap_or_else(|| PdbId { age: own_age, ..information.id }.to_string());
    document.set("GUID_AGE", guid_age);
    document.set("Timestamp", timestamp(information.signature));
    document.set("arch", arch);
    if let Some((major, minor, rev)) = &options.windows_version {
        for (key, value) in [("major", major), ("minor", minor), ("rev", rev)] {
            document.set(key, value.as_str());
        }
    }
    document.set("Generator", concat!("rekal ", env!("CARGO_PKG_VERSION")));
    let address_size = if matches!(arch, "I386" | "ARM") { 4 } else { 8 };
    add_types(&mut pdb, address_size, document, target, &mut report)?;
    Ok(report)
}

type Container<'s> = PDB<'s, Box<dyn Input + 's>>;

/// The PDB information stream.
struct Information {
    /// Version of the format, a date such as 20000404.
    version: u32,
    /// When the file was made, in seconds since 1970; a hash in reproducible builds.
    signature: u32,
    id: PdbId,
}

impl Information {
    fn read(pdb: &mut Container<'_>) -> Result<Self, PdbError> {
        let short = || PdbError::Damaged("its information stream is too short".to_owned());
        let stream = pdb.raw_stream(StreamIndex(INFORMATION))?.ok_or_else(short)?;
        let bytes = stream.as_slice().get(..28).ok_or_else(short)?;
        let id = PdbId { guid: *bytes.last_chunk().ok_or_else(short)?, age: word(bytes, 8) };
        Ok(Self { version: word(bytes, 0), signature: word(bytes, 4), id })
    }
}

/// A public symbol: decorated name, offset from the image base in bytes, whether it is a function.
type Public = (String, u64, bool);

/// Public symbols with the address they have in the image. Reading ends at the first damaged record.
fn publics(pdb: &mut Container<'_>, report: &mut ConvertReport) -> Vec<Public> {
    let mut out = Vec::new();
    if let Err(error) = read_publics(pdb, report, &mut out) {
        report.warnings.push(format!("public symbols end after {}: {error}", report.publics));
    }
    out
}

fn read_publics(
    pdb: &mut Container<'_>,
    report: &mut ConvertReport,
    out: &mut Vec<Public>,
) -> Result<(), ::pdb::Error> {
    let table = pdb.global_symbols()?;
    let map = AddressMap::read(pdb)?;
    let mut symbols = table.iter();
    while let Some(symbol) = symbols.next()? {
        if !matches!(symbol.raw_kind(), S_PUB32 | S_PUB32_ST) {
            continue;
        }
        report.publics += 1;
        let SymbolData::Public(public) = symbol.parse()? else { continue };
        match map.place(public.offset.section, public.offset.offset) {
            Place::At(rva) => out.push((public.name.to_string().into_owned(), rva.into(), public.function)),
            Place::Removed => report.removed += 1,
            Place::NoSection => report.without_section += 1,
        }
    }
    Ok(())
}

fn add_symbols(publics: Vec<Public>, x86: bool, document: &mut Document, report: &mut ConvertReport) {
    let mut symbols: BTreeMap<String, BTreeMap<u64, bool>> = BTreeMap::new();
    for (name, address, function) in publics {
        let places = symbols.entry(names::undecorate(&name, x86)).or_default();
        *places.entry(address).or_default() |= function;
    }
    for (name, address, function) in names::distinct(symbols) {
        let section = if function { &mut document.functions } else { &mut document.constants };
        section.insert(name, address);
        report.symbols += 1;
    }
}

fn add_types(
    pdb: &mut Container<'_>,
    address_size: u64,
    document: Document,
    target: &mut dyn Target,
    report: &mut ConvertReport,
) -> Result<(), PdbError> {
    let stream = match pdb.raw_stream(StreamIndex(TYPES)) {
        Ok(stream) => stream,
        Err(::pdb::Error::StreamNotFound(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let bytes = stream.as_ref().map_or(&[][..], |stream| stream.as_slice());
    let records =
        Records::new(bytes).ok_or_else(|| PdbError::Damaged("its type stream has no header".to_owned()))?;
    if records.truncated {
        report.warnings.push("the type stream ends early; the types after its end are missing".to_owned());
    }
    types::convert(&records, bytes.len(), address_size, document, target, report)?;
    report.no_types = report.structs == 0 && report.enums == 0;
    Ok(())
}

/// The architecture by the machine of the DBI stream. Where that is unknown, x86 if a symbol has a `stdcall` name.
fn arch(machine: MachineType, publics: &[Public]) -> &'static str {
    match machine {
        MachineType::X86 => "I386",
        MachineType::Amd64 => "AMD64",
        MachineType::Arm64 => "ARM64",
        MachineType::Arm | MachineType::ArmNT | MachineType::Thumb => "ARM",
        _ if publics.iter().any(|(name, ..)| names::stdcall(name).is_some()) => "I386",
        _ => "AMD64",
    }
}

/// The number of 4 bytes at an offset; 0 beyond the end.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or_default()
}

fn default_class(file: &str) -> String {
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let known = CLASSES.iter().find(|class| class.eq_ignore_ascii_case(stem));
    known.map_or("BasicPEProfile", |class| class).to_owned()
}

/// Seconds since 1970 as `YYYY-MM-DD HH:MM:SSZ`.
fn timestamp(seconds: u32) -> String {
    jiff::Timestamp::from_second(seconds.into())
        .map_or_else(|_| String::new(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}
