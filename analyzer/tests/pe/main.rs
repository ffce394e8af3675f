//! The PE parser and its commands against `llvm-readobj`, on executables made here by clang, lld and llvm-rc, on those
//! of the test data, and on any in the folder `REKAL_TEST_EXECUTABLES`. Without the tools the tests say so and pass.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

mod agreement;
mod commands;
mod damage;
mod fixture;
mod readobj;
mod rebuild;
