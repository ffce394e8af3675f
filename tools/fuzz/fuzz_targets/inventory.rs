//! Reads the input as a repository's inventory.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::documents::inventory(data));
