//! Opens the input as QEMU stream and reads what opens.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::format("QEMU stream", data));
