//! Commands for Windows images.

pub mod pslist;
