//! Converts the input as `convert_profile` does, be it a zip, an ELF file or BTF.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::symbols::convert(data));
