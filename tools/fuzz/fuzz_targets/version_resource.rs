//! Reads the input as a version resource.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::executables::version_resource(data));
