//! Every format from bytes built here field by field, then 10,000 damaged copies of each. That real files of
//! each format give the same memory is checked on real guests (`examples/compare_images.rs`).

#![allow(clippy::cast_possible_truncation, reason = "sizes chosen here")]

use crate::codec::Codec;
use crate::image::{Failure, open_space};
use crate::{Fault, FileSpace, Image, Limits, Run};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

mod aff4;
mod crash;
mod ewf;
mod hiber;
mod kcore;
mod machines;
mod qemu;

const PAGE: usize = 4096;

/// Page `n` of the test memory: its number, then a pattern that compresses, or not for page 3.
fn page(n: u64) -> Vec<u8> {
    let mut state = n.wrapping_add(88_172_645_463_325_252);
    let mut bytes: Vec<u8> = (0..PAGE)
        .map(|at| {
            if n == 3 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            } else {
                (at / 64) as u8
            }
        })
        .collect();
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes
}

fn pages(range: std::ops::Range<u64>) -> Vec<u8> {
    range.flat_map(page).collect()
}

fn put(bytes: &mut Vec<u8>, at: usize, value: &[u8]) {
    if bytes.len() < at + value.len() {
        bytes.resize(at + value.len(), 0);
    }
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn u32s(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn u64s(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut bytes = u32s(&[name.len() as u32 + 1, desc.len() as u32, kind]);
    for part in [&[name, b"\0"].concat(), desc] {
        bytes.extend_from_slice(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// Notes as QEMU writes them: one CPU with paging, PAE, LA57 and CR3 0x1234000; VMCOREINFO.
fn qemu_notes() -> Vec<u8> {
    let mut state = vec![0; 440];
    put(&mut state, 0, &u32s(&[1, 440]));
    put(&mut state, 392, &u64s(&[0x8000_0001, 0, 0, 0x0123_4000, 0x1020]));
    [note(b"CORE", 1, &[0; 336]), note(b"QEMU", 0, &state), note(b"VMCOREINFO", 0, b"OSRELEASE=6.1\n")]
        .concat()
}

/// (p_type, p_vaddr, p_paddr, data)
type Segment<'a> = (u32, u64, u64, &'a [u8]);

fn elf64(segments: &[Segment<'_>]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    put(&mut bytes, 16, &[4, 0, 62, 0, 1]);
    put(&mut bytes, 32, &64u64.to_le_bytes());
    // e_ehsize is 8, as old QEMU wrote it.
    put(&mut bytes, 52, &[8, 0, 56, 0, segments.len() as u8, 0]);
    let mut data = 64 + 56 * segments.len();
    for (index, (kind, vaddr, paddr, content)) in segments.iter().enumerate() {
        let at = 64 + 56 * index;
        put(&mut bytes, at, &u32s(&[*kind, 0]));
        let size = content.len() as u64;
        put(&mut bytes, at + 8, &u64s(&[data as u64, *vaddr, *paddr, size, size.max(PAGE as u64), 0]));
        put(&mut bytes, data, content);
        data += content.len();
    }
    bytes
}

fn elf32(segments: &[Segment<'_>]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x01\x01\x01".to_vec();
    put(&mut bytes, 16, &[4, 0, 3, 0, 1]);
    put(&mut bytes, 28, &52u32.to_le_bytes());
    put(&mut bytes, 40, &[52, 0, 32, 0, segments.len() as u8, 0]);
    let mut data = 52 + 32 * segments.len();
    for (index, (kind, vaddr, paddr, content)) in segments.iter().enumerate() {
        let size = content.len() as u32;
        let fields = [*kind, data as u32, *vaddr as u32, *paddr as u32, size, size, 0, 0];
        put(&mut bytes, 52 + 32 * index, &u32s(&fields));
        put(&mut bytes, data, content);
        data += content.len();
    }
    bytes
}

/// Pages 0-3 at their place, pages 16-17 above a hole, notes; the last segment repeats the first as paging
/// does.
fn core64() -> Vec<u8> {
    let (low, high, notes) = (pages(0..4), pages(16..18), qemu_notes());
    elf64(&[
        (4, 0, 0, &notes),
        (1, 0, 0, &low),
        (1, 0, 0x10000, &high),
        (1, 0, 0xfee0_0000, b""),
        (1, 0, 0, &low),
    ])
}

fn lime() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (start, content) in [(0u64, pages(0..4)), (0x10000, pages(16..18))] {
        bytes.extend(b"EMiL\x01\0\0\0");
        bytes.extend(u64s(&[start, start + content.len() as u64 - 1, 0]));
        bytes.extend(content);
    }
    bytes
}

fn avml() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (start, content) in [(0u64, pages(0..4)), (0x10000, pages(16..18))] {
        bytes.extend(b"AVML\x02\0\0\0");
        bytes.extend(u64s(&[start, start + content.len() as u64 - 1, 0]));
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        // A flush ends a chunk: more than one per range.
        for part in content.chunks(2 * PAGE) {
            encoder.write_all(part).unwrap();
            encoder.flush().unwrap();
        }
        let frames = encoder.into_inner().unwrap();
        bytes.extend(&frames);
        bytes.extend(u64s(&[frames.len() as u64]));
    }
    bytes
}

/// LZO1X of a short page start, one long literal run: enough for a decoder, no compressor needed.
fn lzo_literals(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes.len() - 18;
    let mut out = vec![0];
    while rest > 255 {
        out.push(0);
        rest -= 255;
    }
    out.push(rest as u8);
    out.extend_from_slice(bytes);
    out.extend([0x11, 0, 0]);
    out
}

fn compress(codec: Option<Codec>, bytes: &[u8]) -> (u32, Vec<u8>) {
    match codec {
        None => (0, bytes.to_vec()),
        Some(Codec::Zlib) => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            (1, encoder.finish().unwrap())
        }
        Some(Codec::Lzo) => (2, lzo_literals(bytes)),
        Some(Codec::Snappy) => (4, snap::raw::Encoder::new().compress_vec(bytes).unwrap()),
        Some(Codec::Zstd) => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            (0x20, ruzstd::encoding::compress_to_vec(bytes, level))
        }
        Some(_) => unreachable!("no page codec"),
    }
}

fn kdump(wide: bool, codec: Option<Codec>) -> Vec<u8> {
    let stored: Vec<u64> = (0..4).chain(16..18).collect();
    let mut bytes = b"KDUMP   \x06\0\0\0".to_vec();
    put(&mut bytes, 12 + 4 * 65, if wide { b"x86_64" } else { b"i686\0\0" });
    let flags = compress(codec, &page(0)).0;
    put(&mut bytes, if wide { 424 } else { 412 }, &u32s(&[flags, PAGE as u32, 1, 2, 18, 0, 0, 0, 0, 1]));
    let notes = qemu_notes();
    let notes_at = (PAGE + 512) as u64;
    if wide {
        put(&mut bytes, PAGE + 48, &u64s(&[notes_at, notes.len() as u64, 0, 0, 0, 18, 18]));
    } else {
        put(&mut bytes, PAGE + 32, &u64s(&[notes_at]));
        put(&mut bytes, PAGE + 40, &u32s(&[notes.len() as u32]));
        put(&mut bytes, PAGE + 72, &u64s(&[18]));
    }
    put(&mut bytes, PAGE + 512, &notes);
    for bitmap in [2 * PAGE, 3 * PAGE] {
        put(&mut bytes, bitmap, &[0x0f, 0, 0x03]);
    }
    let mut data = 4 * PAGE + 24 * stored.len();
    for (index, number) in stored.iter().enumerate() {
        let (flags, packed) = compress(codec, &page(*number));
        let at = 4 * PAGE + 24 * index;
        put(&mut bytes, at, &u64s(&[data as u64]));
        put(&mut bytes, at + 8, &u32s(&[packed.len() as u32, flags]));
        put(&mut bytes, data, &packed);
        data += packed.len();
    }
    bytes
}

/// Pieces out of order, all-zero pieces left out, and a wrong header that a later record corrects.
fn flattened(plain: &[u8]) -> Vec<u8> {
    let mut bytes = b"makedumpfile\0\0\0\0".to_vec();
    bytes.extend(1i64.to_be_bytes());
    bytes.extend(1i64.to_be_bytes());
    bytes.resize(PAGE, 0);
    let mut record = |offset: i64, content: &[u8]| {
        bytes.extend(offset.to_be_bytes());
        bytes.extend((content.len() as i64).to_be_bytes());
        bytes.extend(content);
    };
    record(0, &[0xee; 100]);
    let mut pieces: Vec<(usize, &[u8])> = plain.chunks(1000).enumerate().collect();
    pieces.reverse();
    for (index, content) in pieces {
        if content.iter().any(|byte| *byte != 0) {
            record(index as i64 * 1000, content);
        }
    }
    record(-1, &[]);
    bytes
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let (first, second) = plain.split_at(plain.len() / 2);
    let mut bytes = Vec::new();
    for member in [first, second] {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(member).unwrap();
        bytes.extend(encoder.finish().unwrap());
    }
    bytes
}

/// Two frames with a skippable one between.
fn zstd(plain: &[u8]) -> Vec<u8> {
    let (first, second) = plain.split_at(plain.len() / 2);
    let frame = |part| compress(Some(Codec::Zstd), part).1;
    [frame(first), b"\x51\x2a\x4d\x18\x03\0\0\0abc".to_vec(), frame(second)].concat()
}

/// Frames of `size` bytes that say how much they hold, in raw blocks of 1000 bytes.
fn zstd_frames(plain: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in plain.chunks(size) {
        bytes.extend(b"\x28\xb5\x2f\xfd\xa0");
        bytes.extend(u32s(&[frame.len() as u32]));
        let blocks = frame.chunks(1000).count();
        for (index, block) in frame.chunks(1000).enumerate() {
            let header = (block.len() as u32) << 3 | u32::from(index + 1 == blocks);
            bytes.extend(&header.to_le_bytes()[..3]);
            bytes.extend(block);
        }
    }
    bytes
}

fn crc32(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// An .xz stream of blocks of `block` bytes, stored in uncompressed LZMA2 chunks, with CRC32 checks.
fn xz(plain: &[u8], block: usize) -> Vec<u8> {
    fn number(bytes: &mut Vec<u8>, mut value: usize) {
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
    let mut bytes = b"\xfd7zXZ\0\x00\x01".to_vec();
    bytes.extend(crc32(&[0, 1]));
    let mut index = vec![0];
    number(&mut index, plain.chunks(block).len());
    for content in plain.chunks(block) {
        let start = bytes.len();
        let header = [2, 0, 0x21, 1, 16, 0, 0, 0];
        bytes.extend(header);
        bytes.extend(crc32(&header));
        for chunk in content.chunks(60_000) {
            bytes.push(1);
            bytes.extend((chunk.len() as u16 - 1).to_be_bytes());
            bytes.extend(chunk);
        }
        bytes.push(0);
        let unpadded = bytes.len() - start + 4;
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(crc32(content));
        number(&mut index, unpadded);
        number(&mut index, content.len());
    }
    index.resize(index.len().next_multiple_of(4), 0);
    index.extend(crc32(&index));
    let mut footer = u32s(&[index.len() as u32 / 4 - 1]);
    footer.extend([0, 1]);
    bytes.extend(&index);
    bytes.extend(crc32(&footer));
    bytes.extend(footer);
    bytes.extend(b"YZ");
    bytes
}

/// A file of the shared test data; `None`, saying so, where that is absent.
fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(name);
    let there = path.exists();
    if !there {
        eprintln!("skipped: no {}", path.display());
    }
    there.then_some(path)
}

fn open_bytes(bytes: Vec<u8>) -> Result<Image, Failure> {
    open_space(Arc::new(FileSpace::from_vec(bytes)), &Limits::default())
}

fn opened(bytes: Vec<u8>) -> Image {
    open_bytes(bytes).unwrap_or_else(|failure| panic!("{failure:?}"))
}

/// The memory all builders describe.
fn assert_test_memory(image: &Image) {
    let space = &*image.space;
    assert_eq!(image.warnings, [""; 0], "{:?}", image.layers);
    let runs: Vec<(u64, u64)> = space.runs(0, u64::MAX).map(|run| (run.start, run.len)).collect();
    assert_eq!(runs, [(0, 0x4000), (0x10000, 0x2000)], "{:?}", image.layers);
    assert_eq!(space.end(), 0x12000);
    assert_eq!(space.read_vec(0, 0x4000, PAGE * 4).unwrap(), pages(0..4));
    assert_eq!(space.read_vec(0x10000, 0x2000, PAGE * 4).unwrap(), pages(16..18));
    assert_eq!(space.read_u64(0x11000), Ok(17));
    assert_eq!(space.read_u16(0x1fff), Ok(u16::from_le_bytes([page(1)[4095], 2])));
    assert_eq!(space.read_u16(0x3fff), Err(Fault::NotInImage { phys: 0x4000 }));
    assert_eq!(space.read_u8(0xf000), Err(Fault::NotInImage { phys: 0xf000 }));
    assert_eq!(space.read_u8(0x12000), Err(Fault::NotInImage { phys: 0x12000 }));
    let clipped: Vec<(u64, u64)> = space.runs(0x1010, 0x10001).map(|run| (run.start, run.len)).collect();
    assert_eq!(clipped, [(0x1010, 0x2ff0), (0x10000, 1)]);
}

fn assert_qemu_hints(image: &Image, long_mode: bool) {
    assert_eq!(image.hints.dtb, [0x0123_4000]);
    assert_eq!(image.hints.vmcoreinfo.as_deref(), Some(&b"OSRELEASE=6.1\n"[..]));
    let paging = image.hints.cpus[0].paging().unwrap();
    assert_eq!(paging.name, if long_mode { "x64 LA57" } else { "x86 PAE" });
}

#[test]
fn every_format_gives_the_same_memory() {
    for (bytes, name) in [(core64(), "ELF core"), (lime(), "LiME"), (avml(), "AVML")] {
        let image = opened(bytes);
        assert_eq!(image.layers, ["buffer", name]);
        assert_test_memory(&image);
    }
    let (low, high, notes) = (pages(0..4), pages(16..18), qemu_notes());
    let narrow = opened(elf32(&[(4, 0, 0, &notes), (1, 0, 0, &low), (1, 0, 0x10000, &high)]));
    assert_test_memory(&narrow);
    assert_qemu_hints(&narrow, false);
    assert_qemu_hints(&opened(core64()), true);
}

#[test]
fn kdump_opens_with_every_codec_in_both_widths() {
    for codec in [None, Some(Codec::Zlib), Some(Codec::Lzo), Some(Codec::Snappy), Some(Codec::Zstd)] {
        for wide in [true, false] {
            let image = opened(kdump(wide, codec));
            assert_test_memory(&image);
            assert_qemu_hints(&image, wide);
        }
    }
}

#[test]
fn wrappers_stack_in_any_order_but_only_once_each() {
    let flat = opened(gzip(&flattened(&kdump(true, Some(Codec::Zlib)))));
    assert_eq!(flat.layers, ["buffer", "gzip", "flattened", "kdump (zlib)"]);
    assert_test_memory(&flat);
    assert_test_memory(&opened(flattened(&core64())));
    assert_test_memory(&opened(zstd(&xz(&lime(), 5000))));
    assert_test_memory(&opened(xz(&avml(), 1 << 20)));
    let failure = open_bytes(gzip(&gzip(&lime()))).unwrap_err();
    let Failure::NotAnImage { content, refusals } = failure else { panic!("{failure:?}") };
    assert_eq!(content, "a gzip file in a gzip file");
    assert!(refusals.iter().any(|refusal| refusal.to_string() == "gzip on gzip: already applied once"));
}

#[test]
fn an_xz_of_small_blocks_is_decoded_on_demand_and_its_checks_are_verified() {
    let mut bytes = xz(&pages(0..8), 3000);
    let image = opened(bytes.clone());
    assert_eq!(image.space.read_vec(0, 0x8000, 0x8000).unwrap(), pages(0..8));
    // Damage in one block: the others stay readable.
    let at = bytes.windows(8).position(|window| window == 6u64.to_le_bytes()).unwrap();
    bytes[at + 4000 / 2] ^= 1;
    let image = opened(bytes);
    assert_eq!(image.space.read_u64(0x1000), Ok(1));
    assert!(matches!(image.space.read_vec(0x6000, 4096, 4096), Err(Fault::Corrupt { .. })));
    let mut padded = vec![0; 0x8000];
    assert_eq!(image.space.read_padded(0, &mut padded).missing, 0x2000);
}

#[test]
fn a_zst_of_small_frames_is_decoded_on_demand_and_a_cut_one_front_to_back() {
    let mut bytes = zstd_frames(&lime(), 3000);
    let image = opened(bytes.clone());
    assert_eq!(image.layers, ["buffer", "zstd", "LiME"]);
    assert_test_memory(&image);
    assert_test_memory(&opened(zstd_frames(&lime(), 1 << 20)));
    // The writer of the frames of `zstd` keeps their size to itself.
    assert_test_memory(&opened(zstd(&lime())));
    bytes.truncate(bytes.len() - 100);
    let image = opened(bytes);
    assert_eq!(image.warnings.len(), 2, "{:?}", image.warnings);
    assert_eq!(image.space.read_u64(0x10000), Ok(16));
}

#[test]
fn paging_segments_that_repeat_physical_pages_are_one_memory() {
    // As QEMU writes them with paging=true: virtual order, the same data described twice.
    let low = pages(0..2);
    let mut bytes =
        elf64(&[(1, 0x7000, 0x1000, &low[PAGE..]), (1, 0x8000, 0, &low), (1, u64::MAX, u64::MAX, b"x")]);
    // Segment 0 is the second page of segment 1: point it there.
    let data = 64 + 56 * 3;
    put(&mut bytes, 64 + 8, &((data + 2 * PAGE) as u64).to_le_bytes());
    let image = opened(bytes);
    let runs: Vec<Run> = image.space.runs(0, u64::MAX).collect();
    assert_eq!(runs, [Run { start: 0, len: 0x2000, target: (data + PAGE) as u64 }]);
    assert_eq!(image.space.read_u64(0x1000), Ok(1));
}

#[test]
fn more_segments_than_fit_into_e_phnum_are_counted_in_section_0() {
    let low = pages(0..4);
    let mut bytes = elf64(&[(1, 0, 0, &low)]);
    put(&mut bytes, 56, &[0xff, 0xff]);
    let section = bytes.len();
    put(&mut bytes, 40, &(section as u64).to_le_bytes());
    put(&mut bytes, section + 44, &1u32.to_le_bytes());
    put(&mut bytes, section + 63, &[0]);
    assert_eq!(opened(bytes).space.read_u64(0x3000), Ok(3));
}

#[test]
fn virtualbox_notes_give_cr3_and_mode() {
    let mut cpu = vec![0; 600];
    put(&mut cpu, 288, &u64s(&[0x8000_0001, 0, 0x0055_5000, 0x20]));
    put(&mut cpu, 488, &u64s(&[0x500]));
    let notes = [
        note(b"VBCORE", 0xb00, &u32s(&[0xc01a_c0de, 0x0001_0006, 24, 0, 0, 1])),
        note(b"VBCPU", 0xb01, &cpu),
    ];
    let image = opened(elf64(&[(4, 0, 0, &notes.concat()), (1, 0, 0, &pages(0..1))]));
    assert_eq!(image.hints.dtb, [0x0055_5000]);
    assert_eq!(image.hints.cpus[0].paging().unwrap().name, "x64");
}

#[test]
fn a_cut_off_image_opens_with_a_warning_and_says_where_it_ends() {
    let core = elf64(&[(1, 0, 0, &pages(0..4)), (1, 0, 0x10000, &pages(16..18))]);
    for (bytes, cut) in [(lime(), 5000), (core, 5000), (avml(), 100), (kdump(true, None), 5000)] {
        let whole = bytes.len();
        let image = opened(bytes[..whole - cut].to_vec());
        assert_eq!(image.warnings.len(), 1, "{:?}", image.layers);
        assert_eq!(image.space.read_u64(0), Ok(0));
        let fault = image.space.read_u64(0x11ff8).unwrap_err();
        assert!(matches!(fault, Fault::Truncated { .. } | Fault::NotInImage { .. }), "{fault}");
        for run in image.space.runs(0, u64::MAX).filter(|_| image.layers[1] != "kdump (plain)") {
            assert!(image.space.read_vec(run.start, run.len, 1 << 20).is_ok(), "{:?} {run:x?}", image.layers);
        }
    }
    let packed = gzip(&lime());
    let image = opened(packed[..packed.len() - 200].to_vec());
    assert_eq!(image.warnings.len(), 2, "{:?}", image.warnings);
}

#[test]
fn what_is_no_image_is_named() {
    let refused = |bytes: &[u8]| match open_bytes(bytes.to_vec()).unwrap_err() {
        Failure::Empty => "empty".to_owned(),
        Failure::NotAnImage { content, .. } => content.to_owned(),
        Failure::Refused { format, reason, .. } => format!("{format}: {reason}"),
    };
    assert_eq!(refused(b""), "empty");
    assert_eq!(refused(b"hello, this is a note\n"), "a text file");
    assert_eq!(refused(&[0; 100]), "raw: smaller than one page of 4096 bytes: 100");
    assert_eq!(refused(b"PAGEDU64"), "Windows crash dump: the header is cut off");
    let mut pe = b"MZ".to_vec();
    put(&mut pe, 0x3c, &[0x80, 0, 0, 0]);
    assert_eq!(refused(&pe), "a PE executable");
    let mut executable = core64();
    executable[16] = 2;
    assert_eq!(refused(&executable), "an ELF executable (a kernel with symbols is no memory)");
    let process = elf64(&[(4, 0, 0, &note(b"CORE", 6, &[0; 16])), (1, 0x40_0000, 0, &pages(0..1))]);
    assert_eq!(refused(&process), "a core dump of a process, not of a machine");
    let mut split = kdump(true, None);
    put(&mut split, PAGE + 12, &[1]);
    assert_eq!(
        refused(&split),
        "kdump: one part of a split dump; join the parts with makedumpfile --reassemble"
    );
    let mut version = lime();
    version[4] = 9;
    assert_eq!(refused(&version), "LiME: unknown version: 9");
}

#[test]
fn an_unpacked_size_beyond_the_limit_is_an_error() {
    let limits = Limits { max_unpacked: 10_000, ..Limits::default() };
    for bytes in [gzip(&lime()), zstd(&lime()), xz(&lime(), 5_000), xz(&lime(), 1 << 20)] {
        let Err(Failure::Refused { reason, .. }) = open_space(Arc::new(FileSpace::from_vec(bytes)), &limits)
        else {
            panic!("opened");
        };
        assert!(reason.contains("more than the limit of 10000 bytes"), "{reason}");
    }
}

/// Changes, cuts or extends a copy; the same for the same seed.
fn mutate(bytes: &[u8], state: &mut u64) -> Vec<u8> {
    let mut random = |below: usize| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) as usize % below.max(1)
    };
    let mut bytes = bytes.to_vec();
    for _ in 0..=random(8) {
        // Half of the changes hit the headers.
        let reach = if random(2) == 0 { bytes.len().min(600) } else { bytes.len() };
        let at = random(reach);
        let value: &[u8] = match random(6) {
            0 => &[0xff; 8],
            1 => &[0; 8],
            2 => &[0xff, 0xff, 0xff, 0x7f],
            3 => &[0, 0, 0, 0, 0, 0, 0, 0x80],
            _ => &[random(256) as u8],
        };
        let room = bytes.len() - at;
        let value = &value[..value.len().min(room)];
        put(&mut bytes, at, value);
    }
    match random(10) {
        0 => bytes.truncate(random(bytes.len())),
        1 => bytes.extend(vec![random(256) as u8; random(5000)]),
        _ => {}
    }
    bytes
}

/// Opens 10,000 damaged copies and uses what opens; nothing may panic, hang or allocate beyond the limits.
fn survive_mutations(original: &[u8]) {
    let limits = Limits {
        max_unpacked: 1 << 20,
        max_in_memory: 1 << 18,
        max_runs: 10_000,
        max_table: 1 << 20,
        max_layers: 4,
        cache: 1 << 16,
    };
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut opened = 0;
    let mut buffer = vec![0; 3 * PAGE];
    for _ in 0..10_000 {
        let bytes = mutate(original, &mut state);
        let Ok(image) = open_space(Arc::new(FileSpace::from_vec(bytes)), &limits) else { continue };
        opened += 1;
        for space in [Some(image.space), image.virtual_space].into_iter().flatten() {
            let mut end = 0;
            for run in space.runs(0, u64::MAX).take(64) {
                assert!(run.len > 0 && run.start >= end, "{:?} {run:x?}", image.layers);
                end = run.end();
                let _ = space.read_padded(run.start, &mut buffer);
                let _ = space.read_u64(run.end().wrapping_sub(4));
            }
            assert!(space.end() >= end);
            let _ = (space.translate(0x11000), space.read_cstr(0xfff, 9000), space.borrow(5, usize::MAX));
        }
    }
    assert!(opened > 0);
}

#[test]
fn mutated_lime_is_survived() {
    survive_mutations(&lime());
}

#[test]
fn mutated_elf_is_survived() {
    survive_mutations(&core64());
    survive_mutations(&elf32(&[(4, 0, 0, &qemu_notes()), (1, 0, 0, &pages(0..2))]));
}

#[test]
fn mutated_avml_is_survived() {
    survive_mutations(&avml());
}

#[test]
fn mutated_kdump_is_survived() {
    survive_mutations(&kdump(true, None));
    survive_mutations(&kdump(false, Some(Codec::Lzo)));
    survive_mutations(&kdump(true, Some(Codec::Snappy)));
}

#[test]
fn mutated_kdump_zlib_is_survived() {
    survive_mutations(&kdump(true, Some(Codec::Zlib)));
}

#[test]
fn mutated_kdump_zstd_is_survived() {
    survive_mutations(&kdump(true, Some(Codec::Zstd)));
}

#[test]
fn mutated_flattened_is_survived() {
    survive_mutations(&flattened(&kdump(true, Some(Codec::Snappy))));
}

#[test]
fn mutated_gzip_is_survived() {
    survive_mutations(&gzip(&lime()));
}

#[test]
fn mutated_zstd_is_survived() {
    survive_mutations(&zstd(&lime()));
    survive_mutations(&zstd_frames(&lime(), 3000));
}

#[test]
fn mutated_xz_is_survived() {
    survive_mutations(&xz(&lime(), 3_000));
    survive_mutations(&xz(&lime(), 1 << 20));
}

#[test]
fn mutated_raw_is_survived() {
    survive_mutations(&pages(0..3));
}
