//! Functions that are called when others are entered (include/linux/ftrace.h, kernel/trace/ftrace.c).

use std::collections::BTreeSet;

use object::{Absent, Ptr, Read, Target, Uint, layout, walk};

use crate::notes::Notes;

/// Most entries of the list, and most functions one of them hooks.
const MAX_OPS: usize = 1 << 12;
const MAX_FUNCTIONS: usize = 1 << 17;
/// Most buckets of a table of functions: `FTRACE_HASH_MAX_BITS` is 12.
const MAX_BITS: u64 = 12;

layout! {
    /// `ftrace_ops`: someone who wants to be called.
    pub struct Ops / OpsLayout = "ftrace_ops" {
        /// The function that is called.
        func: Ptr = "func",
        /// Next one on the list.
        next: Ptr = "next",
        /// `FTRACE_OPS_FL_*`.
        flags: Uint = "flags",
        /// Code made for this one, or null; absent on old kernels.
        trampoline: Ptr = "trampoline",
        /// Bytes of it.
        trampoline_size: Uint = "trampoline_size",
        /// Which functions it is called from; from Linux commit 33b7f99cf003 (v3.18).
        hashes: Ptr = "func_hash",
    }

    struct Hashes / HashesLayout = "ftrace_ops_hash" {
        filter: Ptr = "filter_hash",
    }

    struct Hash / HashLayout = "ftrace_hash" {
        bits: Uint = "size_bits",
        buckets: Ptr = "buckets",
        count: Uint = "count",
    }

    struct Hooked / HookedLayout = "ftrace_func_entry" {
        address: Uint = "ip",
    }
}

/// Everyone on `ftrace_ops_list`.
///
/// # Errors
/// What the profile lacks (a kernel without `CONFIG_FUNCTION_TRACER`), or why the list cannot be read.
pub fn hooks<'t>(notes: &Notes, target: &'t Target) -> Read<Vec<Ops<'t>>> {
    let end = target.symbol("ftrace_list_end")?;
    let first = target.read_ptr(target.symbol("ftrace_ops_list")?)?;
    let next = |ops| Ops::at(target, ops).next().map(|Ptr(next)| if next == end { 0 } else { next });
    let walked = walk::chain(if first == end { 0 } else { first }, MAX_OPS, next);
    notes.walk("ftrace_ops_list", &walked.end);
    Ok(walked.nodes.into_iter().map(|ops| Ops::at(target, ops)).collect())
}

impl Ops<'_> {
    /// Places in functions it is called from, ascending; not applicable where it is called from all of them.
    pub fn functions(&self, notes: &Notes) -> Read<Vec<u64>> {
        let target = self.target();
        let hashes = self.hashes()?.non_null("no table of functions")?;
        let filter = Hashes::at(target, hashes).filter()?.non_null("called from all functions")?;
        let hash = Hash::at(target, filter);
        if hash.count()?.0 == 0 {
            return Err(Absent::NotApplicable("called from all functions"));
        }
        let (Uint(bits), buckets) = (hash.bits()?, hash.buckets()?.non_null("no table of functions")?);
        if bits > MAX_BITS {
            return Err(Absent::Malformed("table of functions is larger than any"));
        }
        let width = u64::from(target.types().model().pointer_size());
        let mut found = BTreeSet::new();
        for bucket in 0..1u64 << bits {
            let walked = walk::hlist(target, buckets.wrapping_add(bucket.wrapping_mul(width)));
            notes.walk("ftrace_hash", &walked.end);
            for entry in walked.nodes {
                found.insert(Hooked::at(target, entry).address()?.0);
            }
            if found.len() > MAX_FUNCTIONS {
                return Err(Absent::Malformed("table of functions is larger than any"));
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Whether an address is in the code made for it.
    pub fn has_trampoline(&self, address: u64) -> bool {
        match (self.trampoline(), self.trampoline_size()) {
            (Ok(Ptr(start)), Ok(Uint(size))) => start != 0 && address.wrapping_sub(start) < size,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{Memory, texts};
    use super::*;

    const STRUCTS: &str = r#"{"ftrace_ops": [48, {"func": [0, ["Pointer"]], "next": [8, ["Pointer"]], "func_hash": [16, ["Pointer"]],
        "trampoline": [24, ["Pointer"]], "trampoline_size": [32, ["unsigned long"]]}],
        "ftrace_ops_hash": [16, {"filter_hash": [8, ["Pointer"]]}],
        "ftrace_hash": [32, {"size_bits": [0, ["unsigned long"]], "buckets": [8, ["Pointer"]], "count": [16, ["unsigned long"]]}],
        "ftrace_func_entry": [24, {"ip": [16, ["unsigned long"]]}]}"#;

    /// One `ftrace_ops` at 0x2000 with a table of two buckets.
    fn memory() -> Memory {
        let mut memory = Memory::default();
        memory.word(0x1000, 0x2000).words(0x2000, &[0xf00, 0x1100, 0x3000, 0x7000, 0x100]);
        memory.words(0x3000, &[0, 0x3100]).words(0x3100, &[1, 0x3200, 2]).words(0x3200, &[0x4000, 0x4100]);
        memory.words(0x4000, &[0, 0, 0xb00]).words(0x4100, &[0, 0, 0xa00]);
        memory
    }

    const SYMBOLS: [(&str, u64); 2] = [("ftrace_ops_list", 0x1000), ("ftrace_list_end", 0x1100)];

    #[test]
    fn functions_come_from_all_buckets() {
        let target = memory().target(STRUCTS, &SYMBOLS);
        let notes = Notes::default();
        let found = hooks(&notes, &target).expect("a kernel with ftrace");
        let [ops] = found.as_slice() else { panic!("one") };
        assert_eq!(ops.functions(&notes), Ok(vec![0xa00, 0xb00]));
        assert!(ops.has_trampoline(0x70ff) && !ops.has_trampoline(0x7100) && !ops.has_trampoline(0x6fff));
        assert!(texts(&notes).is_empty());
    }

    #[test]
    fn a_list_that_loops_and_a_table_too_large_are_told() {
        let mut memory = memory();
        memory.word(0x2008, 0x2000).word(0x3100, 60);
        let target = memory.target(STRUCTS, &SYMBOLS);
        let notes = Notes::default();
        let found = hooks(&notes, &target).expect("a kernel with ftrace");
        assert_eq!(found.len(), 1);
        assert!(matches!(found[0].functions(&notes), Err(Absent::Malformed(_))));
        assert_eq!(texts(&notes), ["list ftrace_ops_list ends in a loop at 0x2000"]);
    }
}
