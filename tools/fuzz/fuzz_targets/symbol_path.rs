//! Reads the input as a symbol path, a pointer file and a file name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::symbols::symbol_path(data));
