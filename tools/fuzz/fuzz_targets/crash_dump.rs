//! Opens the input as Windows crash dump and reads what opens.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::format("Windows crash dump", data));
