//! What virtual machines and acquisition tools write: VMware, Mach-O, Xen, notes of pmem. Built here field by
//! field, because nothing on Linux writes them.

use super::*;
use std::fs;

fn tag(name: &str, indices: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![(indices.len() << 6 | data.len()) as u8, name.len() as u8];
    bytes.extend(name.bytes());
    bytes.extend(u32s(indices));
    bytes.extend(data);
    bytes
}

/// A state with two regions (pages 0 to 3 and, from page 4 of the file on, 16 and 17), CR3 of two CPUs, and the
/// memory itself if `memory` is given.
fn state(version: usize, memory: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = u32s(&[[0xbed2_bed0, 0xbad1_bad1, 0xbed2_bed2, 0xbed3_bed3][version], 8, 2]);
    for (name, at) in [("cpu", 0x200u64), ("memory", 0x300)] {
        let at_name = bytes.len();
        bytes.extend(name.bytes());
        bytes.resize(at_name + 64, 0);
        bytes.extend(u64s(&[at, 0x100]));
    }
    let cpu: Vec<Vec<u8>> = [(0, 0x1a_b000u64), (1, 0x1a_c000)]
        .iter()
        .map(|(cpu, cr3)| tag("CR64", &[*cpu, 3], &cr3.to_le_bytes()))
        .chain([tag("CR64", &[0, 0], &0x8000_0031u64.to_le_bytes()), tag("halted", &[0], &[0])])
        .collect();
    put(&mut bytes, 0x200, &[cpu.concat(), vec![0, 0]].concat());
    let mut regions = tag("align_mask", &[], &u32s(&[0xffff]));
    regions.extend(tag("regionsCount", &[], &u32s(&[2])));
    for (index, [page, stored, count]) in [[0u32, 0, 4], [16, 4, 2]].into_iter().enumerate() {
        for (name, value) in [("regionPageNum", stored), ("regionPPN", page), ("regionSize", count)] {
            regions.extend(tag(name, &[index as u32], &u32s(&[value])));
        }
    }
    if let Some(memory) = memory {
        regions.extend([63, 6]);
        regions.extend(b"Memory");
        let size = memory.len();
        regions.extend(if version == 0 { u32s(&[size as u32; 2]) } else { u64s(&[size as u64; 2]) });
        // Padding up to a page.
        let padding = (0x300 + regions.len() + 2).next_multiple_of(PAGE) - (0x300 + regions.len() + 2);
        regions.extend((padding as u16).to_le_bytes());
        regions.extend(vec![0; padding]);
        regions.extend(memory);
    }
    regions.extend([0, 0]);
    put(&mut bytes, 0x300, &regions);
    bytes
}

fn vmem() -> Vec<u8> {
    [pages(0..4), pages(16..18)].concat()
}

#[test]
fn a_vmem_opens_by_the_state_beside_it_and_without_one_as_raw() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.vmem");
    fs::write(&path, vmem()).unwrap();
    assert_eq!(crate::open(&path, &Limits::default()).unwrap().layers, ["file", "raw"]);
    for (extension, version) in [("vmss", 0), ("vmsn", 2)] {
        let beside = path.with_extension(extension);
        fs::write(&beside, state(version, None)).unwrap();
        for path in [&path, &beside] {
            let image = crate::open(path, &Limits::default()).unwrap();
            assert_eq!(image.layers, ["file", "VMware memory"]);
            assert_test_memory(&image);
            assert_eq!(image.hints.dtb, [0x1a_b000, 0x1a_c000]);
        }
        fs::remove_file(&beside).unwrap();
    }
    fs::write(path.with_extension("vmss"), "not a state").unwrap();
    assert_eq!(crate::open(&path, &Limits::default()).unwrap().layers, ["file", "raw"]);
}

#[test]
fn a_snapshot_alone_holds_the_memory_or_says_where_it_is() {
    for version in [0, 3] {
        let image = opened(state(version, Some(&vmem())));
        assert_eq!(image.layers, ["buffer", "VMware state"]);
        assert_test_memory(&image);
    }
    let Err(Failure::Refused { reason, .. }) = open_bytes(state(2, None)) else { panic!("opened") };
    assert_eq!(reason, "the state holds no memory: put the .vmem file with the same name beside it");
}

/// (vmaddr, content)
fn macho(commands: &[(u32, u64, &[u8])]) -> Vec<u8> {
    let mut bytes = u32s(&[0xfeed_facf, 0x0100_0007, 3, 4, commands.len() as u32, 0, 0, 0]);
    let mut data = 32 + 72 * commands.len();
    put(&mut bytes, 20, &u32s(&[data as u32 - 32]));
    for (index, (kind, start, content)) in commands.iter().enumerate() {
        let at = 32 + 72 * index;
        put(&mut bytes, at, &u32s(&[*kind, 72]));
        put(&mut bytes, at + 24, &u64s(&[*start, content.len() as u64, data as u64, content.len() as u64]));
        put(&mut bytes, at + 71, &[0]);
        put(&mut bytes, data, content);
        data += content.len();
    }
    bytes
}

#[test]
fn macho_cores_are_physical_memory_or_the_kernels_or_a_process() {
    let (low, high) = (pages(0..4), pages(16..18));
    let image = opened(macho(&[(0x19, 0, &low), (0x19, 0x10000, &high)]));
    assert_eq!(image.layers, ["buffer", "Mach-O core"]);
    assert_test_memory(&image);
    let kernel = 0xffff_ff80_0020_0000;
    let image = opened(macho(&[(4, 0, b""), (0x19, kernel, &low)]));
    assert_eq!(image.virtual_space.unwrap().read_u64(kernel + 0x1000), Ok(1));
    assert_eq!(image.space.end(), 0);
    let Err(Failure::NotAnImage { content, .. }) = open_bytes(macho(&[(4, 0, b""), (0x19, 0x10_0000, &low)]))
    else {
        panic!("opened")
    };
    assert_eq!(content, "a core dump of a process, not of a machine");
}

fn xen(pairs: bool) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    put(&mut bytes, 16, &[4, 0, 62, 0, 1]);
    put(&mut bytes, 40, &u64s(&[64]));
    put(&mut bytes, 52, &[64, 0, 0, 0, 0, 0, 64, 0, 4, 0, 1, 0]);
    let names = b"\0.shstrtab\0.xen_pages\0.xen_pfn\0.xen_p2m\0";
    // Pages in no order, one number that is no page.
    let numbers = [16, 17, u64::MAX, 0, 1, 2, 3];
    let content: Vec<u8> =
        numbers.iter().flat_map(|n| if *n == u64::MAX { vec![0xee; PAGE] } else { page(*n) }).collect();
    let list: Vec<u8> =
        numbers.iter().flat_map(|n| if pairs { u64s(&[*n, 0x9999]) } else { u64s(&[*n]) }).collect();
    let mut data = 0x1000;
    let kind = if pairs { 31 } else { 22 };
    for (index, (name, content)) in
        [(1u32, &names[..]), (11, &content), (kind, &list)].into_iter().enumerate()
    {
        let at = 64 + 64 * (index + 1);
        put(&mut bytes, at, &u32s(&[name, 1]));
        put(&mut bytes, at + 24, &u64s(&[data as u64, content.len() as u64]));
        put(&mut bytes, at + 63, &[0]);
        put(&mut bytes, data, content);
        data += content.len();
    }
    bytes
}

#[test]
fn xen_cores_open_by_either_list_of_numbers() {
    for pairs in [false, true] {
        let image = opened(xen(pairs));
        assert_eq!(image.layers, ["buffer", "Xen core"]);
        assert_test_memory(&image);
    }
}

const NOTES: &[u8] = b"---\nRegisters:\n  CR3: 0x1AB000\nKernBase: 0xFFFFF80002653000\n...\n";

#[test]
fn notes_of_pmem_become_hints_behind_raw_memory_and_in_elf() {
    let image = opened([&pages(0..3), NOTES].concat());
    assert_eq!((image.layers[1].as_str(), image.space.end()), ("raw (pmem)", 0x3000));
    assert_eq!(image.hints.dtb, [0x1a_b000]);
    assert_eq!(image.warnings, [""; 0]);
    let low = pages(0..4);
    let image = opened(elf64(&[(1, 0, 0, &low), (0x6d65_6d70, 0, 0, NOTES)]));
    assert_eq!(image.hints.windows.unwrap().kernel_base, Some(0xffff_f800_0265_3000));
    // Text at the end of memory is memory.
    let mut text = pages(0..3);
    text[2 * PAGE + 100..].fill(b'a');
    assert_eq!(opened(text.clone()).space.end(), 0x3000);
    assert_eq!(opened([&text, NOTES].concat()).space.end(), 0x3000);
}

#[test]
fn mutated_vmware_is_survived() {
    survive_mutations(&state(0, Some(&vmem())));
    survive_mutations(&state(2, Some(&vmem())));
}

#[test]
fn mutated_macho_and_xen_are_survived() {
    let low = pages(0..4);
    survive_mutations(&macho(&[(0x19, 0, &low), (4, 0, b""), (0x19, 0xffff_ff80_0020_0000, &low)]));
    survive_mutations(&xen(false));
    survive_mutations(&xen(true));
}

#[test]
fn mutated_notes_of_pmem_are_survived() {
    survive_mutations(&[&pages(0..2), NOTES].concat());
}
