//! The table of symbols a kernel exports to modules, read from the memory of a running one.
//!
//! Kernels without `CONFIG_KALLSYMS_ALL` keep the names of code only in kallsyms, but what they export has names of data too,
//! `init_task` among them. An entry is position-independent where the architecture has `CONFIG_HAVE_ARCH_PREL32_RELOCATIONS`
//! (`struct kernel_symbol`, include/linux/export-internal.h): 32-bit distances from the field itself to the object, to the name and,
//! since v5.4, to the name of the namespace. So the table is found from one name, and all of it follows without any address.

use std::collections::HashMap;

use memchr::memmem;

use crate::kallsyms::{Kallsyms, KernelSymbol, Memory};

/// A name that kernels export, as it stands among the names.
const KNOWN: &[u8] = b"\0init_task\0";
/// Bytes of an entry, with and without namespace.
const SIZES: [usize; 2] = [12, 8];
/// Longest name (`KSYM_NAME_LEN`).
const MAX_NAME: usize = 512;
/// Most entries on each side of the known one; kernels export about 20,000 symbols.
const MAX_ENTRIES: usize = 1 << 17;
/// Places of the name, and of distances to it, that are looked at.
const MAX_HITS: usize = 64;
/// Fewest entries of a table, and fewest functions that must agree on where the kernel is.
const MIN_ENTRIES: usize = 100;

/// An exported symbol; the place counts from the start of the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Export {
    name: String,
    place: i64,
}

/// What [`complete`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    /// Symbols that were added.
    pub added: usize,
    /// Run-time address of the first byte of the memory, modulo 2^64.
    pub address: u64,
}

/// Adds the exported symbols that kallsyms lacks. `memory` holds the kernel's read-only data. `None`, and nothing is added, unless
/// the functions that both have agree on where the kernel is.
pub fn complete(memory: Memory<'_>, kallsyms: &mut Kallsyms) -> Option<Completed> {
    let exports = find(memory);
    let mut addresses: HashMap<&str, u64> = HashMap::new();
    for symbol in &kallsyms.symbols {
        addresses.entry(&symbol.name).or_insert(symbol.address);
    }
    // Distance from place to address, by how many functions say so.
    let mut votes: HashMap<u64, usize> = HashMap::new();
    for export in &exports {
        if let Some(address) = addresses.get(export.name.as_str()) {
            *votes.entry(address.wrapping_sub(export.place.cast_unsigned())).or_default() += 1;
        }
    }
    let agreed = votes.into_iter().max_by_key(|(_, votes)| *votes);
    let (distance, _) = agreed.filter(|(_, votes)| *votes >= MIN_ENTRIES)?;
    let new: Vec<KernelSymbol> = exports
        .into_iter()
        .filter(|export| !addresses.contains_key(export.name.as_str()))
        .map(|export| KernelSymbol {
            address: distance.wrapping_add(export.place.cast_unsigned()),
            kind: b'D',
            name: export.name,
        })
        .collect();
    let added = new.len();
    kallsyms.symbols.extend(new);
    Some(Completed { added, address: distance })
}

/// The entries of the table that has the known name; empty where there is none.
fn find(memory: Memory<'_>) -> Vec<Export> {
    for hit in memmem::find_iter(memory.bytes, KNOWN).take(MAX_HITS) {
        let name = hit + 1;
        let fields = (0..memory.bytes.len() / 4).map(|word| word * 4);
        let pointing = fields.filter(|&field| target(memory, field) == Some(name as i64));
        for field in pointing.take(MAX_HITS) {
            let Some(entry) = field.checked_sub(4) else { continue };
            for size in SIZES {
                let exports = around(memory, entry, size);
                if exports.len() >= MIN_ENTRIES {
                    return exports;
                }
            }
        }
    }
    Vec::new()
}

/// The entries before and behind one, as far as they have names.
fn around(memory: Memory<'_>, entry: usize, size: usize) -> Vec<Export> {
    let behind = (0..MAX_ENTRIES).map_while(|number| export(memory, entry.checked_add(number * size)?));
    let before = (1..MAX_ENTRIES).map_while(|number| export(memory, entry.checked_sub(number * size)?));
    behind.chain(before).collect()
}

fn export(memory: Memory<'_>, entry: usize) -> Option<Export> {
    let place = target(memory, entry)?;
    let name = usize::try_from(target(memory, entry + 4)?).ok()?;
    let rest = memory.bytes.get(name..memory.bytes.len().min(name.checked_add(MAX_NAME)?))?;
    let len = rest.iter().position(|&byte| byte == 0)?;
    memory.get(name..name + len)?;
    let text = std::str::from_utf8(rest.get(..len)?).ok()?;
    let plausible = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$');
    (!text.is_empty() && text.bytes().all(plausible)).then(|| Export { name: text.to_owned(), place })
}

/// Where the distance at `field` leads.
fn target(memory: Memory<'_>, field: usize) -> Option<i64> {
    let distance = memory.get(field..field.checked_add(4)?)?.first_chunk::<4>()?;
    i64::try_from(field).ok()?.checked_add(i32::from_le_bytes(*distance).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: usize = 0x4000;
    const ENTRIES: usize = 0x1000;
    const KERNEL: u64 = 0xffff_8000_0800_0000;

    /// A table of `count` functions `f0`, `f1`, ... and, in the middle, `init_task`; entries of 12 bytes.
    fn table(count: usize) -> (Vec<u8>, Kallsyms) {
        let mut bytes = vec![0; 0x10000];
        let mut name_at = NAMES + 1;
        let mut symbols = Vec::new();
        for number in 0..=count {
            let (name, place) = match number.cmp(&(count / 2)) {
                std::cmp::Ordering::Equal => ("init_task".to_owned(), 0x9_0000),
                _ => (format!("f{number}"), 0x1_0000 + number * 16),
            };
            let entry = ENTRIES + number * 12;
            let mut put = |at: usize, to: usize| {
                let distance = i32::try_from(to as i64 - at as i64).unwrap();
                bytes[at..at + 4].copy_from_slice(&distance.to_le_bytes());
            };
            put(entry, place);
            put(entry + 4, name_at);
            bytes[name_at..name_at + name.len()].copy_from_slice(name.as_bytes());
            name_at += name.len() + 1;
            if name != "init_task" {
                symbols.push(KernelSymbol { address: KERNEL + place as u64, kind: b'T', name });
            }
        }
        (bytes, Kallsyms { symbols, lost: 0, values: String::new(), width: 8 })
    }

    #[test]
    fn data_is_found_by_its_name_and_placed_by_the_functions() {
        let (bytes, mut kallsyms) = table(200);
        let found = complete(Memory { bytes: &bytes, missing: &[] }, &mut kallsyms);
        assert_eq!(found, Some(Completed { added: 1, address: KERNEL }));
        assert_eq!(kallsyms.address_of("init_task"), Some(KERNEL + 0x9_0000));
    }

    #[test]
    fn functions_that_disagree_add_nothing() {
        let (bytes, mut kallsyms) = table(200);
        for (number, symbol) in kallsyms.symbols.iter_mut().enumerate() {
            symbol.address += number as u64 * 8;
        }
        assert_eq!(complete(Memory { bytes: &bytes, missing: &[] }, &mut kallsyms), None);
        let missing = vec![std::ops::Range { start: 0x3000, end: 0x5000 }];
        let (bytes, mut kallsyms) = table(200);
        assert_eq!(complete(Memory { bytes: &bytes, missing: &missing }, &mut kallsyms), None);
    }

    #[test]
    fn damaged_tables_end() {
        let (bytes, kallsyms) = table(200);
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..200 {
            let mut damaged = bytes.clone();
            for _ in 0..20 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = usize::try_from(seed >> 33).unwrap() % damaged.len();
                damaged[at] = seed.to_le_bytes()[2];
            }
            let mut found = kallsyms.clone();
            let completed = complete(Memory { bytes: &damaged, missing: &[] }, &mut found);
            let added = completed.map_or(0, |completed| completed.added);
            assert_eq!(found.symbols.len(), kallsyms.symbols.len() + added);
        }
    }
}
