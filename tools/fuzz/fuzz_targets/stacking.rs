//! Opens the input as `rekal -f` does: any format, any wrappers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::stacking(data));
