//! Every struct size, member offset, bit-field, enum value and public symbol against `llvm-pdbutil`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use profile::{DataModel, Document, Type};
use profile_gen::pdb::ConvertedPdb;

use crate::{bits, converted, data, samples, skipped};

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

/// Where code is that the one table puts nowhere, by the other table (final, compiled): the greatest compiled address at or
/// below decides, the last final one where several have it.
fn in_reverse(omap: &[(u64, u64)], back: &[(u64, u64)], address: u64) -> Option<u64> {
    let (_, target) = omap.iter().rev().find(|(source, _)| *source <= address)?;
    let valid = back.iter().filter(|(to, from)| *to != 0 && *from != 0 && (*to | *from) < 0x8000_0000);
    let (to, from) = valid.filter(|(_, from)| *from <= address).max_by_key(|(to, from)| (*from, *to))?;
    (*target >= 0x8000_0000).then(|| address - from + to)
}

/// Functions of the samples whose code was moved, as Breakpad's `dump_syms` found them by Microsoft's own library
/// (`src/tools/windows/dump_syms/testdata/*.sym` of google/breakpad).
#[test]
fn moved_functions_are_where_microsofts_library_finds_them() {
    const NAMES: [&str; 6] = ["main", "mainCRTStartup", "_heap_init", "atexit", "_onexit", "_SEH_prolog4"];
    const FOUND: [(&str, [u64; 6]); 4] = [
        ("omap_reorder_funcs", [0x41e2, 0x2104, 0x252f, 0x3ec0, 0x5114, 0x1c7a]),
        ("omap_reorder_bbs", [0x2cec, 0x620c, 0x472c, 0x56a4, 0x157b, 0x503b]),
        ("omap_stretched", [0x1000, 0x132c, 0x2a6e, 0x3958, 0x391c, 0x2a8c]),
        ("omap_stretched_filled", [0x1000, 0x132c, 0x2a6e, 0x3958, 0x391c, 0x2a8c]),
    ];
    for (sample, addresses) in FOUND {
        let path = data("pdb").join(format!("{sample}.pdb"));
        if !path.is_file() {
            skipped("no PDBs in the test data");
            return;
        }
        let functions = converted(&path).document.functions;
        let ours =
            NAMES.map(|name| functions.get(name).or_else(|| functions.get(name.trim_start_matches('_'))));
        assert_eq!(ours.map(Option::<&u64>::copied), addresses.map(Some), "{sample}");
    }
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
            let direct = match (&moved, compiled) {
                (Some(moved), Some(compiled)) => through(moved, compiled),
                (_, compiled) => compiled,
            };
            let reverse = || in_reverse(moved.as_ref()?, back.as_ref()?, compiled?);
            let address = direct.or_else(reverse);
            let Some(address) = address else {
                left_out += 1;
                continue;
            };
            // The two tables are written independently: back again is where it came from.
            if let (Some(back), true) = (&back, function && direct.is_some()) {
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
