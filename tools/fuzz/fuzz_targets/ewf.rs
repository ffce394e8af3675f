//! Opens the input as EWF and reads what opens.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::format("EWF", data));
