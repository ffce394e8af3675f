//! Commands for Linux images.

pub mod find_dtb;
pub mod find_kaslr;
pub mod pslist;
