//! AFF4 volumes that pyaff4 0.34 wrote around the test memory: one per compression, as zip and as directory.

use super::*;
use std::fs;
use std::io::Read;

const VOLUMES: [&[u8]; 4] = [
    include_bytes!("aff4/zlib.aff4"),
    include_bytes!("aff4/snappy.aff4"),
    include_bytes!("aff4/lz4.aff4"),
    include_bytes!("aff4/stored.aff4"),
];

#[test]
fn every_compression_gives_the_same_memory() {
    for bytes in VOLUMES {
        let image = opened(bytes.to_vec());
        assert_eq!(image.layers, ["buffer", "AFF4 map"]);
        assert_test_memory(&image);
    }
}

/// Members as files, as the directory volumes of pmem have them, with what it notes of the system.
#[test]
fn a_directory_volume_opens_and_its_notes_become_hints() {
    let folder = tempfile::tempdir().unwrap();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(VOLUMES[0])).unwrap();
    let urn = String::from_utf8(zip.comment().to_vec()).unwrap();
    for index in 0..zip.len() {
        let mut member = zip.by_index(index).unwrap();
        let path = folder.path().join(&*member.name().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        fs::write(path, bytes).unwrap();
    }
    fs::write(folder.path().join("container.description"), urn).unwrap();
    fs::write(folder.path().join("PhysicalMemory/information.yaml"), "Registers:\n  CR3: 1748992\n").unwrap();
    let image = crate::open(folder.path(), &Limits::default()).unwrap();
    assert_eq!(image.layers, ["directory", "AFF4 map"]);
    assert_test_memory(&image);
    assert_eq!(image.hints.dtb, [0x1a_b000]);
    fs::remove_file(folder.path().join("PhysicalMemory/data/00000000")).unwrap();
    let image = crate::open(folder.path(), &Limits::default()).unwrap();
    assert_eq!(image.warnings[0], "AFF4: chunks that are missing or beyond the end of the file: 1");
    assert!(image.space.read_u64(0).is_err());
}

#[test]
fn mutated_aff4_is_survived() {
    VOLUMES[..3].iter().for_each(|bytes| survive_mutations(bytes));
}
