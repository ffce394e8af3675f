//! Operating systems: which one an image runs, and walks and decoders over the structures of each.
//!
//! ```text
//! system.rs        which system runs, cheapest evidence first
//! linux, windows   its kernel (`KernelFact`), processes, modules, ...
//! symbols.rs, address_space.rs, expression.rs, translation.rs   what both have: names of addresses, `K`, `P`, `pid@N`
//! kept.rs, pages.rs   pages that were decompressed; pages in order, also those kept elsewhere
//! ```

pub mod address_space;
pub mod expression;
mod kept;
pub mod linux;
pub mod pages;
pub mod search;
pub mod symbols;
pub mod system;
pub mod translation;
pub mod windows;
pub mod yara;

pub use system::{Kernel, System, SystemFact};
