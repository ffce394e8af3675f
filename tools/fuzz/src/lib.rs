//! What the fuzz targets do with their input.

pub mod documents;
pub mod executables;
pub mod requests;
pub mod symbols;
pub mod walks;

use memory::format::{FORMATS, Layer};
use memory::{AddressSpace, Beside, FileSpace, Limits, Next, Paging, VirtualSpace, open_space, paging};
use std::sync::Arc;

/// Limits small enough that a run over them shows at once.
const LIMITS: Limits = Limits {
    max_unpacked: 1 << 22,
    max_in_memory: 1 << 20,
    max_runs: 1 << 14,
    max_table: 1 << 20,
    max_layers: 4,
    cache: 1 << 18,
};

/// Opens `data` as one format, whatever its signature.
pub fn format(name: &str, data: &[u8]) {
    let format = FORMATS.iter().find(|format| format.name == name).expect("name of a format");
    let space: Arc<dyn AddressSpace> = Arc::new(FileSpace::from_vec(data.to_vec()));
    let head = &data[..data.len().min(4096)];
    let layer = Layer { base: &space, head, beside: &Beside::none(), limits: &LIMITS };
    let _ = (format.probe)(&layer);
    if let Ok(opened) = (format.open)(&layer) {
        use_space(&*opened.space);
        opened.virtual_space.inspect(|space| use_space(&**space));
    }
}

/// Opens `data` as any format.
pub fn stacking(data: &[u8]) {
    if let Ok(image) = open_space(Arc::new(FileSpace::from_vec(data.to_vec())), &LIMITS) {
        use_space(&*image.space);
        image.virtual_space.inspect(|space| use_space(&**space));
    }
}

/// Reads the first runs of a space and checks what every space promises.
fn use_space(space: &dyn AddressSpace) {
    let mut buffer = vec![0; 10_000];
    let mut end = 0;
    for run in space.runs(0, u64::MAX).take(100) {
        assert!(run.len > 0 && run.start >= end, "runs ascend");
        end = run.end();
        space.read_padded(run.start, &mut buffer);
        let _ = space.read_u64(end.wrapping_sub(4));
    }
    assert!(space.end() >= end, "no run beyond the end");
}

/// Walks `data` as page tables in every mode; translation and explanation must agree.
pub fn page_tables(data: &[u8]) {
    let Some((head, tables)) = data.split_at_checked(32) else { return };
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    let physical: Arc<dyn AddressSpace> = Arc::new(FileSpace::from_vec(tables.to_vec()));
    let x86: [&'static Paging; 4] = [&paging::X86, &paging::PAE, &paging::X64, &paging::X64_LA57];
    for mode in x86.into_iter().chain(paging::ARM64) {
        let (root, kernel) = (word(0) % 0x1_0000, word(0) >> 32 & 0xffff);
        let space = VirtualSpace::of_process(Arc::clone(&physical), mode, root, kernel);
        for at in [8, 16, 24] {
            let addr = mode.canonical(word(at));
            let explained = space.explain(addr).pop().expect("a step").next;
            match (space.translate(addr), explained) {
                (Ok(phys), Next::Page { phys: same, .. }) => assert_eq!(phys, same),
                (Err(fault), Next::Fault(same)) => assert_eq!(fault, same),
                other => panic!("{other:?}"),
            }
        }
        use_space(&space);
    }
}
