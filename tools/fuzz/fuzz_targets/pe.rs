//! Reads the input as an executable, in a file and mapped.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::executables::pe(data));
