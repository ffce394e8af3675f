//! Expands the input as a cabinet of a symbol store.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::symbols::cabinet(data));
