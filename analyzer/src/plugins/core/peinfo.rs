//! `peinfo`: headers, sections, imports, exports and version of an executable, in a file or in memory.
//!
//! From a file: `peinfo --filename X`, `peinfo 0 X`, `-f X peinfo`. From memory: the address of the module. Truth:
//! `llvm-readobj` on executables made by clang and lld, and the sources of their resources.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use memory::{AddressSpace, FileSpace};

use crate::os::address_space::SpaceArg;
use crate::os::symbols;
use crate::pe::{ExportTarget, Headers, ImportKind, ImportedBy, Listing, Pe};
use crate::plugin::prelude::*;
use crate::table::{Cell as _, Value};

/// The command.
pub struct Peinfo;

/// Which executable.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address of the module in memory; with a file, where in it the executable begins
    #[arg(value_name = "ADDRESS", default_value = "0")]
    image_base: String,
    /// The executable file
    #[arg(value_name = "FILE")]
    executable: Option<PathBuf>,
    /// The executable file, in another way
    #[arg(long, value_name = "FILE", conflicts_with = "executable")]
    filename: Option<PathBuf>,
    /// What the address means
    #[command(flatten)]
    space: SpaceArg,
}

row! {
    pub struct Row {
        /// What the row is about: `attribute`, `section`, `directory`, `import`, `delay import`, `bound import`, `export` or `version`.
        part: &'static str,
        /// Its name; of an import `module!function`.
        name: Read<String>,
        /// Value of an attribute or version text; where an export is forwarded to; the section of a directory.
        value: Read<Value>,
        /// What may be done with a section: `x`, `r`, `w`.
        perm: Option<String>,
        /// Offset of a section in the file.
        raw_off: Option<Address>,
        /// Relative address; of an import that of the slot its address is stored in.
        rva: Read<Address>,
        /// The address: relative to the module's own base in memory, to the preferred one in a file.
        vma: Read<Address>,
        /// Length in memory.
        size: Option<ByteSize>,
        /// Ordinal of an export, ordinal or hint of an import.
        ord: Read<u32>,
    }
}

impl Row {
    fn new(part: &'static str, name: Read<String>) -> Self {
        const NONE: Absent = Absent::NotApplicable("does not apply to this row");
        let (value, rva, vma, ord) = (Err(NONE), Err(NONE), Err(NONE), Err(NONE));
        Self { part, name, value, perm: None, raw_off: None, rva, vma, size: None, ord }
    }
}

impl Plugin for Peinfo {
    const NAME: &'static str = "peinfo";
    const SUMMARY: &'static str = "Show headers, sections, imports, exports and version of an executable";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let pe = open(session, args)?;
        let base = if pe.is_file() { pe.headers().image_base } else { pe.address(0) };
        let mut report = Report { session, pe: &pe, base, out };
        report.attributes()?;
        report.sections()?;
        report.directories()?;
        report.imports()?;
        report.exports()?;
        report.version()
    }
}

/// The executable that the arguments mean.
fn open(session: &Session, args: &Args) -> Result<Pe, Error> {
    let bad = |why: Absent| Error::analysis(format!("cannot show the executable: {why}"));
    let file = args.executable.as_deref().or(args.filename.as_deref());
    let given = Path::new(&args.image_base);
    // `peinfo FILE`: nobody would name a module by something that is a file here.
    if file.is_none() && crate::parse::address(&args.image_base).is_err() && given.is_file() {
        return Pe::file(&read(given)?, 0).map_err(bad);
    }
    let base = symbols::address(session, &args.image_base)?;
    if let Some(file) = file {
        return Pe::file(&read(file)?, base).map_err(bad);
    }
    let Some(image) = &session.config.filename else {
        return Err(Error::usage("no executable is named").with_hint("rekal peinfo --filename FILE"));
    };
    if image.is_file() {
        let file = read(image)?;
        if file.read_u16(0) == Ok(u16::from_le_bytes(*b"MZ")) {
            return Pe::file(&file, base).map_err(bad);
        }
    }
    Pe::mapped(&args.space.name(session).open(session)?, base).map_err(bad)
}

fn read(path: &Path) -> Result<Arc<dyn AddressSpace>, Error> {
    let file = FileSpace::open(path, &memory::Limits::default())
        .map_err(|error| Error::usage(format!("cannot read {}: {error}", path.display())))?;
    Ok(Arc::new(file))
}

struct Report<'a, 'o> {
    session: &'a Session,
    pe: &'a Pe,
    /// What relative addresses are added to.
    base: u64,
    out: &'a mut Rows<'o, Row>,
}

impl Report<'_, '_> {
    fn attribute(&mut self, name: &str, value: Read<Value>) -> Result<(), Error> {
        self.out.push(Row { value, ..Row::new("attribute", Ok(name.to_owned())) })
    }

    /// Fills in both addresses.
    fn at(&self, rva: u64, row: Row) -> Row {
        Row { rva: Ok(Address(rva)), vma: Ok(Address(self.base.wrapping_add(rva))), ..row }
    }

    /// The items of a list, with a note where it ends early.
    fn items<T>(&self, what: &str, listing: Listing<T>) -> Vec<T> {
        if let Some(why) = &listing.cut {
            self.session.notes.partial(format!("the list of {what} ends early: {why}"));
        }
        listing.items
    }

    fn attributes(&mut self) -> Result<(), Error> {
        let headers = self.pe.headers();
        let text = |text: String| Ok(text.into_value());
        let version = |(major, minor): (u16, u16)| Ok(format!("{major}.{minor}").into_value());
        let names = |names: Vec<String>| Ok(ListOf(names).into_value());
        self.attribute("Machine", text(headers.machine_name()))?;
        let (stamp, seconds) = if self.pe.is_reproducible() {
            (
                "TimeDateStamp (hash of a reproducible build)",
                Ok(Address(headers.timestamp.into()).into_value()),
            )
        } else {
            ("TimeDateStamp", Ok(Time(i128::from(headers.timestamp) * 1_000_000_000).into_value()))
        };
        self.attribute(stamp, seconds)?;
        let rsds = self.pe.rsds();
        self.attribute("GUID/Age", rsds.clone().map(|rsds| rsds.id.to_string().into_value()))?;
        self.attribute("PDB", rsds.map(|rsds| rsds.path.into_value()))?;
        self.attribute("Characteristics", names(headers.characteristics_names()))?;
        self.attribute("DllCharacteristics", names(headers.dll_characteristics_names()))?;
        self.attribute("Subsystem", text(headers.subsystem_name()))?;
        self.attribute("OperatingSystemVersion", version(headers.os_version))?;
        self.attribute("ImageVersion", version(headers.image_version))?;
        self.attribute("SubsystemVersion", version(headers.subsystem_version))?;
        let (major, minor) = headers.linker_version;
        self.attribute("LinkerVersion", version((major.into(), minor.into())))?;
        self.attribute("ImageBase", Ok(Address(headers.image_base).into_value()))?;
        self.attribute("AddressOfEntryPoint", Ok(Address(headers.entry_point.into()).into_value()))?;
        for (name, bytes) in [
            ("SectionAlignment", headers.section_alignment.into()),
            ("FileAlignment", headers.file_alignment.into()),
            ("SizeOfImage", headers.size_of_image.into()),
            ("SizeOfHeaders", headers.size_of_headers.into()),
            ("SizeOfStackReserve", headers.stack.0),
            ("SizeOfStackCommit", headers.stack.1),
            ("SizeOfHeapReserve", headers.heap.0),
            ("SizeOfHeapCommit", headers.heap.1),
        ] {
            self.attribute(name, Ok(ByteSize(bytes).into_value()))?;
        }
        self.attribute("CheckSum", Ok(Address(headers.checksum.into()).into_value()))
    }

    fn sections(&mut self) -> Result<(), Error> {
        for section in self.items("sections", self.pe.headers().sections.clone()) {
            let row = self.at(section.rva.into(), Row::new("section", Ok(section.name.clone())));
            self.out.push(Row {
                perm: Some(section.permissions()),
                raw_off: Some(Address(section.raw_offset.into())),
                size: Some(ByteSize(section.virtual_size.into())),
                ..row
            })?;
        }
        Ok(())
    }

    fn directories(&mut self) -> Result<(), Error> {
        let headers = self.pe.headers();
        for (index, directory) in headers.directories.iter().enumerate() {
            let Some(name) = Headers::directory_name(index).filter(|_| directory.rva != 0) else { continue };
            let row = self.at(directory.rva.into(), Row::new("directory", Ok(name.to_owned())));
            let section = headers.section_at(directory.rva);
            let no_section = Absent::NotApplicable("lies in no section");
            let value = section.map(|section| section.name.clone().into_value()).ok_or(no_section);
            self.out.push(Row { size: Some(ByteSize(directory.size.into())), value, ..row })?;
        }
        Ok(())
    }

    fn imports(&mut self) -> Result<(), Error> {
        for module in self.items("imported modules", self.pe.imports()) {
            let part = match module.kind {
                ImportKind::Normal => "import",
                ImportKind::Delay => "delay import",
            };
            let name = module.name.clone().unwrap_or_else(|_| "?".to_owned());
            for function in self.items(&format!("imports from {name}"), module.functions) {
                let (label, ord) = match function.by {
                    Ok(ImportedBy::Name { hint, name }) => (Ok(name), Ok(hint.into())),
                    Ok(ImportedBy::Ordinal(ordinal)) => (Ok(format!("#{ordinal}")), Ok(ordinal.into())),
                    Err(why) => (Err(why.clone()), Err(why)),
                };
                let label = module.name.clone().and_then(|name| Ok(format!("{name}!{}", label?)));
                let row = self.at(function.slot, Row::new(part, label));
                self.out.push(Row { ord, ..row })?;
            }
        }
        for bound in self.items("bound imports", self.pe.bound_imports()) {
            let value = Ok(Time(i128::from(bound.timestamp) * 1_000_000_000).into_value());
            self.out.push(Row { value, ..Row::new("bound import", bound.name) })?;
        }
        Ok(())
    }

    fn exports(&mut self) -> Result<(), Error> {
        let exports = match self.pe.exports() {
            Ok(exports) => exports,
            Err(why) => return self.without("exports", &why),
        };
        self.attribute("Name of the module", exports.module.map(String::into_value))?;
        for export in self.items("exports", exports.entries) {
            let row = Row { ord: export.ordinal, ..Row::new("export", export.name) };
            let row = match export.target {
                Ok(ExportTarget::Rva(rva)) => self.at(rva.into(), row),
                Ok(ExportTarget::Forwarder(to)) => Row { value: Ok(to.into_value()), ..row },
                Err(why) => Row { rva: Err(why.clone()), vma: Err(why), ..row },
            };
            self.out.push(row)?;
        }
        Ok(())
    }

    fn version(&mut self) -> Result<(), Error> {
        let version = match self.pe.version() {
            Ok(version) => version,
            Err(why) => return self.without("version", &why),
        };
        let dotted = |[a, b, c, d]: [u16; 4]| format!("{a}.{b}.{c}.{d}").into_value();
        for (name, value) in [
            ("FileVersion (binary)", version.fixed.clone().map(|fixed| dotted(fixed.file))),
            ("ProductVersion (binary)", version.fixed.map(|fixed| dotted(fixed.product))),
        ] {
            self.out.push(Row { value, ..Row::new("version", Ok(name.to_owned())) })?;
        }
        for text in self.items("version texts", version.strings) {
            let value = Ok(text.value.into_value());
            self.out.push(Row { value, ..Row::new("version", Ok(text.key)) })?;
        }
        Ok(())
    }

    /// Notes that a part is missing, unless the executable simply has none.
    fn without(&self, what: &str, why: &Absent) -> Result<(), Error> {
        if why.is_loss() {
            self.session.notes.partial(format!("no {what}: {why}"));
        }
        Ok(())
    }
}
