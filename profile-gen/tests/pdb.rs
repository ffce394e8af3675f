//! PDB conversion against `llvm-pdbutil`, against the original's output, and against damaged files.
//!
//! Reads `pdb/` and `rekall-golden/` below `REKAL_TEST_DATA`, or below the data folder beside the checkout; without
//! them, or without `llvm-pdbutil`, the tests say so and pass.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use profile::{DataModel, Document, Type};
use profile_gen::pdb::{ConvertedPdb, PdbOptions, convert_pdb};

fn data(folder: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from).join(folder)
}

fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// All PDBs of the test data that are meant to be read; empty, with a message, where they are absent.
fn samples() -> Vec<PathBuf> {
    let folders = [data("pdb"), data("rekall-golden").join("inputs")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let mut files: Vec<PathBuf> = files
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pdb"))
        .filter(|path| path.file_name().is_some_and(|name| name != "fuzzed.pdb"))
        .collect();
    if files.is_empty() {
        skipped("no PDBs in the test data");
    }
    files.sort();
    files
}

fn converted(path: &Path) -> ConvertedPdb {
    let bytes = fs::read(path).expect("test data is readable");
    let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let options = PdbOptions { file_name, ..PdbOptions::default() };
    convert_pdb(&bytes, &options).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Output of `llvm-pdbutil dump`; `None`, with a message, where the tool is absent.
fn llvm(option: &str, path: &Path) -> Option<String> {
    match Command::new("llvm-pdbutil").arg("dump").arg(option).arg(path).output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            skipped(&format!("llvm-pdbutil: {error}"));
            None
        }
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after).map_or(rest, |(inside, _)| inside))
}

fn hex(text: &str) -> Option<u32> {
    let digits = text.trim().strip_prefix("0x")?;
    u32::from_str_radix(digits.split([' ', ',', ']']).next()?, 16).ok()
}

/// One record of `llvm-pdbutil dump -types`: leaf, and its text in one line per entry.
struct Record {
    leaf: String,
    text: String,
}

impl Record {
    fn value(&self, key: &str) -> Option<u64> {
        between(&self.text, key, ",")?.split_whitespace().next()?.parse().ok()
    }

    fn index(&self, key: &str) -> Option<u32> {
        hex(between(&self.text, key, "\n")?)
    }

    fn name(&self) -> &str {
        let line = self.text.lines().next().unwrap_or_default();
        let start = line.find('`').map_or(line.len(), |at| at + 1);
        line[start..].strip_suffix('`').unwrap_or_default()
    }
}

fn records(dump: &str) -> BTreeMap<u32, Record> {
    let mut records: BTreeMap<u32, Record> = BTreeMap::new();
    for line in dump.lines() {
        match line.split_once(" | ") {
            Some((index, rest)) if hex(index).is_some() => {
                let leaf = rest.split_whitespace().next().unwrap_or_default().to_owned();
                let record = Record { leaf, text: rest.to_owned() };
                records.insert(hex(index).expect("just parsed"), record);
            }
            _ => {
                if let Some(mut last) = records.last_entry() {
                    last.get_mut().text.push('\n');
                    last.get_mut().text.push_str(line.trim());
                }
            }
        }
    }
    records
}

/// Bytes of a type by the records that llvm-pdbutil prints; `None` for what has no size.
fn llvm_size(records: &BTreeMap<u32, Record>, by_name: &BTreeMap<&str, u64>, index: u32) -> Option<u64> {
    if index < 0x1000 {
        return match (index >> 8, index & 0xff) {
            (0, 0x10 | 0x20 | 0x30 | 0x68..=0x70) => Some(1),
            (0, 0x11 | 0x21 | 0x71..=0x73) => Some(2),
            (4, _) | (0, 0x08 | 0x12 | 0x22 | 0x32 | 0x40 | 0x74 | 0x75) => Some(4),
            (6, _) | (0, 0x13 | 0x23 | 0x41 | 0x76 | 0x77) => Some(8),
            _ => None,
        };
    }
    let record = records.get(&index)?;
    match record.leaf.as_str() {
        "LF_MODIFIER" => llvm_size(records, by_name, record.index("referent = ")?),
        "LF_POINTER" => Some(if record.text.contains("kind = ptr64") { 8 } else { 4 }),
        "LF_ARRAY" => record.value("size: "),
        "LF_ENUM" => match record.index("underlying type: ") {
            Some(underlying) if underlying != 0 => llvm_size(records, by_name, underlying),
            _ => None,
        },
        "LF_STRUCTURE" | "LF_CLASS" | "LF_UNION" if record.text.contains("forward ref") => {
            by_name.get(record.name()).copied()
        }
        "LF_STRUCTURE" | "LF_CLASS" | "LF_UNION" => record.value("sizeof "),
        "LF_BITFIELD" => llvm_size(records, by_name, record.index("type = ")?),
        _ => None,
    }
}

/// Bytes of a type as a reader of the profile sees it.
fn our_size(document: &Document, ty: &Type) -> Option<u64> {
    let model = DataModel::of(&document.metadata);
    match ty {
        Type::Named(name) => match document.structs.get(name) {
            Some(definition) => definition.size,
            None => model.native(name).map(|native| native.size.into()),
        },
        Type::Void | Type::Function(_) => None,
        Type::Pointer(_) => Some(model.pointer_size().into()),
        Type::Pointer32(_) => Some(4),
        Type::Array { count: Some(count), target, .. } => {
            if *count == 0 {
                Some(0)
            } else {
                our_size(document, target).map(|size| size * count)
            }
        }
        Type::Array { size, .. } => *size,
        Type::BitField { target, .. } | Type::Enumeration { target, .. } => {
            our_size(document, target.as_deref()?)
        }
        Type::Other { args, .. } => args.get("length")?.as_u64().map(|length| length * 2),
    }
}

/// First bit and one past the last, where the type is a bit-field.
fn bits(ty: &Type) -> Option<(u32, u32)> {
    match ty {
        Type::BitField { start, end, .. } => Some((*start, *end)),
        Type::Enumeration { target: Some(target), .. } => bits(target),
        _ => None,
    }
}

/// A member as llvm-pdbutil shows it: type index and offset in bytes.
type Member = (u32, i64);

/// Members of a list and of its continuations; the first of a name counts.
fn members(records: &BTreeMap<u32, Record>, list: u32) -> BTreeMap<String, Member> {
    let mut out = BTreeMap::new();
    let Some(record) = records.get(&list) else { return out };
    for line in record.text.lines().filter(|line| line.starts_with("- LF_MEMBER ")) {
        let name = between(line, "name = `", "`, Type = ").expect("a member has a name");
        let ty = hex(between(line, "`, Type = ", ",").expect("a type")).expect("an index");
        let offset = between(line, ", offset = ", ",").expect("an offset").parse().expect("a number");
        out.entry(name.to_owned()).or_insert((ty, offset));
    }
    for line in record.text.lines().filter(|line| line.contains("LF_INDEX")) {
        let next = line.rsplit(' ').find_map(hex).expect("a continuation has an index");
        for (name, member) in members(records, next) {
            out.entry(name).or_insert(member);
        }
    }
    out
}

/// What is wrong with our struct `ours` as the one llvm-pdbutil shows; `None` where they agree.
fn difference(
    document: &Document,
    ours: &str,
    size: u64,
    expected: &BTreeMap<String, Member>,
    has_bases: bool,
    (records, by_name): (&BTreeMap<u32, Record>, &BTreeMap<&str, u64>),
) -> Option<String> {
    let definition = &document.structs[ours];
    if definition.size != Some(size) {
        return Some(format!("size {:?}, not {size}", definition.size));
    }
    if !has_bases && definition.fields.len() != expected.len() {
        return Some(format!("{} members, not {}", definition.fields.len(), expected.len()));
    }
    for (name, &(ty, offset)) in expected {
        let Some(field) = definition.fields.get(name) else { return Some(format!("no {name}")) };
        if field.offset != offset {
            return Some(format!("{name} at {}, not {offset}", field.offset));
        }
        let record = records.get(&ty).filter(|record| record.leaf == "LF_BITFIELD");
        let expected_bits = record.map(|record| {
            let start = record.value("bit offset = ").expect("a first bit");
            let length = record.value("# bits = ").expect("a length");
            (u32::try_from(start).expect("small"), u32::try_from(start + length).expect("small"))
        });
        if bits(&field.ty) != expected_bits {
            return Some(format!("bits of {name}: {:?}, not {expected_bits:?}", field.ty));
        }
        let expected_size = llvm_size(records, by_name, ty);
        let size = our_size(document, &field.ty);
        if expected_size.is_some() && size != expected_size {
            return Some(format!("{name} is {:?} of {size:?} bytes, not {expected_size:?}", field.ty));
        }
    }
    None
}

/// Names of ours that may stand for a name of the file: itself and those told apart from it.
fn candidates<'d, V>(map: &'d BTreeMap<String, V>, name: &str) -> Vec<&'d String> {
    let apart = format!("{name}@");
    map.keys().filter(|key| *key == name || key.starts_with(&apart)).collect()
}

#[test]
fn every_struct_member_and_bit_field_agrees_with_llvm() {
    for path in samples() {
        let Some(dump) = llvm("-types", &path) else { return };
        let records = records(&dump);
        let document = converted(&path).document;
        let definitions = || {
            records.iter().filter(|(_, record)| {
                matches!(record.leaf.as_str(), "LF_STRUCTURE" | "LF_CLASS" | "LF_UNION")
                    && !record.text.contains("forward ref")
            })
        };
        let mut by_name = BTreeMap::new();
        for (_, record) in definitions() {
            by_name.entry(record.name()).or_insert(record.value("sizeof ").expect("a size"));
        }
        let mut checked = 0;
        for (index, record) in definitions() {
            let list = record.index("field list: ").unwrap_or(0);
            let expected = members(&records, list);
            let entries = records.get(&list).map_or("", |list| list.text.as_str());
            let has_bases = entries.contains("- LF_BCLASS");
            let name = match record.name() {
                "<unnamed-tag>" => format!("<unnamed-{index}>"),
                "__unnamed" => format!("__unnamed_{list}"),
                name => name.to_owned(),
            };
            let size = record.value("sizeof ").expect("a size");
            let known = (&records, &by_name);
            let differences: Vec<String> = candidates(&document.structs, &name)
                .into_iter()
                .map_while(|ours| difference(&document, ours, size, &expected, has_bases, known))
                .collect();
            let candidates = candidates(&document.structs, &name).len();
            assert!(differences.len() < candidates, "{}: {index:#x} {name}: {differences:?}", path.display());
            checked += 1;
        }
        assert!(checked >= 2, "{}: only {checked} structs", path.display());
    }
}

#[test]
fn every_enum_value_agrees_with_llvm() {
    for path in samples() {
        let Some(dump) = llvm("-types", &path) else { return };
        let records = records(&dump);
        let document = converted(&path).document;
        for (index, record) in &records {
            if record.leaf != "LF_ENUM" || record.text.contains("forward ref") {
                continue;
            }
            let size = llvm_size(&records, &BTreeMap::new(), *index).expect("an enum has a size");
            let mask = (1_i128 << (size * 8)) - 1;
            let list = record.index("field list: ").unwrap_or(0);
            let expected: BTreeMap<&str, i128> = records
                .get(&list)
                .map_or("", |list| list.text.as_str())
                .lines()
                .filter_map(|line| {
                    line.strip_prefix("- LF_ENUMERATE [")?.strip_suffix(']')?.split_once(" = ")
                })
                .map(|(name, value)| (name, value.parse::<i128>().expect("a number") & mask))
                .collect();
            // Nameless enums are named by their place in the stream.
            let candidates = match record.name() {
                "<unnamed-tag>" => document.enums.keys().filter(|key| key.starts_with("ENUM_")).collect(),
                name => candidates(&document.enums, name),
            };
            let agrees = candidates.iter().any(|name| {
                let values = &document.enums[*name].values;
                values.len() == expected.len()
                    && values.iter().all(|(name, value)| expected.get(name.as_str()) == Some(&(value & mask)))
            });
            assert!(agrees, "{}: {} is none of {candidates:?}", path.display(), record.name());
        }
    }
}

/// A public symbol of llvm-pdbutil: decorated name, section, offset, whether it is a function.
fn llvm_publics(dump: &str) -> Vec<(String, usize, u64, bool)> {
    let mut out = Vec::new();
    let mut lines = dump.lines();
    while let Some(line) = lines.next() {
        let Some(name) = between(line, "S_PUB32 [size = ", "\n").and_then(|rest| rest.split_once("] `"))
        else {
            continue;
        };
        let name = name.1.strip_suffix('`').expect("a closing quote").to_owned();
        let place = lines.next().expect("a symbol has a place");
        let (section, offset) =
            between(place, "addr = ", "\n").and_then(|addr| addr.trim().split_once(':')).expect("an address");
        let flags = between(place, "flags = ", ", addr").expect("flags");
        out.push((
            name,
            section.parse().expect("a section"),
            offset.parse().expect("an offset"),
            flags.contains("function"),
        ));
    }
    out
}

fn llvm_sections(dump: &str) -> Vec<u64> {
    let lines = dump.lines().filter_map(|line| line.trim().strip_suffix(" virtual address"));
    lines.map(|address| u64::from_str_radix(address, 16).expect("hex")).collect()
}

/// Pairs of the table that llvm-pdbutil calls `name`.
fn omap(path: &Path, name: &str) -> Option<Vec<(u64, u64)>> {
    let streams = llvm("-streams", path)?;
    let line = streams.lines().find(|line| line.contains(name))?;
    let number = between(line, "Stream ", "(")?.trim();
    let file = tempfile::NamedTempFile::new().expect("a scratch file");
    let status = Command::new("llvm-pdbutil")
        .arg("export")
        .arg(format!("-stream={number}"))
        .arg(format!("-out={}", file.path().display()))
        .arg(path)
        .output();
    assert!(status.is_ok_and(|output| output.status.success()), "{}: cannot export", path.display());
    let bytes = fs::read(file.path()).expect("just written");
    let word = |bytes: &[u8]| u64::from(u32::from_le_bytes(bytes.try_into().expect("4 bytes")));
    Some(bytes.chunks_exact(8).map(|pair| (word(&pair[..4]), word(&pair[4..]))).collect())
}

/// The greatest source at or below the address decides; `None` where the code was removed.
fn through(omap: &[(u64, u64)], address: u64) -> Option<u64> {
    let (source, target) = omap.iter().rev().find(|(source, _)| *source <= address)?;
    (*target != 0 && *target < 0x8000_0000).then(|| address - source + target)
}

#[test]
fn every_public_symbol_agrees_with_llvm_and_omap() {
    for path in samples() {
        let (Some(publics), Some(sections)) = (llvm("-publics", &path), llvm("-section-headers", &path))
        else {
            return;
        };
        let sections = llvm_sections(&sections);
        let moved = omap(&path, "Omap From Source");
        let back = omap(&path, "Omap To Source");
        let ConvertedPdb { document, report } = converted(&path);
        let x86 = document.metadata["arch"] == "I386";
        let mut ours: BTreeMap<(u64, bool), Vec<&str>> = BTreeMap::new();
        for (function, table) in [(false, &document.constants), (true, &document.functions)] {
            for (name, address) in table {
                ours.entry((*address, function)).or_default().push(name);
            }
        }
        let publics = llvm_publics(&publics);
        assert_eq!(report.publics, publics.len(), "{}", path.display());
        let (mut placed, mut left_out) = (0, 0);
        for (decorated, section, offset, function) in publics {
            let compiled = section.checked_sub(1).and_then(|at| sections.get(at)).map(|start| start + offset);
            let address = match (&moved, compiled) {
                (Some(moved), Some(compiled)) => through(moved, compiled),
                (_, compiled) => compiled,
            };
            let Some(address) = address else {
                left_out += 1;
                continue;
            };
            // The two tables are written independently: back again is where it came from.
            if let (Some(back), true) = (&back, function) {
                assert_eq!(through(back, address), compiled, "{}: {decorated}", path.display());
            }
            let plain = match decorated.as_str() {
                name if name.starts_with("??_C@") => "str:",
                name if name.starts_with("??") => name,
                name if name.starts_with('?') => between(name, "?", "@").expect("a C++ name"),
                name if x86 => {
                    let stem = name.rsplit_once('@').filter(|(_, bytes)| bytes.parse::<u8>().is_ok());
                    let stem = stem.map_or(name, |(stem, _)| stem);
                    stem.strip_prefix(['_', '@']).unwrap_or(stem)
                }
                name => name,
            };
            let names = ours.get(&(address, function)).map_or(&[][..], Vec::as_slice);
            let names_it = |name: &&str| {
                let rest = name.strip_prefix(plain);
                rest.is_some_and(|rest| plain == "str:" || rest.is_empty() || rest.starts_with('_'))
            };
            assert!(
                names.iter().any(names_it),
                "{}: {decorated} at {address:#x} is none of {names:?}",
                path.display()
            );
            placed += 1;
        }
        assert_eq!(report.removed + report.without_section, left_out, "{}", path.display());
        assert!(report.symbols <= placed, "{}: symbols from nowhere", path.display());
    }
}

#[test]
fn nothing_in_the_samples_is_unknown_or_damaged() {
    for path in samples() {
        let report = converted(&path).report;
        assert!(report.unknown_leaves.is_empty(), "{}: {report:?}", path.display());
        assert_eq!(report.damaged_records, 0, "{}: {report:?}", path.display());
        assert!(report.warnings.is_empty(), "{}: {report:?}", path.display());
        assert!(!report.arguments_cut && !report.hoisting_cut, "{}: {report:?}", path.display());
    }
}

/// Whether our type is the original's, apart from its listed defects.
fn agrees(ours: &Type, theirs: &Type) -> bool {
    match (ours, theirs) {
        (Type::Named(ours), Type::Named(theirs)) => {
            ours == theirs
                || (ours == "char" && theirs == "unsigned char")
                // Other names of the same integers, which the original used behind pointers.
                || (ours == "long" && theirs == "int")
                || (ours == "unsigned long" && theirs == "unsigned int")
                || ours.split('@').next() == Some(theirs)
        }
        // The original's pointers to `float` and `double` point to nothing.
        (Type::Pointer(ours), Type::Pointer(theirs)) => {
            let float = matches!(&**ours, Type::Named(name) if name == "float" || name == "double");
            agrees(ours, theirs) || (float && **theirs == Type::Void)
        }
        // Counts of arrays of pointers were wrong on x86; arrays of arrays and enums had sizes.
        (Type::Array { target: ours, count, .. }, Type::Array { target: theirs, count: known, .. }) => {
            let pointers = matches!(**ours, Type::Pointer(_));
            agrees(ours, theirs) && (known.is_none() || pointers || count == known)
        }
        (Type::BitField { start, end, target }, Type::BitField { start: s, end: e, target: t }) => {
            (start, end) == (s, e)
                && target.as_ref().zip(t.as_ref()).is_some_and(|(ours, theirs)| agrees(ours, theirs))
        }
        // Enums in bit-fields were written inside out.
        (Type::Enumeration { name, .. }, Type::BitField { start, end, target: Some(theirs) }) => {
            bits(ours) == Some((*start, *end))
                && matches!(&**theirs, Type::Enumeration { name: known, .. } if known == name)
        }
        // The integer behind every enum was `long`.
        (Type::Enumeration { name, .. }, Type::Enumeration { name: known, .. }) => name == known,
        // Function arguments were lost.
        (Type::Function(ours), Type::Function(theirs)) => ours.len() >= theirs.len(),
        _ => ours == theirs,
    }
}

#[test]
fn the_original_agrees_except_for_its_defects() {
    let golden = data("rekall-golden");
    if !golden.is_dir() {
        return skipped("no files of the original");
    }
    for name in ["types_x64", "types_x86"] {
        let document = converted(&golden.join("inputs").join(format!("{name}.pdb"))).document;
        let text = fs::read_to_string(golden.join("outputs").join(format!("{name}.160.json")));
        let theirs = profile::Profile::parse_text(text.expect("test data is readable")).expect("a profile");
        let theirs = theirs.to_document().expect("a document");
        for (ours, theirs) in
            [(&document.constants, &theirs.constants), (&document.functions, &theirs.functions)]
        {
            let stripped = |name: &str| name.strip_prefix('_').unwrap_or(name).to_owned();
            let ours: BTreeSet<_> = ours.iter().map(|(name, at)| (stripped(name), *at)).collect();
            let theirs: BTreeSet<_> = theirs.iter().map(|(name, at)| (stripped(name), *at)).collect();
            assert_eq!(ours, theirs, "{name}");
        }
        for key in ["GUID_AGE", "PDBFile", "Timestamp", "Type", "Version"] {
            assert_eq!(document.metadata.get(key), theirs.metadata.get(key), "{name}: {key}");
        }
        assert_eq!(
            document.enums.keys().collect::<Vec<_>>(),
            theirs.enums.keys().collect::<Vec<_>>(),
            "{name}"
        );
        for (enumeration, table) in &theirs.enums {
            for (label, value) in &table.values {
                let ours = document.enums[enumeration].values[label];
                assert_eq!(ours & 0xffff_ffff, value & 0xffff_ffff, "{name}: {enumeration} {label}");
            }
        }
        assert_eq!(document.enums["color"].values["NEG"], -3, "{name}");
        for (structure, definition) in &theirs.structs {
            // Different types of that name were merged into one.
            if structure.contains("<unnamed-tag>") {
                continue;
            }
            let ours = &document.structs[structure];
            assert_eq!(ours.size, definition.size, "{name}: {structure}");
            for (member, field) in definition.fields.iter().filter(|(member, _)| !member.is_empty()) {
                let our = &ours.fields[member];
                assert_eq!(our.offset, field.offset, "{name}: {structure}.{member}");
                assert!(
                    agrees(&our.ty, &field.ty),
                    "{name}: {structure}.{member}: {:?} {:?}",
                    our.ty,
                    field.ty
                );
            }
        }
    }
}

#[test]
fn equally_named_types_are_told_apart() {
    let golden = data("rekall-golden").join("inputs");
    if !golden.is_dir() {
        return skipped("no files of the original");
    }
    let document = converted(&golden.join("types_x64.pdb")).document;
    let nested = &document.structs["nested"].fields;
    let Type::Named(pte) = &nested["pte"].ty else { panic!("pte is {:?}", nested["pte"].ty) };
    let members: Vec<&str> = document.structs[pte].fields.keys().map(String::as_str).collect();
    assert_eq!(members, ["high", "low", "mid", "raw"]);
    assert!(document.structs.contains_key("nested::<unnamed-tag>@1"));
    let arrays = &document.structs["arrays"].fields;
    assert_eq!(arrays["matrix"].ty, Type::array(3, Type::array(4, Type::named("long"))));
    assert_eq!(arrays["ptrs"].ty, Type::array(6, Type::pointer(Type::named("list_node"))));
}

#[test]
fn damaged_files_end_as_errors_or_reports() {
    let fuzzed = data("pdb").join("fuzzed.pdb");
    let Ok(bytes) = fs::read(&fuzzed) else { return skipped("no damaged PDB in the test data") };
    let _ = convert_pdb(&bytes, &PdbOptions::default());
    let small = fs::read(data("rekall-golden").join("inputs/types_x64.pdb")).expect("test data is readable");
    // A fixed sequence, so a failure can be repeated (xorshift).
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("below a usize")
    };
    let (mut good, mut bad) = (0, 0);
    for _ in 0..10_000 {
        let mut copy = small.clone();
        if random(10) == 0 {
            copy.truncate(random(small.len()));
        }
        for _ in 0..=random(8) {
            let at = random(copy.len().max(1));
            // Half of the damage goes where numbers of pages and streams are.
            let at = if random(2) == 0 { at % 0x1000 } else { at };
            if let Some(byte) = copy.get_mut(at) {
                *byte = u8::try_from(random(256)).expect("a byte");
            }
        }
        match convert_pdb(&copy, &PdbOptions::default()) {
            Ok(_) => good += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                bad += 1;
            }
        }
    }
    assert!(good > 1000 && bad > 500, "{good} read, {bad} refused");
}

#[test]
fn files_of_other_kinds_are_named() {
    for (bytes, what) in [
        (&b"MSCF...."[..], "cabinet"),
        (b"MZ......", "executable"),
        (b"BSJB....", "portable"),
        (b"Microsoft C/C++ program database 2.00\r\n\x1aJG", "2.00"),
        (b"", "empty"),
        (b"<html>", "something else"),
    ] {
        let error = convert_pdb(bytes, &PdbOptions::default()).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
    }
    let mut header = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0".to_vec();
    header.extend([0, 16, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]);
    let error = convert_pdb(&header, &PdbOptions::default()).expect_err("truncated");
    assert!(error.to_string().contains("truncated"), "{error}");
}
