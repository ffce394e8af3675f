use memory::FileSpace;

use super::*;

const LINK: u64 = 0xffff_ffff_8000_0000;
const SHIFT: u64 = 0x20_0000;
const SLIDE: u64 = 0x1c00_0000;

/// A kernel of 64 KiB at physical 2 MiB (linked at 0), with functions every 16 bytes.
fn profile() -> Profile {
    let functions: Vec<String> =
        (0..512u64).map(|n| format!("\"function{n}\": {}", LINK + 0x1000 + n * 16)).collect();
    let text = format!(
        r#"{{"$METADATA": {{"ProfileClass": "Linux64", "arch": "AMD64"}}, "$STRUCTS": {{}}, "$CONSTANTS": {{"_text": {LINK},
        "_etext": {}, "_end": {}, "level3_kernel_pgt": {}, {}}}}}"#,
        LINK + 0x4000,
        LINK + 0x1_0000,
        LINK + 0x8000,
        functions.join(", ")
    );
    Profile::parse_text(text).expect("profile")
}

fn put(memory: &mut [u8], at: u64, value: u64) {
    let at = usize::try_from(at).expect("small");
    memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn pointers_tell_the_slide_and_too_few_do_not() {
    let profile = profile();
    let mut memory = vec![0; 0x40_0000];
    for n in 0..200 {
        put(&mut memory, SHIFT + 0x5000 + n * 24, LINK + 0x1000 + (n * 7 % 512) * 16 + SLIDE);
    }
    assert_eq!(super::slide(&profile, &FileSpace::from_vec(memory.clone()), SHIFT), None, "no list");
    for n in 0..100 {
        put(&mut memory, SHIFT + 0xb000 + n * 16, LINK + 0xb000 + n * 16 + SLIDE);
    }
    let space = FileSpace::from_vec(memory.clone());
    let (slide, pointers) = super::slide(&profile, &space, SHIFT).expect("a slide");
    assert_eq!((slide, pointers), (SLIDE, 200));
    for other in [SHIFT / 2, SHIFT + 0x1000, 2 * SHIFT] {
        assert_eq!(super::slide(&profile, &space, other), None, "another place");
    }
    for n in 20..200 {
        put(&mut memory, SHIFT + 0x5000 + n * 24, 0);
    }
    assert_eq!(super::slide(&profile, &FileSpace::from_vec(memory), SHIFT), None, "20 pointers");
}

#[test]
fn first_tables_name_the_kernels_place() {
    let profile = profile();
    let mut memory = vec![0; 0x40_0000];
    let kernel = SHIFT + 0x8000;
    put(&mut memory, 0x3ff8, kernel | 0x67);
    put(&mut memory, 0x5ff8, kernel | 0x63);
    put(&mut memory, 0x5ff0, 0x1067);
    put(&mut memory, 0x7ff8, 0x12_3000 | 0x67); // a table of something else
    put(&mut memory, 0x9ff8, kernel | 0xe7); // no table
    put(&mut memory, 0xbff8, 0x80_0000 | 0x67); // behind memory
    let tables = top_tables(&FileSpace::from_vec(memory));
    assert_eq!(tables.iter().map(|table| table.at).collect::<Vec<_>>(), [0x3000, 0x5000, 0x7000]);
    assert_eq!(shifts(&profile, &tables), [SHIFT]);
    assert_eq!(roots(&profile, SHIFT, &tables, None), [(0x5000, false), (0x3000, false)]);
    assert_eq!(roots(&profile, SHIFT, &tables, Some(0x3000)), [(0x3000, false), (0x5000, false)]);
}

/// The release is that of the guests' kernels; `struct new_utsname` by include/uapi/linux/utsname.h.
#[test]
fn releases_are_found_in_modules_and_names() {
    let mut memory = vec![0; 0x4000];
    let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
    put(100, b"vermagic=6.1.0-56-cloud-amd64 SMP preempt");
    put(0x1000, b"Linux");
    put(0x1000 + 130, b"6.12.118");
    put(0x2000, b"vermagic=\x1b[31m.1 ");
    let found: Vec<String> = releases(&FileSpace::from_vec(memory)).into_iter().collect();
    assert_eq!(found, ["6.1.0-56-cloud-amd64", "6.12.118"]);
    for text in [&b"6.1"[..], b"", b"x6.1 ", b"61 ", &[b'6'; 100]] {
        assert_eq!(release(text), None, "{text:?}");
    }
}
