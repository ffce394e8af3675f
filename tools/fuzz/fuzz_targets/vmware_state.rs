//! Opens the input as VMware state and reads what opens.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::format("VMware state", data));
