use super::*;
use profile::{Field, Type};
use std::io::Write as _;

/// What the original made of modules, and the modules; absent on most machines.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/rekall-golden");

fn golden(name: &str) -> Option<Converted> {
    let path = Path::new(GOLDEN).join("inputs").join(name);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(convert_linux(&path, &LinuxOptions::default()).expect("the golden input converts"))
}

fn field(converted: &Converted, record: &str, name: &str) -> Field {
    converted.document.structs[record].fields[name].clone()
}

fn bits(start: u32, end: u32, target: &str) -> Type {
    Type::BitField { start, end, target: Some(Box::new(Type::named(target))) }
}

fn enumeration(name: &str, target: Type) -> Type {
    Type::Enumeration {
        name: Some(name.to_owned()),
        choices: Default::default(),
        target: Some(Box::new(target)),
    }
}

/// Layouts of `types.c`, from its source and the x86-64 ABI (offsets confirmed with `readelf --debug-dump=info`).
#[test]
fn every_compiler_and_dwarf_version_gives_the_layout_of_the_source() {
    for name in ["linux_x64_dwarf4.zip", "linux_x64_dwarf5.zip", "linux_x64_clang_dwarf4.zip"] {
        let Some(converted) = golden(name) else { return };
        let is = |record: &str, member: &str, offset: i64, ty: Type| {
            assert_eq!(field(&converted, record, member), Field { offset, ty }, "{name}: {record}.{member}");
        };
        let int = || Type::named("int");
        is("arrays", "matrix", 76, Type::array(3, Type::array(4, int())));
        is("arrays", "colors", 256, Type::array(2, enumeration("color", int())));
        is("arrays", "cbs", 264, Type::array(3, Type::pointer(Type::Function(vec![]))));
        is("flex", "data", 4, Type::array(0, Type::named("unsigned int")));
        is("zerolen", "data", 4, Type::array(0, Type::named("unsigned int")));
        is("bits", "b", 0, bits(1, 4, "unsigned int"));
        is("bits", "c", 0, bits(4, 32, "unsigned int"));
        is("bits", "h", 16, bits(0, 2, "signed char"));
        is("bits", "ec", 16, enumeration("ecolor", bits(2, 6, "unsigned int")));
        is("nested", "as_u32", 32, Type::named("unsigned int"));
        is("nested", "ue", 56, enumeration("u32enum", Type::named("unsigned int")));
        is("_TAGGED", "pt", 0, Type::named("typedef_only_t"));
        is("pointers", "pe", 160, Type::pointer(enumeration("color", int())));
        is("pointers", "parr", 176, Type::pointer(Type::array(7, int())));
        is("pointers", "po", 144, Type::pointer(Type::named("opaque")));
        assert_eq!(field(&converted, "nested", "m2").offset, 38);
        assert_eq!(field(&converted, "packed", "d").offset, 7);
        let Type::Named(pte) = field(&converted, "nested", "pte").ty else { panic!("pte is a struct") };
        assert_eq!(field(&converted, &pte, "mid"), Field { offset: 0, ty: bits(12, 20, "unsigned int") });
        assert_eq!(converted.document.structs["big"].size, Some(0x9000 + 4 + 0x12000 + 4 + 8));
        assert_eq!(converted.document.enums["color"].values["NEG"], -3);
        assert_eq!(converted.document.enums["u32enum"].values["U_HI"], 0xffff_ffff);
        assert!(!converted.document.structs.contains_key("opaque"), "{name}: a declaration is no definition");
        assert!(!converted.report.usable, "a fixture without task_struct cannot list processes");
    }
}

#[test]
fn dwarf_4_and_5_of_one_source_give_the_same_types() {
    let (Some(four), Some(five)) = (golden("linux_x64_dwarf4.zip"), golden("linux_x64_dwarf5.zip")) else {
        return;
    };
    assert_eq!(four.document.structs, five.document.structs);
    assert_eq!(four.document.enums, five.document.enums);
}

#[test]
fn i386_modules_use_relocations_with_implicit_addends() {
    let Some(converted) = golden("linux_x86_dwarf4.zip") else { return };
    assert_eq!(converted.document.metadata["arch"], "I386");
    let list = &converted.document.structs["list_node"];
    assert_eq!((list.size, list.fields["prev"].offset), (Some(8), 4));
    // `f` starts at bit 48 and ends beyond any aligned unit: 64-bit integers are aligned to 4 there.
    let unit = "long long unsigned int";
    assert_eq!(field(&converted, "bits", "f"), Field { offset: 6, ty: bits(0, 33, unit) });
    assert_eq!(field(&converted, "bits", "g"), Field { offset: 8, ty: bits(17, 48, unit) });
}

/// `System.map` and `.config` of the golden input: what the original lost.
#[test]
fn addresses_duplicates_and_odd_configuration_values_survive() {
    let Some(converted) = golden("linux_x64_dwarf4.zip") else { return };
    let document = &converted.document;
    assert_eq!(document.constants["_text"], 0xffff_ffff_8100_0000);
    assert_eq!(document.constants["absolute_sym"], u64::MAX);
    let duplicates = [document.constants["dup_name"], document.constants["dup_name_1"]];
    assert!(duplicates[0] < duplicates[1]);
    assert_eq!(document.config["CONFIG_CMDLINE"], "root=/dev/sda ro");
    assert_eq!(document.config["CONFIG_DEFAULT_HOSTNAME"], "(none)");
    assert_eq!(document.metadata["Release"], "6.1.0-fixture");
}

/// Everything the original got right is in our document too.
#[test]
fn structs_of_the_original_are_all_there() {
    let Some(converted) = golden("linux_x64_dwarf4.zip") else { return };
    let theirs = fs::read(Path::new(GOLDEN).join("outputs/linux_x64_dwarf4.160.json")).unwrap();
    let theirs =
        profile::Profile::parse(&theirs, &profile::Limits::default()).unwrap().to_document().unwrap();
    let mut compared = 0;
    for (name, theirs) in theirs.structs.iter().filter(|(name, _)| !name.starts_with("__unnamed_")) {
        let ours = &converted.document.structs[name];
        assert_eq!(ours.size, theirs.size, "{name}");
        for (member, theirs) in &theirs.fields {
            assert_eq!(ours.fields[member].offset, theirs.offset, "{name}.{member}");
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
}

/// A directory with these files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn refusal(files: &[(&str, &[u8])], source: &str) -> String {
    let folder = folder(files);
    convert_linux(&folder.path().join(source), &LinuxOptions::default()).unwrap_err().to_string()
}

#[test]
fn refusals_say_what_to_do_next() {
    let map: &[u8] = b"ffffffff81000000 T _text\n";
    let stub: &[u8] = b"ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n";
    type Case<'a> = (&'a [(&'a str, &'a [u8])], &'a str, &'a str);
    let cases: [Case<'_>; 9] = [
        (&[("d/module.dwarf", b"x"), ("d/System.map", map)], "d", "module.ko"),
        (&[("d/System.map", map)], "d", "no kernel module"),
        (&[("d/module.ko", b"x")], "d", "no System.map"),
        (&[("d/module.ko", b"x"), ("d/System.map", stub)], "d", "debug package"),
        (&[("d/module.ko", b"x"), ("d/System.map", map)], "d", "damaged ELF"),
        (&[("empty", b"")], "empty", "an empty file"),
        (&[("package.deb", b"!<arch>\ndebian-binary")], "package.deb", "unpack it"),
        (&[("list", map)], "list", "--system_map"),
        (&[("bad.zip", b"PK\x03\x04 nothing")], "bad.zip", "damaged zip"),
    ];
    for (files, source, expected) in cases {
        let message = refusal(files, source);
        assert!(message.contains(expected), "{source}: {message}");
        assert!(!message.contains('\n') && !message.ends_with('.'), "{message}");
    }
    let missing = convert_linux(Path::new("/nonexistent/vmlinux"), &LinuxOptions::default());
    assert!(matches!(missing, Err(ConvertError::Io { .. })));
}

#[test]
fn a_zip_bomb_is_refused() {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for name in ["module.ko", "System.map"] {
        archive.start_file(name, options).unwrap();
        for _ in 0..(MAX_SYMBOL_LIST >> 20) + 1 {
            archive.write_all(&vec![0; 1 << 20]).unwrap();
        }
    }
    let bomb = archive.finish().unwrap().into_inner();
    let message = refusal(&[("bomb.zip", &bomb)], "bomb.zip");
    assert!(message.contains("larger than the limit"), "{message}");
}

#[test]
fn releases_are_found_in_names() {
    assert_eq!(release_in_name("System.map-6.1.0-9-amd64").as_deref(), Some("6.1.0-9-amd64"));
    assert_eq!(release_in_name("vmlinux-5.10").as_deref(), Some("5.10"));
    assert_eq!(release_in_name("System.map"), None);
    assert_eq!(release_in_name("vmlinux-dbg"), None);
}

#[test]
fn build_id_is_found_among_other_notes() {
    let note = |name: &[u8], kind: u32, desc: &[u8]| {
        let mut note = Vec::new();
        for word in [name.len(), desc.len()] {
            note.extend(u32::try_from(word).unwrap().to_le_bytes());
        }
        note.extend(kind.to_le_bytes());
        for part in [name, desc] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    };
    let notes = [note(b"Xen\0", 6, b"linux"), note(b"GNU\0", 3, &[0xab; 20])].concat();
    assert_eq!(build_id_in_notes(&notes).map(|id| id.to_string()), Some("ab".repeat(20)));
    assert_eq!(build_id_in_notes(&notes[..40]), None);
    assert_eq!(build_id_in_notes(&[0xff; 64]), None);
}

/// A kernel with all that a profile can take from one.
fn small_kernel() -> Vec<u8> {
    use crate::testkit::{ElfBuilder, Unit};
    let banner = b"Linux version 6.1.0-test (builder@host) #1 SMP\n\0";
    let config = profile::gzip(b"CONFIG_HZ=1000\n# comment\n");
    let config_start = 0xffff_ffff_8200_0000 + banner.len() as u64;
    let note = [&[4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0][..], b"GNU\0", &[0xcd; 20]].concat();
    let units: Vec<Unit> = [4, 5]
        .into_iter()
        .map(|version| {
            let mut unit = Unit::new(version);
            let int = unit.base("int", 4);
            let long = unit.base("long unsigned int", 8);
            let anonymous = unit.composite(gimli::DW_TAG_union_type, "", 8, &[("w", 0, long), ("h", 4, int)]);
            let next = unit.next();
            let pointer = unit.modifier(gimli::DW_TAG_pointer_type, next + 5);
            unit.record("list_head", 16, &[("next", 0, pointer), ("prev", 8, pointer)]);
            unit.record("task_struct", 64, &[("pid", 0, int), ("tgid", 4, int), ("", 8, anonymous)]);
            unit
        })
        .collect();
    ElfBuilder::kernel()
        .dwarf(&units)
        .section(".rodata", 0xffff_ffff_8200_0000, [&banner[..], &config].concat())
        .section(".notes", 0xffff_ffff_8300_0000, note)
        .symbols(&[
            ("_text", 0xffff_ffff_8100_0000, true),
            ("linux_banner", 0xffff_ffff_8200_0000, true),
            ("kernel_config_data", config_start, false),
            ("kernel_config_data_end", config_start + config.len() as u64, false),
            ("dup", 0xffff_ffff_8100_0020, false),
            ("dup", 0xffff_ffff_8100_0010, false),
        ])
        .finish()
}

#[test]
fn a_kernel_tells_its_build_id_banner_and_symbols() {
    let kernel = small_kernel();
    let converted = convert_linux_bytes(&kernel, "vmlinux-6.1.0-test", &LinuxOptions::default()).unwrap();
    let metadata = &converted.document.metadata;
    assert_eq!(metadata["BuildID"], "cd".repeat(20));
    assert_eq!(metadata["Banner"], "Linux version 6.1.0-test (builder@host) #1 SMP");
    assert_eq!(metadata["Release"], "6.1.0-test");
    assert_eq!(metadata["arch"], "AMD64");
    assert_eq!(converted.document.config["CONFIG_HZ"], "1000");
    assert_eq!(
        metadata["Sources"],
        serde_json::json!([{"name": "vmlinux-6.1.0-test", "sha256": sha256(&kernel)}])
    );
    assert_eq!(converted.document.constants["dup"], 0xffff_ffff_8100_0010);
    assert_eq!(converted.document.constants["dup_1"], 0xffff_ffff_8100_0020);
    assert_eq!(field(&converted, "task_struct", "h").offset, 12);
}

#[test]
fn files_beside_a_kernel_are_used_and_checked() {
    let kernel = small_kernel();
    let map: &[u8] =
        b"ffffffff81000000 T _text\nffffffff82000000 D linux_banner\nffffffff82000100 D init_task\n";
    let stub: &[u8] = b"ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n";
    let convert = |map: &[u8]| {
        let files: [(&str, &[u8]); 3] = [
            ("vmlinux-6.1", &kernel),
            ("System.map-6.1", map),
            ("config-6.1", b"CONFIG_HZ=250\nCONFIG_X=\"a=b\"\n"),
        ];
        let folder = folder(&files);
        convert_linux(&folder.path().join("vmlinux-6.1"), &LinuxOptions::default())
    };
    let converted = convert(map).unwrap();
    assert!(converted.document.constants.contains_key("init_task"));
    assert_eq!(converted.document.config["CONFIG_X"], "a=b");
    assert_eq!(converted.document.metadata["Sources"].as_array().map(Vec::len), Some(3));
    // A placeholder beside the kernel is no obstacle, but it is said.
    let converted = convert(stub).unwrap();
    assert!(converted.document.constants.contains_key("dup"));
    assert_eq!(converted.report.warnings.len(), 1);
    let error = convert(b"ffffffff81000000 T _text\nffffffff82000040 D linux_banner\n").unwrap_err();
    assert!(error.to_string().contains("belongs to another kernel"), "{error}");
}

#[test]
fn a_kernel_in_a_compression_wrapper_is_the_same_kernel() {
    let kernel = small_kernel();
    let plain = convert_linux_bytes(&kernel, "vmlinux", &LinuxOptions::default()).unwrap();
    let packed = profile::gzip(&kernel);
    let unpacked = convert_linux_bytes(&packed, "vmlinux", &LinuxOptions::default()).unwrap();
    assert_eq!(plain.document, unpacked.document);
    let twice = convert_linux_bytes(&profile::gzip(&packed), "vmlinux", &LinuxOptions::default());
    assert!(twice.unwrap_err().to_string().contains("compressed twice"));
}

#[test]
fn addresses_of_a_running_kernel_are_taken_back() {
    use crate::testkit::BtfBuilder;
    let mut btf = BtfBuilder::new();
    let int = btf.int("int", 4);
    btf.composite(4, "task_struct", 4, &[("pid", 0, 0, int)]);
    let list: &[u8] =
        b"0000000000001000 A cpu_offset\nffffffff9e000000 T _text\nffffffff9f000000 D init_task\n\
                        ffffffffc0000000 t module_init\t[loop]\n";
    let folder = folder(&[("btf", &btf.finish()), ("kallsyms", list)]);
    let options =
        LinuxOptions { system_map: Some(folder.path().join("kallsyms")), ..LinuxOptions::default() };
    let converted = convert_linux(&folder.path().join("btf"), &options).unwrap();
    let constants: Vec<(&str, u64)> =
        converted.document.constants.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let expected =
        [("_text", 0xffff_ffff_8100_0000), ("cpu_offset", 0x1000), ("init_task", 0xffff_ffff_8200_0000)];
    assert_eq!(constants, expected);
    assert_eq!(converted.report.warnings.len(), 1, "{:?}", converted.report.warnings);
}

/// Converts 10,000 mutations; each must end in a document that reads back or in one error.
fn mutations(good: &[u8], name: &str) -> usize {
    use rayon::prelude::*;
    (0..10_000)
        .into_par_iter()
        .filter(|seed| {
            let bytes = crate::testkit::mutate(good, *seed);
            match convert_linux_bytes(&bytes, name, &LinuxOptions::default()) {
                Ok(converted) => {
                    let text = converted.document.to_canonical_json();
                    profile::Profile::parse(text.as_bytes(), &profile::Limits::default())
                        .and_then(|profile| profile.to_document())
                        .unwrap_or_else(|error| {
                            panic!("seed {seed} made a profile that does not read: {error}")
                        });
                    true
                }
                Err(error) => {
                    let message = error.to_string();
                    assert!(
                        message.len() < 2000 && !message.contains(char::is_control),
                        "seed {seed}: {message:?}"
                    );
                    false
                }
            }
        })
        .count()
}

#[test]
fn ten_thousand_mutated_kernels_do_no_harm() {
    let converted = mutations(&small_kernel(), "vmlinux");
    assert!((100..9_900).contains(&converted), "{converted}");
}

#[test]
fn ten_thousand_mutated_zips_do_no_harm() {
    use crate::testkit::{ElfBuilder, Unit};
    let mut unit = Unit::new(4);
    let int = unit.base("int", 4);
    unit.record("task_struct", 8, &[("pid", 4, int)]);
    let module = ElfBuilder::module().relocated_dwarf(&unit).symbols(&[]).finish();
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes, method) in [
        ("module.ko", module.as_slice(), zip::CompressionMethod::Stored),
        ("boot/System.map-6.1", b"ffffffff81000000 T _text\n", zip::CompressionMethod::Deflated),
        ("boot/config-6.1", b"CONFIG_HZ=250\n", zip::CompressionMethod::Stored),
    ] {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        archive.start_file(name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    let zip = archive.finish().unwrap().into_inner();
    assert!(convert_linux_bytes(&zip, "kit.zip", &LinuxOptions::default()).is_ok());
    let converted = mutations(&zip, "kit.zip");
    assert!((100..9_900).contains(&converted), "{converted}");
}
