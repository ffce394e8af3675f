//! Reads the input as the specification of an index.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::documents::index_spec(data));
