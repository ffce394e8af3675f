//! Converts the input as `parse_pdb` does.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::symbols::pdb(data));
