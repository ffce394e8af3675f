//! Windows: identification of kernels, and walks and decoders over their structures.
//!
//! ```text
//! roots, evidence, identify, verify   which kernel, where, described by which profile
//! kernel, paged                       its types over memory whose pages may be elsewhere
//! process, thread, vad, module        what runs, and what it maps
//! object_header, handle, views        objects and the tables that lead to them
//! pool, scan                          what remains in physical memory
//! resolver                            names of addresses
//! ```

mod evidence;
pub mod handle;
mod identify;
mod kernel;
pub mod module;
pub mod object_header;
mod overlay;
pub mod paged;
pub mod process;
pub mod resolver;
mod roots;
pub mod time;
pub mod unicode;
pub mod vad;
mod verify;
pub mod views;

use memory::Image;

pub use kernel::{Kernel, KernelFact, Layout, is_kernel, types};
pub use process::{Process, ProcessFilter, processes};
pub use roots::Version;

/// Whether cheap evidence says that an image is of Windows; no search, no proof.
#[must_use]
pub fn looks_like(image: &Image) -> bool {
    roots::quick(image)
        .iter()
        .any(|root| roots::test(&image.space, root).is_some_and(|quality| quality.shared_data))
}
