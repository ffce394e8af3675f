//! Reads the input as a profile, plain or compressed, and decodes all of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::documents::profile(data));
