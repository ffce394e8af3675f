//! Opens the input as Mach-O core and reads what opens.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::format("Mach-O core", data));
