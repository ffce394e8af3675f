//! The values that belong to the names: absolute addresses, or offsets from a base.

use super::Memory;
use super::names::{Stream, Tokens};

/// Bytes of an offset.
const OFFSET: usize = 4;
/// Of this many neighbours one pair may be out of order: symbols that alias the end of a section are.
const DISORDER: usize = 500;

/// The values of all symbols.
pub(super) struct Values {
    /// By symbol; `None` where missing.
    pub(super) addresses: Vec<Option<u64>>,
    pub(super) description: String,
}

/// Finds the values around the names, in whichever order the parts stand.
pub(super) fn find(memory: Memory<'_>, tokens: &Tokens<'_>, stream: &Stream, width: usize) -> Option<Values> {
    let count = stream.count;
    let offsets = (count * OFFSET).next_multiple_of(width);
    let before = stream.head.checked_sub(width).and_then(|base| Some((base.checked_sub(offsets)?, base)));
    let behind = tokens.end.next_multiple_of(width);
    [before, Some((behind, behind + offsets))]
        .into_iter()
        .flatten()
        .find_map(|(at, base)| from_base(memory, at, memory.word(base, width)?, count, width))
        .or_else(|| absolute(memory, stream.head.checked_sub(count * width)?, count, width))
        .or_else(|| absolute(memory, behind, count, width))
}

fn absolute(memory: Memory<'_>, at: usize, count: usize, width: usize) -> Option<Values> {
    let addresses: Vec<Option<u64>> =
        (0..count).map(|index| memory.word(at + index * width, width)).collect();
    accept(addresses, width, "absolute addresses".to_owned())
}

/// Offsets at `at` from `base`. With `CONFIG_KALLSYMS_ABSOLUTE_PERCPU` those that are not negative are values by
/// themselves, and the others count down from `base - 1` (kernel/kallsyms.c, `kallsyms_sym_address`).
fn from_base(memory: Memory<'_>, at: usize, base: u64, count: usize, width: usize) -> Option<Values> {
    if !is_kernel(base, width) {
        return None;
    }
    let offsets: Vec<Option<u32>> = (0..count)
        .map(|index| memory.word(at + index * OFFSET, OFFSET).and_then(|word| u32::try_from(word).ok()))
        .collect();
    let wrap = |value: u64| if width == 4 { value & 0xffff_ffff } else { value };
    let plain = |offset: u32| wrap(base.wrapping_add(offset.into()));
    let per_cpu = |offset: u32| match offset.cast_signed() {
        negative @ ..0 => wrap(base.wrapping_sub(1).wrapping_sub(i64::from(negative).cast_unsigned())),
        value => u64::from(value.cast_unsigned()),
    };
    let with = |value: &dyn Fn(u32) -> u64| offsets.iter().map(|offset| offset.map(value)).collect();
    accept(with(&plain), width, format!("offsets from {base:#x}"))
        .or_else(|| accept(with(&per_cpu), width, format!("offsets down from {base:#x}, or values")))
}

/// Values are sorted, and most are kernel addresses.
fn accept(addresses: Vec<Option<u64>>, width: usize, description: String) -> Option<Values> {
    let known: Vec<u64> = addresses.iter().copied().flatten().collect();
    let wrong = known.windows(2).filter(|pair| pair.first() > pair.last()).count();
    let kernel = known.iter().filter(|&&address| is_kernel(address, width)).count();
    // A run of equal values is sorted too, but no symbol table.
    let differ = known.first() != known.last();
    (differ
        && wrong * DISORDER <= known.len()
        && kernel * 2 > known.len()
        && known.len() * 2 > addresses.len())
    .then_some(Values { addresses, description })
}

/// Whether an address is in the upper half, where kernels are linked.
fn is_kernel(address: u64, width: usize) -> bool {
    address >> (width * 8 - 1) == 1
}
