//! Parses the input as BTF.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::symbols::btf(data));
