//! Opens the input as hibernation file and reads what opens.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::format("hibernation file", data));
