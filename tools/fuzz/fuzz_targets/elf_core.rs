//! Opens the input as ELF core and reads what opens.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::format("ELF core", data));
