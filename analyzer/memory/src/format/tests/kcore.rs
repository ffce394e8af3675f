//! `/proc/kcore`, by what fs/proc/kcore.c writes: physical addresses since v4.11, kernel addresses alone before.

use super::*;

/// Kernel addresses of the direct map (moved by KASLR), of `vmalloc`, of the image.
const DIRECT: u64 = 0xffff_9a45_c000_0000;
const VMALLOC: u64 = 0xffff_ae70_0000_0000;
const IMAGE: u64 = 0xffff_ffff_a000_0000;

/// A core of pages 1 to 3 and 16 to 17 in the direct map, something in `vmalloc`, page 2 again as the kernel's image.
fn kcore(physical: impl Fn(u64) -> u64) -> Vec<u8> {
    let (low, high, image) = (pages(1..4), pages(16..18), pages(2..3));
    let mut core = elf64(&[
        (1, IMAGE, physical(0x2000), &image),
        (1, VMALLOC, physical(u64::MAX), b"not physical"),
        (1, DIRECT + 0x1000, physical(0x1000), &low),
        (1, DIRECT + 0x1_0000, physical(0x1_0000), &high),
    ]);
    // The segment of vmalloc has terabytes, far more than is stored in a copy.
    put(&mut core, 64 + 56 + 32, &(32u64 << 40).to_le_bytes());
    core
}

#[test]
fn words_of_32_bits_say_nowhere_with_32_bits() {
    let core = elf32(&[(1, 0xd07d_a000, 0xffff_ffff, b"not physical"), (1, 0xc000_0000, 0, &pages(0..3))]);
    let image = open_space(Arc::new(FileSpace::from_vec(core)), &Limits::default()).unwrap();
    assert_eq!(image.space.end(), 3 * PAGE as u64);
    assert!(image.space.read_vec(PAGE as u64, PAGE as u64, PAGE).unwrap() == page(1));
}

#[test]
fn physical_addresses_are_those_of_the_headers_or_of_the_direct_map() {
    for core in [kcore(|physical| physical), kcore(|_| 0)] {
        let image = open_space(Arc::new(FileSpace::from_vec(core)), &Limits::default()).unwrap();
        for number in [1, 2, 3, 16, 17] {
            let found = image.space.read_vec(number * PAGE as u64, PAGE as u64, PAGE).unwrap();
            assert!(found == page(number), "page {number}");
        }
        assert!(image.space.read_u8(0).is_err() && image.space.read_u8(18 * PAGE as u64).is_err());
    }
}
