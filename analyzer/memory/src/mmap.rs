//! The one module that holds `unsafe`: mapping an image file into memory.

#![expect(unsafe_code, reason = "mapping a file is unsafe by nature; confined to this module")]

use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io;

/// Maps the first `len` bytes of `file`, read only and private.
///
/// A file that another process truncates while it is mapped makes later reads of the lost pages end this
/// process with `SIGBUS`; that is the price of reading at memory speed. Copy an image that is still being
/// written before analysing it.
///
/// # Errors
/// The error of the operating system: pipes, character devices and some file systems cannot be mapped.
pub(crate) fn map(file: &File, len: usize) -> io::Result<Mmap> {
    // SAFETY: the mapping is private and never written through. Reading bytes that another process changes at
    // the same time gives old or new bytes, never an invalid value, because everything here is read as `u8`.
    // Truncation is documented above.
    unsafe { MmapOptions::new().len(len).map(file) }
}
