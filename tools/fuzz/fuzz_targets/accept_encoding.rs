//! Reads the input as an `Accept-Encoding` header.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::requests::encoding(data));
