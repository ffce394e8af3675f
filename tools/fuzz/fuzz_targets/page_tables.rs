//! Takes the input as a physical memory full of page tables, its first bytes as root and addresses.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::page_tables(data));
