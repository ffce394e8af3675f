//! Reads the input as the path of a URL.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::requests::name(data));
