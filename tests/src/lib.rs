//! Compares what `rekal` finds in a memory image with what the guest's own kernel said before it was dumped.
//!
//! - [`truth`] reads the guest's report: a mirror of its `/proc`, from the folder that `tools/guest-image` makes or from
//!   the JSON file beside a committed sample.
//! - [`rekal`] runs the built program and reads its JSON.
//! - [`table`] compares two sets of records and lists every difference.
//! - [`checks`] has one function per command: the records the truth calls for, and those the program gave.
//! - [`lab`] knows the images, kernels and profiles that `tools/guest-image` leaves in the lab folder.
//! - [`emulator`] knows what the emulator says of a guest without asking it.
//! - [`volatility`] runs Volatility 3 on the same images, compares row by row, and knows why each difference is there.
//!
//! [`faults`] is about `repo-server`: what it promises while everything around it fails.

pub mod checks;
pub mod emulator;
pub mod faults;
pub mod lab;
pub mod rekal;
pub mod table;
pub mod truth;
pub mod volatility;
