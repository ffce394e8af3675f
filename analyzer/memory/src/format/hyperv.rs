//! Saved states of Hyper-V, recognised so that nobody takes one for memory: `.vmrs` by its signature, the `.bin`
//! and `.vsv` of older versions by each other. Their layout is not documented; Microsoft's debugger reads them
//! and writes a crash dump.

use crate::bytes::u32_at;
use crate::format::{Layer, Opened, Refused};

/// `HyperVStorageHeader` of `.vmrs` and `.vmcx` files.
const STORAGE: u32 = 0x0128_2014;

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    let beside = |extension: &str| layer.beside.with_extension(extension, layer.limits).is_some();
    let pair = layer.beside.name().is_some_and(|(_, own)| match own.to_ascii_lowercase().as_str() {
        "bin" => beside("vsv"),
        "vsv" => beside("bin"),
        _ => false,
    });
    if u32_at(layer.head, 0) == Some(STORAGE) || pair { Ok(()) } else { Err("no saved state of Hyper-V") }
}

pub(super) fn open(_layer: &Layer<'_>) -> Result<Opened, Refused> {
    Err(Refused::Foreign(
        "a saved state of Hyper-V; open it in WinDbg, write a crash dump with .dump /f, and open that",
    ))
}
