//! Commands for Windows images.

pub mod dlllist;
pub mod find_dtb;
pub mod handles;
pub mod imageinfo;
pub mod memmap;
pub mod modules;
pub mod pslist;
pub mod psscan;
pub mod pstree;
pub mod psxview;
pub mod raw2dmp;
pub mod threads;
pub mod vad;
pub mod vtop;
