//! Reads the input as a query of `/lookup`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::requests::lookup(data));
