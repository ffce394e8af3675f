//! Bytes of a memory image: formats, page tables, caches. Knows no symbol, no operating system, no profile.
//!
//! ```text
//! file ─► gzip, xz, zstd, EWF, pieces ─► LiME, ELF core, crash dump, AFF4, raw, ... ─► page tables
//!         (FileSpace, BlockSpace)        physical memory (Image::space)             VirtualSpace
//! ```
//! Every layer is an [`AddressSpace`] over the one below. [`open`] stacks them by content, round by round
//! ([`format::FORMATS`]); [`VirtualSpace`] puts a table-driven walker ([`paging::Paging`]) on top. A read
//! gives all bytes or one [`Fault`]; [`AddressSpace::read_padded`] fills gaps with zeros and counts them.
//!
//! Everything an image says is untrusted: no size from it allocates without a cap ([`Limits`]), no loop is
//! bounded by it alone.

mod beside;
mod bitmap;
mod blocks;
mod bytes;
mod cache;
mod codec;
mod device;
mod fault;
mod file;
pub mod format;
mod hints;
mod image;
mod join;
mod lzo_rle;
mod mmap;
pub mod paging;
mod runs;
mod scan;
mod space;
mod spool;
pub mod write;
mod xpress;
mod xz;
mod zeros;
mod zstd;

pub use beside::Beside;
pub use codec::{Codec, decompress};
pub use fault::Fault;
pub use file::FileSpace;
pub use hints::{BugCheck, Cpu, Driver, Hints, WindowsHints};
pub use image::{Failure, Image, Limits, OpenError, Refusal, open, open_space};
pub use paging::{Next, Paging, Step, VirtualSpace};
pub use runs::{Overlap, RunSpace, normalize};
pub use scan::{CHUNK, Piece, find_bytes, scan, scan_first};
pub use space::{AddressSpace, Gaps, Run, Stored, read_by_page};
