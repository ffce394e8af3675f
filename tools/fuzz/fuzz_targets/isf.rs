//! Reads the input as a symbol table of Volatility 3 and writes it again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::documents::isf(data));
