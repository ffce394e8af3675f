//! Parses the input as `System.map` or `/proc/kallsyms`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::symbols::symbol_list(data));
