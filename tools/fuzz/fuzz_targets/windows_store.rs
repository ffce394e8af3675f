//! Runs a command of Windows over a machine's memory with words of its compressed store changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::walks::store(data));
