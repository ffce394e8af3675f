//! Real kernels against truths we did not make: pahole's reading of their BTF, and their symbol tables.
//!
//! Kernels come from the guest lab (`tools/guest-image`), pahole from the package `dwarves`; without them the tests say
//! so and pass. What is compared: size of every struct, place of every member, offset and width of every bit-field; DWARF
//! against BTF type by type; types of globals against the sizes in the symbol table; `System.map` against that table.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a test, helpers included")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use profile::{DataModel, Document, Struct, Type};
use profile_gen::{Converted, LinuxOptions, convert_linux};

/// Folders of kernels in the lab: (release, folder).
fn kernels() -> Vec<(String, PathBuf)> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let lab = variable("GUEST_LAB").unwrap_or_else(|| {
        let cache =
            variable("XDG_CACHE_HOME").unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".cache"));
        cache.join("rekal-guest-lab")
    });
    let folders = std::fs::read_dir(lab.join("build/k")).map(|dir| dir.flatten().collect::<Vec<_>>());
    let mut kernels: Vec<(String, PathBuf)> = folders
        .unwrap_or_default()
        .into_iter()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(release, folder)| vmlinux(release, folder).is_file() && btf(folder).is_file())
        .collect();
    kernels.sort();
    if kernels.is_empty() {
        println!("skipped: no kernels in the lab; tools/guest-image makes it: {}", lab.display());
    }
    kernels
}

fn vmlinux(release: &str, folder: &Path) -> PathBuf {
    folder.join("usr/lib/debug/boot").join(format!("vmlinux-{release}"))
}

fn btf(folder: &Path) -> PathBuf {
    folder.join("vmlinux.btf")
}

fn convert_btf(release: &str, folder: &Path) -> Converted {
    let map = folder.join("usr/lib/debug/boot").join(format!("System.map-{release}"));
    let options = LinuxOptions { system_map: Some(map), ..LinuxOptions::default() };
    convert_linux(&btf(folder), &options).expect("the kernel's BTF converts")
}

/// A member as pahole prints it: byte offset, or first bit and width.
#[derive(Debug, PartialEq)]
enum Place {
    Byte(i64),
    Bits(i64, i64),
}

/// Structs by name; a name may be printed more than once: (size, members).
type Printed = BTreeMap<String, Vec<(u64, Vec<(String, Place)>)>>;

/// Parses pahole's C-like text.
fn parse_pahole(text: &str) -> Printed {
    let mut structs = Printed::new();
    let mut name = String::new();
    let mut size = None;
    // Members of the open blocks, the struct itself first; `None` for an enum in place.
    let mut open: Vec<Option<Vec<(String, Place)>>> = Vec::new();
    for line in text.lines() {
        let code = without_attributes(line.split("/*").next().unwrap_or_default());
        let code = code.trim();
        let words: Vec<&str> = code.split_whitespace().collect();
        if open.is_empty() {
            if let ["struct" | "union", tag, "{"] = words.as_slice() {
                name = (*tag).to_owned();
                size = None;
                open.push(Some(Vec::new()));
            }
        } else if code.ends_with('{') {
            open.push((words.first() != Some(&"enum")).then(Vec::new));
        } else if let Some(rest) = code.strip_prefix('}') {
            let block = open.pop().unwrap_or_default();
            match (open.last_mut(), block, member(rest, line)) {
                // `} name;`: a member of its own. `};`: an anonymous one, whose members belong to the outer struct.
                (Some(Some(outer)), _, Some(member)) => outer.push(member),
                (Some(Some(outer)), Some(inner), None) => outer.extend(inner),
                (None, Some(members), _) => {
                    structs.entry(name.clone()).or_default().extend(size.map(|size| (size, members)));
                }
                _ => {}
            }
        } else if let Some(rest) = line.trim().strip_prefix("/* size: ") {
            if open.len() == 1 {
                size = rest.split(',').next().and_then(|number| number.parse().ok());
            }
        } else if let Some(Some(members)) = open.last_mut() {
            members.extend(member(code, line));
        }
    }
    structs
}

/// Code without `__attribute__((...))`.
fn without_attributes(code: &str) -> String {
    match code.split_once("__attribute__((") {
        Some((before, after)) => {
            // Arguments of attributes are numbers in parentheses: the group ends at the last pair before other text.
            let end = after.find(")))").map(|at| at + 3).or_else(|| after.find("))").map(|at| at + 2));
            before.to_owned() + &without_attributes(&after[end.unwrap_or(after.len())..])
        }
        None => code.to_owned(),
    }
}

/// `type name[2]:3; /* offset:bit size */`; `None` for what has no name or no place.
fn member(code: &str, line: &str) -> Option<(String, Place)> {
    let comment: Vec<&str> = line.rsplit_once("/*")?.1.trim_end_matches("*/").split([' ', ':']).collect();
    let numbers: Vec<i64> =
        comment.iter().filter(|word| !word.is_empty()).filter_map(|n| n.parse().ok()).collect();
    let code = code.trim().trim_end_matches(';').trim();
    let identifier = |text: &str| {
        let name = text.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?;
        (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then(|| name.to_owned())
    };
    if let Some((_, call)) = code.split_once("(*") {
        return Some((identifier(call.split([')', '[']).next()?)?, Place::Byte(*numbers.first()?)));
    }
    if let Some((declaration, width)) = code.rsplit_once(':') {
        let (&[byte, bit, ..], Ok(width)) = (numbers.as_slice(), width.trim().parse()) else { return None };
        return Some((identifier(declaration.trim())?, Place::Bits(byte * 8 + bit, width)));
    }
    Some((identifier(code.split('[').next()?.trim())?, Place::Byte(*numbers.first()?)))
}

fn place(record: &Struct, name: &str) -> Option<Place> {
    let field = record.fields.get(name)?;
    let bits = match &field.ty {
        Type::Enumeration { target: Some(target), .. } => target.as_ref(),
        ty => ty,
    };
    Some(match bits {
        Type::BitField { start, end, .. } => {
            Place::Bits(field.offset * 8 + i64::from(*start), i64::from(end - start))
        }
        _ => Place::Byte(field.offset),
    })
}

/// All definitions of a name: the plain one and `name@1`, ...
fn variants<'a>(document: &'a Document, name: &str) -> Vec<&'a Struct> {
    let others = (1..).map(|n| document.structs.get(&format!("{name}@{n}"))).map_while(|found| found);
    document.structs.get(name).into_iter().chain(others).collect()
}

#[test]
fn every_struct_and_member_is_where_pahole_sees_it() {
    for (release, folder) in kernels() {
        let Ok(output) = Command::new("pahole").args(["-F", "btf"]).arg(btf(&folder)).output() else {
            println!("skipped: pahole is not installed (apt-get install dwarves)");
            return;
        };
        let truth = parse_pahole(&String::from_utf8_lossy(&output.stdout));
        let document = convert_btf(&release, &folder).document;
        let (mut members, mut wrong) = (0, Vec::new());
        for (name, printed) in &truth {
            for (size, expected) in printed {
                let matches = |record: &&Struct| {
                    record.size == Some(*size)
                        && expected.iter().all(|(member, at)| place(record, member).as_ref() == Some(at))
                };
                members += expected.len();
                if !variants(&document, name).iter().any(matches) {
                    wrong.push((name, size, expected));
                }
            }
        }
        println!("{release}: {} structs, {members} members", truth.len());
        assert!(truth.len() > 5000 && members > 40_000, "{release}: pahole's text was not understood");
        assert!(wrong.is_empty(), "{release}: {wrong:?}");
    }
}

/// The element and the number of all elements of an array: BTF does not keep dimensions apart.
fn flattened(ty: &Type) -> Type {
    match ty {
        Type::Array { count: Some(outer), target, .. } => match flattened(target) {
            Type::Array { count: Some(inner), target, .. } => {
                Type::Array { count: Some(outer * inner), size: None, target }
            }
            element => Type::array(*outer, element),
        },
        Type::Pointer(target) => Type::pointer(flattened(target)),
        other => other.clone(),
    }
}

/// One kernel only: reading 600 MB takes a while without optimisation.
#[test]
fn dwarf_btf_and_the_module_zip_of_a_kernel_agree() {
    let Some((release, folder)) = kernels().into_iter().next() else { return };
    let kernel = vmlinux(&release, &folder);
    let dwarf = convert_linux(&kernel, &LinuxOptions::default()).expect("vmlinux converts");
    let btf = convert_btf(&release, &folder);
    for converted in [&dwarf, &btf] {
        assert!(converted.report.usable && converted.report.missing.is_empty(), "{}", converted.report);
    }
    assert_eq!(dwarf.document.constants, btf.document.constants);
    // Names with several layouts may be numbered differently, and anonymous names follow the contents.
    let comparable =
        |name: &str| !name.starts_with("__unnamed_") && variants(&dwarf.document, name).len() == 1;
    let mut compared = 0;
    for (name, ours) in
        dwarf.document.structs.iter().filter(|(name, _)| comparable(name) && !name.contains('@'))
    {
        let other = btf.document.structs.get(name).unwrap_or_else(|| panic!("BTF lacks {name}"));
        assert_eq!(ours.size, other.size, "{name}");
        let flat = |record: &Struct| -> Vec<(String, i64, String)> {
            let fields = record.fields.iter().filter(|(member, _)| !is_anonymous(member));
            fields.map(|(m, f)| (m.clone(), f.offset, plain(&flattened(&f.ty)))).collect()
        };
        assert_eq!(flat(ours), flat(other), "{name}");
        compared += 1;
    }
    println!("{release}: {compared} structs agree between DWARF and BTF");
    assert!(compared > 6000, "{compared}");
    globals_are_as_large_as_their_symbols(&kernel, &dwarf.document);

    let zip = folder.join(format!("../../../zips/{release}-dwarf5.zip"));
    if !zip.is_file() {
        println!("skipped: no module zip: {}", zip.display());
        return;
    }
    let zip = convert_linux(&zip, &LinuxOptions::default()).expect("the module zip converts");
    assert!(zip.report.usable, "{}", zip.report);
    // Structs that kernel sources keep to themselves are declared again by the module, as far as it needs them.
    let shared: Vec<&String> =
        zip.document.structs.keys().filter(|n| dwarf.document.structs.contains_key(*n)).collect();
    let differ: Vec<&&String> =
        shared.iter().filter(|name| zip.document.structs[**name] != dwarf.document.structs[**name]).collect();
    println!("{release}: {} structs of the module, {} redeclared: {differ:?}", shared.len(), differ.len());
    assert!(shared.len() > 2000 && differ.len() < 10, "{differ:?}");
}

/// The linker's symbol table knows how large every object is.
fn globals_are_as_large_as_their_symbols(kernel: &Path, document: &Document) {
    let Ok(output) = Command::new("nm").arg("--print-size").arg(kernel).output() else {
        println!("skipped: nm is not installed (apt-get install binutils)");
        return;
    };
    let model = DataModel::of(&document.metadata);
    let (mut compared, mut wrong) = (0, Vec::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let [address, size, _, name] = line.split_whitespace().collect::<Vec<_>>()[..] else { continue };
        let number = |hex| u64::from_str_radix(hex, 16).expect("nm prints hex");
        let Some(ty) = document.constant_types.get(name) else { continue };
        // Of several objects of one name the profile has one.
        if document.constants.get(name) != Some(&number(address)) {
            continue;
        }
        compared += 1;
        let ours = size_of(ty, document, model);
        if ours != Some(number(size)) {
            wrong.push((name.to_owned(), ours, number(size)));
        }
    }
    println!("{compared} of {} typed globals have a size in the symbol table", document.constant_types.len());
    // Larger than its type is what ends in a flexible array or is declared without its length; the linker's script and
    // assembler define a few things otherwise than C declares them.
    println!("{} differ: {wrong:?}", wrong.len());
    let smaller = wrong.iter().filter(|(_, ours, size)| ours.is_none_or(|ours| ours > *size)).count();
    assert!(compared > 15_000 && wrong.len() < 50 && smaller < 3, "{compared} {wrong:?}");
}

fn size_of(ty: &Type, document: &Document, model: DataModel) -> Option<u64> {
    match ty {
        Type::Named(name) => match model.native(name) {
            Some(native) => Some(u64::from(native.size)),
            None => document.structs.get(name)?.size,
        },
        Type::Pointer(_) => Some(u64::from(model.pointer_size())),
        Type::Array { count, target, .. } => Some((*count)? * size_of(target, document, model)?),
        Type::Enumeration { target, .. } => size_of(target.as_deref()?, document, model),
        _ => None,
    }
}

/// `u1`, `u2`, ...: named after their contents, which BTF flattens.
fn is_anonymous(member: &str) -> bool {
    member.strip_prefix('u').is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A type as text, names of several layouts and of anonymous types without what tells them apart.
fn plain(ty: &Type) -> String {
    let text = ty.to_json().to_string();
    let mut out = String::new();
    for word in text.split_inclusive('"') {
        let name = word.trim_end_matches('"');
        out.push_str(if name.starts_with("__unnamed_") {
            "anonymous"
        } else {
            name.split('@').next().unwrap_or(name)
        });
    }
    out
}

#[test]
fn the_symbol_table_of_a_kernel_gives_what_system_map_gives() {
    for (release, folder) in kernels().into_iter().take(1) {
        let kernel = vmlinux(&release, &folder);
        let alone = tempfile::tempdir().unwrap();
        let copy = alone.path().join("vmlinux");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&kernel, &copy).unwrap();
        let own = convert_linux(&copy, &LinuxOptions::default()).expect("converts");
        let listed = convert_btf(&release, &folder);
        assert_eq!(own.document.constants, listed.document.constants, "{release}");
    }
}
