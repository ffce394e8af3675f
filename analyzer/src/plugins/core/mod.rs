//! Commands for any image, and those that need none.

pub mod info;
