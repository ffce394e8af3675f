//! Files made of modules in memory.

use std::io::Cursor;
use std::sync::Arc;

use analyzer::pe::Pe;
use memory::{AddressSpace, FileSpace, Overlap, Run, RunSpace};
use object::Absent;

use crate::agreement::loaded;
use crate::fixture::{made, space};
use crate::readobj::readobj;

const PAGE: u64 = 4096;
const BASE: u64 = 0x7f_0000;

/// The module at [`BASE`] of a memory that has nothing else, without some of its pages.
fn sparse(module: Vec<u8>, missing: &[u64]) -> Arc<dyn AddressSpace> {
    let pages = module.len() as u64 / PAGE;
    let there = (0..pages).filter(|page| !missing.contains(page));
    let runs = there.map(|page| Run { start: BASE + page * PAGE, len: PAGE, target: page * PAGE }).collect();
    Arc::new(RunSpace::new("sparse", Arc::new(FileSpace::from_vec(module)), runs, Overlap::FirstWins))
}

fn rebuild(memory: &Arc<dyn AddressSpace>, max_len: u64) -> (Vec<u8>, analyzer::pe::Rebuilt) {
    let mut file = Cursor::new(Vec::new());
    let rebuilt = Pe::mapped(memory, BASE).unwrap().rebuild(&mut file, max_len).unwrap();
    assert_eq!(file.get_ref().len() as u64, rebuilt.len);
    (file.into_inner(), rebuilt)
}

#[test]
fn a_rebuilt_library_equals_its_file() {
    for path in made() {
        let Some(module) = loaded(path) else { return };
        let (file, rebuilt) = rebuild(&sparse(module, &[]), 1 << 30);
        assert_eq!(rebuilt.losses, []);
        assert!(file == std::fs::read(path).unwrap(), "{} differs", path.display());
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().join("rebuilt.dll");
        std::fs::write(&written, file).unwrap();
        let (Some(truth), Some(again)) = (readobj(path), readobj(&written)) else { return };
        assert_eq!(truth.all("Section").len(), again.all("Section").len());
        assert_eq!(truth.one("PDBInfo").text("PDBGUID"), again.one("PDBInfo").text("PDBGUID"));
    }
}

#[test]
fn missing_pages_are_zeros_and_reported() {
    for path in made() {
        let Some(module) = loaded(path) else { return };
        let whole = Pe::mapped(&space(module.clone()), 0).unwrap();
        let text =
            whole.headers().sections.items.iter().find(|section| section.name == ".text").unwrap().clone();
        let (file, rebuilt) = rebuild(&sparse(module, &[u64::from(text.rva) / PAGE]), 1 << 30);
        assert_eq!(rebuilt.losses.len(), 1);
        assert_eq!(
            (rebuilt.losses[0].part.as_str(), rebuilt.losses[0].missing),
            (".text", text.raw_size.into())
        );
        assert!(
            matches!(rebuilt.losses[0].why, Absent::Unreadable { addr, .. } if addr == BASE + u64::from(text.rva))
        );
        let original = std::fs::read(path).unwrap();
        let from = usize::try_from(text.raw_offset).unwrap();
        let to = from + usize::try_from(text.raw_size).unwrap();
        assert!(file[from..to].iter().all(|byte| *byte == 0));
        assert!(file[..from] == original[..from] && file[to..] == original[to..]);
    }
}

#[test]
fn a_forged_table_makes_no_large_file() {
    for path in made() {
        let Some(mut module) = loaded(path) else { return };
        let whole = Pe::mapped(&space(module.clone()), 0).unwrap();
        let headers = whole.headers();
        let table =
            usize::try_from(headers.nt_offset).unwrap() + 24 + usize::from(headers.size_of_optional_header);
        // Virtual size, raw size and offset in the file of the first section.
        for field in [8, 16, 20] {
            module[table + field..table + field + 4].copy_from_slice(&0xffff_f000_u32.to_le_bytes());
        }
        let (file, rebuilt) = rebuild(&sparse(module, &[]), 1 << 20);
        assert!(file.len() <= 1 << 20);
        assert!(rebuilt.losses.iter().any(|loss| matches!(loss.why, Absent::Malformed(_))));
    }
}
