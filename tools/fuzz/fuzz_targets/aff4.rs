//! Opens the input as AFF4 and reads what opens.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::format("AFF4", data));
