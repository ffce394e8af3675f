//! Reads the input as a signature, a public key and a secret key.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::requests::signature(data));
