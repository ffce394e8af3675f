//! Reads the input as a `Range` header.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::requests::range(data));
