//! EWF: real files of other writers, and what Debian's ewf-tools make here.

use super::*;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Splits `raw` into EWF files with ewfacquire; `None`, saying so, when that is not installed. Truth: the
/// writer is libewf.
fn ewfacquire(folder: &Path, raw: &[u8], format: &str, more: &[&str]) -> Option<PathBuf> {
    let source = folder.join("source.raw");
    fs::write(&source, raw).unwrap();
    let target = folder.join(format!("image-{format}"));
    let mut command = Command::new("ewfacquire");
    command.args(["-u", "-q", "-f", format, "-t"]).arg(&target).args(more).arg(&source);
    let Ok(output) = command.output() else {
        eprintln!("skipped: no ewfacquire (Debian package ewf-tools)");
        return None;
    };
    assert!(output.status.success(), "{output:?}");
    let first = ["E01", "s01", "e01"].map(|extension| target.with_extension(extension));
    Some(first.into_iter().find(|path| path.exists()).unwrap())
}

fn read_all(path: &Path) -> (Vec<u8>, Image) {
    let image = crate::open(path, &Limits::default()).unwrap();
    let len = image.space.end();
    (image.space.read_vec(0, len, len as usize).unwrap(), image)
}

/// Bytes of which some compress and some do not, no whole number of chunks.
fn mixed() -> Vec<u8> {
    let mut bytes = pages(0..40);
    (0..300).for_each(|_| bytes.extend(page(3)));
    bytes.extend(vec![0; 200_000]);
    bytes.truncate(bytes.len() / PAGE * PAGE);
    bytes
}

#[test]
fn real_files_read_equal_to_their_raw_form() {
    let Some(split) = shared("containers/ext2.split.E01") else { return };
    let pieces =
        ["000", "001"].map(|n| fs::read(split.with_file_name(format!("ext2.splitraw.{n}"))).unwrap());
    let (bytes, image) = read_all(&split);
    assert_eq!(image.layers, ["file", "EWF", "raw"]);
    assert_eq!(image.warnings, [""; 0]);
    assert!(bytes == pieces.concat());
    let (bytes, image) = read_all(&split.with_file_name("ext2.splitraw.000"));
    assert_eq!(image.layers, ["file", "pieces", "raw"]);
    assert!(bytes == pieces.concat());
    let (_, image) = read_all(&split.with_file_name("ext2.E01"));
    assert_eq!(
        (image.layers.as_slice(), image.warnings.len()),
        (&["file".into(), "EWF".into(), "raw".into()][..], 0)
    );
}

#[test]
fn what_ewfacquire_writes_in_every_format_reads_back_the_same() {
    let raw = mixed();
    for format in ["encase1", "encase2", "encase5", "encase6", "encase7", "ftk", "linen5", "smart", "ewf"] {
        for more in [&["-c", "best"][..], &["-c", "none", "-b", "128"]] {
            let folder = tempfile::tempdir().unwrap();
            let Some(path) = ewfacquire(folder.path(), &raw, format, more) else { return };
            let (bytes, image) = read_all(&path);
            assert_eq!(image.warnings, [""; 0], "{format} {more:?}");
            assert!(bytes == raw, "{format} {more:?}");
        }
    }
}

#[test]
fn many_segments_are_found_and_a_missing_one_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let raw: Vec<u8> = (0..2_000).flat_map(|n| [page(3).as_slice(), &page(n)].concat()).collect();
    let Some(path) = ewfacquire(folder.path(), &raw, "encase6", &["-c", "none", "-S", "1048576"]) else {
        return;
    };
    assert!(path.with_extension("E16").exists());
    let (bytes, image) = read_all(&path);
    assert_eq!((bytes == raw, image.warnings.len()), (true, 0));
    fs::remove_file(path.with_extension("E10")).unwrap();
    let image = crate::open(&path, &Limits::default()).unwrap();
    assert_eq!(image.warnings.len(), 1);
    assert!(image.warnings[0].contains("in 9 segments; are all segments"), "{:?}", image.warnings);
    assert_eq!(image.space.read_vec(0, 0x1000, PAGE).unwrap(), page(3));
    let error = crate::open(&path.with_extension("E03"), &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("segment 3 of a set; open the first one, mostly named .E01"), "{error}");
}

#[test]
fn damage_costs_one_chunk_and_a_damaged_table_has_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = ewfacquire(folder.path(), &mixed(), "encase6", &["-c", "none"]) else { return };
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    let at = bytes.windows(8).position(|window| window == 20u64.to_le_bytes()).unwrap();
    bytes[at + 100] ^= 1;
    let image = opened(bytes);
    assert_eq!(image.space.read_padded(0, &mut vec![0; mixed().len()]).missing, 0x8000);
    let mut bytes = whole;
    let table = bytes.windows(6).position(|window| window == b"table\0").unwrap();
    bytes[table + 76 + 30] ^= 1;
    let image = opened(bytes);
    assert_eq!(image.space.read_vec(0, mixed().len() as u64, 1 << 24).unwrap(), mixed());
}

#[test]
fn mutated_ewf_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    for (format, compression) in [("encase6", "best"), ("smart", "none")] {
        let raw = [pages(0..3), page(3), vec![0; 60_000]].concat();
        let Some(path) =
            ewfacquire(folder.path(), &raw[..raw.len() / 512 * 512], format, &["-c", compression])
        else {
            return;
        };
        survive_mutations(&fs::read(path).unwrap());
    }
}
