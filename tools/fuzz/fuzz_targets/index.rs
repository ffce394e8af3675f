//! Reads the input as an index of each kind.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::documents::index(data));
