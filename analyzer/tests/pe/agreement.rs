//! Everything the parser says against what `llvm-readobj` says.

use analyzer::pe::{ExportTarget, ImportKind, ImportedBy, Pe};
use object::Absent;

use crate::fixture::{VERSION_TEXTS, all, made, open, space};
use crate::readobj::readobj;

#[test]
fn headers_sections_and_directories() {
    for path in all() {
        let (pe, Some(truth)) = (open(&path), readobj(&path)) else { return };
        let headers = pe.headers();
        let file = truth.one("ImageFileHeader");
        let optional = truth.one("ImageOptionalHeader");
        let pair = |name: &str| {
            let half = |part: &str| u16::try_from(optional.number(&format!("{part}{name}"))).unwrap();
            (half("Major"), half("Minor"))
        };
        let expected = [
            (u64::from(headers.machine), file.number("Machine")),
            (headers.number_of_sections.into(), file.number("SectionCount")),
            (headers.symbol_table.into(), file.number("PointerToSymbolTable")),
            (headers.number_of_symbols.into(), file.number("SymbolCount")),
            (headers.size_of_optional_header.into(), file.number("OptionalHeaderSize")),
            (headers.characteristics.into(), file.flags("Characteristics")),
            (u64::from(headers.timestamp), file.number("TimeDateStamp")),
            (if headers.is_64 { 0x20b } else { 0x10b }, optional.number("Magic")),
            (headers.linker_version.0.into(), optional.number("MajorLinkerVersion")),
            (headers.linker_version.1.into(), optional.number("MinorLinkerVersion")),
            (headers.size_of_code.into(), optional.number("SizeOfCode")),
            (headers.size_of_initialized_data.into(), optional.number("SizeOfInitializedData")),
            (headers.size_of_uninitialized_data.into(), optional.number("SizeOfUninitializedData")),
            (headers.entry_point.into(), optional.number("AddressOfEntryPoint")),
            (headers.base_of_code.into(), optional.number("BaseOfCode")),
            (headers.image_base, optional.number("ImageBase")),
            (headers.section_alignment.into(), optional.number("SectionAlignment")),
            (headers.file_alignment.into(), optional.number("FileAlignment")),
            (headers.size_of_image.into(), optional.number("SizeOfImage")),
            (headers.size_of_headers.into(), optional.number("SizeOfHeaders")),
            (headers.subsystem.into(), optional.number("Subsystem")),
            (headers.dll_characteristics.into(), optional.flags("Characteristics")),
            (headers.stack.0, optional.number("SizeOfStackReserve")),
            (headers.stack.1, optional.number("SizeOfStackCommit")),
            (headers.heap.0, optional.number("SizeOfHeapReserve")),
            (headers.heap.1, optional.number("SizeOfHeapCommit")),
            (headers.nt_offset.into(), truth.one("DOSHeader").number("AddressOfNewExeHeader")),
        ];
        for (index, (ours, theirs)) in expected.into_iter().enumerate() {
            assert_eq!(ours, theirs, "{}: field {index}", path.display());
        }
        assert_eq!(headers.os_version, pair("OperatingSystemVersion"));
        assert_eq!(headers.image_version, pair("ImageVersion"));
        assert_eq!(headers.subsystem_version, pair("SubsystemVersion"));
        let flags = [file.text("Machine"), optional.text("Subsystem")];
        assert!(flags[0].starts_with(&headers.machine_name()), "{flags:?}");
        assert!(flags[1].starts_with(&headers.subsystem_name()), "{flags:?}");
        directories(&pe, optional);
        sections(&pe, &truth);
    }
}

fn directories(pe: &Pe, optional: &crate::readobj::Block) {
    let names = [
        "ExportTable",
        "ImportTable",
        "ResourceTable",
        "ExceptionTable",
        "CertificateTable",
        "BaseRelocationTable",
        "Debug",
        "Architecture",
        "GlobalPtr",
        "TLSTable",
        "LoadConfigTable",
        "BoundImport",
        "IAT",
        "DelayImportDescriptor",
        "CLRRuntimeHeader",
        "Reserved",
    ];
    let table = optional.one("DataDirectory");
    let ours: Vec<(u64, u64)> =
        pe.headers().directories.iter().map(|entry| (entry.rva.into(), entry.size.into())).collect();
    let theirs: Vec<(u64, u64)> = names
        .iter()
        .map(|name| (table.number(&format!("{name}RVA")), table.number(&format!("{name}Size"))))
        .collect();
    assert_eq!(ours, theirs);
}

fn sections(pe: &Pe, truth: &crate::readobj::Block) {
    let sections = &pe.headers().sections;
    assert_eq!(sections.cut, None);
    let theirs = truth.all("Section");
    assert_eq!(sections.items.len(), theirs.len());
    for (ours, theirs) in sections.items.iter().zip(theirs) {
        assert_eq!(Some(ours.name.as_str()), theirs.text("Name").split(" (").next());
        assert_eq!(u64::from(ours.virtual_size), theirs.number("VirtualSize"));
        assert_eq!(u64::from(ours.rva), theirs.number("VirtualAddress"));
        assert_eq!(u64::from(ours.raw_size), theirs.number("RawDataSize"));
        assert_eq!(u64::from(ours.raw_offset), theirs.number("PointerToRawData"));
        assert_eq!(u64::from(ours.characteristics), theirs.flags("Characteristics"));
    }
}

/// Ordinal, name and relative address of each export that is one; `llvm-readobj` also lists unused ordinals.
fn exports(pe: &Pe) -> Vec<(u64, String, Option<u64>)> {
    let entries = match pe.exports() {
        Ok(exports) => exports.entries,
        Err(Absent::NotApplicable(_)) => return Vec::new(),
        Err(why) => panic!("{why}"),
    };
    assert_eq!(entries.cut, None);
    let rva = |target: ExportTarget| match target {
        ExportTarget::Rva(rva) => Some(rva.into()),
        ExportTarget::Forwarder(_) => None,
    };
    let row = |export: analyzer::pe::Export| {
        (export.ordinal.unwrap().into(), export.name.unwrap_or_default(), rva(export.target.unwrap()))
    };
    entries.items.into_iter().map(row).collect()
}

#[test]
fn exported_functions() {
    for path in all() {
        let (pe, Some(truth)) = (open(&path), readobj(&path)) else { return };
        let theirs: Vec<_> = truth
            .all("Export")
            .iter()
            .map(|block| (block.number("Ordinal"), block.text("Name").to_owned(), Some(block.number("RVA"))))
            .filter(|(_, name, rva)| !name.is_empty() || *rva != Some(0))
            .collect();
        let ours = exports(&pe);
        assert_eq!(ours.len(), theirs.len(), "{}", path.display());
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            let known = ours.2.or(theirs.2);
            assert_eq!((ours.0, ours.1, known), theirs, "{}", path.display());
        }
    }
}

#[test]
fn forwarders_and_ordinals_are_those_of_the_definition_file() {
    for path in made() {
        let exports = open(path).exports().unwrap();
        assert_eq!(exports.module, Ok(path.file_name().unwrap().to_str().unwrap().to_owned()));
        let find =
            |name: &str| exports.entries.items.iter().find(|export| export.name.as_deref() == Ok(name));
        let away = find("Away").unwrap();
        let Ok(ExportTarget::Forwarder(to)) = &away.target else { panic!("{:?}", away.target) };
        // lld 14 puts the underscore of 32-bit names in front of the module.
        assert_eq!(to.trim_start_matches('_'), "NTDLL.RtlAway");
        assert_eq!(find("Two").unwrap().ordinal, Ok(10));
        assert_eq!(find("One").unwrap().target, find("Uno").unwrap().target);
        let hidden = exports.entries.items.iter().find(|export| export.ordinal == Ok(20)).unwrap();
        assert_eq!(hidden.name, Err(Absent::NotApplicable("exported by ordinal only")));
    }
}

/// Module, and name with hint or ordinal as `llvm-readobj` prints them.
fn imports(pe: &Pe, wanted: ImportKind) -> Vec<(String, Vec<String>)> {
    let modules = pe.imports();
    assert_eq!(modules.cut, None);
    let shown = |by: ImportedBy| match by {
        ImportedBy::Ordinal(ordinal) => format!("({ordinal})"),
        ImportedBy::Name { hint, name } => format!("{name} ({hint})"),
    };
    let kind = modules.items.into_iter().filter(|module| module.kind == wanted);
    kind.map(|module| {
        assert_eq!(module.functions.cut, None);
        let functions = module.functions.items.into_iter().map(|function| shown(function.by.unwrap()));
        (module.name.unwrap(), functions.collect())
    })
    .collect()
}

#[test]
fn imported_functions() {
    for path in all() {
        let (pe, Some(truth)) = (open(&path), readobj(&path)) else { return };
        for (kind, block) in [(ImportKind::Normal, "Import"), (ImportKind::Delay, "DelayImport")] {
            // The functions of a delayed module stand in blocks that are named `Import` too, but name no module.
            let modules = truth.all(block).into_iter().filter(|module| module.texts("Name").next().is_some());
            let theirs: Vec<(String, Vec<String>)> = modules
                .map(|module| {
                    let mut functions: Vec<String> = module.texts("Symbol").map(str::to_owned).collect();
                    for inner in module.all("Import") {
                        functions.extend(inner.texts("Symbol").map(str::to_owned));
                    }
                    (module.text("Name").to_owned(), functions)
                })
                .collect();
            assert_eq!(imports(&pe, kind), theirs, "{}", path.display());
        }
    }
}

#[test]
fn slots_of_imports_are_in_the_address_tables() {
    for path in made() {
        let (pe, Some(truth)) = (open(path), readobj(path)) else { return };
        for module in pe.imports().items {
            let (block, key) = match module.kind {
                ImportKind::Normal => ("Import", "ImportAddressTableRVA"),
                ImportKind::Delay => ("DelayImport", "ImportAddressTable"),
            };
            let first = truth.one(block).number(key);
            let width = if pe.headers().is_64 { 8 } else { 4 };
            let slots: Vec<u64> = module.functions.items.iter().map(|function| function.slot).collect();
            let expected: Vec<u64> = (0..slots.len() as u64).map(|index| first + index * width).collect();
            assert_eq!(slots, expected);
        }
    }
}

#[test]
fn identity_of_the_pdb() {
    for path in all() {
        let (pe, Some(truth)) = (open(&path), readobj(&path)) else { return };
        let Some(theirs) = truth.all("PDBInfo").first().copied() else {
            assert!(pe.rsds().is_err(), "{}", path.display());
            continue;
        };
        let ours = pe.rsds().unwrap();
        let guid: Vec<u8> = theirs
            .text("PDBGUID")
            .trim_matches(['(', ')'])
            .split(' ')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        assert_eq!(ours.id.guid, guid.as_slice());
        assert_eq!(u64::from(ours.id.age), theirs.number("PDBAge"));
        assert_eq!(ours.path, theirs.text("PDBFileName"));
    }
}

fn texts(pe: &Pe) -> Vec<(String, String, String)> {
    let version = pe.version().unwrap();
    assert_eq!(version.strings.cut, None);
    let texts = version.strings.items.into_iter();
    texts.map(|text| (text.language, text.key, text.value)).collect()
}

#[test]
fn version_texts_are_those_of_the_resource_script() {
    for path in made() {
        let pe = open(path);
        let expected = VERSION_TEXTS.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(texts(&pe), expected);
        let fixed = pe.version().unwrap().fixed.unwrap();
        assert_eq!((fixed.file, fixed.product), ([6, 1, 7600, 17273], [6, 1, 7600, 16385]));
        assert_eq!((fixed.flags, fixed.os, fixed.kind), (1, 0x4_0004, 3));
    }
}

/// The module as a loader lays it out, by what `llvm-readobj` says of its sections.
pub(crate) fn loaded(path: &std::path::Path) -> Option<Vec<u8>> {
    let truth = readobj(path)?;
    let file = std::fs::read(path).unwrap();
    let optional = truth.one("ImageOptionalHeader");
    let at = |block: &crate::readobj::Block, key| usize::try_from(block.number(key)).unwrap();
    let mut memory = vec![0; at(optional, "SizeOfImage")];
    let headers = at(optional, "SizeOfHeaders");
    memory[..headers].copy_from_slice(&file[..headers]);
    for section in truth.all("Section") {
        let (from, to) = (at(section, "PointerToRawData"), at(section, "VirtualAddress"));
        // Whole pages of the file are mapped.
        let len = at(section, "RawDataSize").min(at(section, "VirtualSize").next_multiple_of(4096));
        memory[to..to + len].copy_from_slice(&file[from..from + len]);
    }
    Some(memory)
}

#[test]
fn a_mapped_module_says_the_same_as_its_file() {
    const BASE: u64 = 0x40_0000;
    for path in made() {
        let Some(module) = loaded(path) else { return };
        let mut memory = vec![0xcc; usize::try_from(BASE).unwrap()];
        memory.extend(module);
        let (file, mapped) = (open(path), Pe::mapped(&space(memory), BASE).unwrap());
        assert_eq!(file.headers(), mapped.headers());
        assert_eq!(file.exports(), mapped.exports());
        assert_eq!(file.imports(), mapped.imports());
        assert_eq!(file.rsds(), mapped.rsds());
        assert_eq!(file.version(), mapped.version());
        assert_eq!(mapped.address(0x1000), BASE + 0x1000);
    }
}

#[test]
fn an_executable_inside_another_file_is_read_at_its_offset() {
    for path in made() {
        let mut bytes = vec![0x5a; 777];
        bytes.extend(std::fs::read(path).unwrap());
        let (whole, inside) = (open(path), Pe::file(&space(bytes), 777).unwrap());
        assert_eq!(whole.exports(), inside.exports());
        assert_eq!(whole.rsds(), inside.rsds());
        assert_eq!(whole.version(), inside.version());
    }
}
