//! Makes memory images of Windows machines, for tests.
//!
//! A [`Machine`] is described step by step: processes, threads, modules, memory areas, handles, drivers, objects. Where the
//! members of each kernel struct stand comes from a profile, by name, so one description comes out right for every kernel
//! that a profile exists for. [`Machine::finish`] gives a [`Snapshot`], whose memory can be damaged on purpose and written in
//! every image format.
//!
//! The maker and the readers share nothing but the profile's JSON: neither page tables nor structures nor formats are read by
//! code of this project while an image is made. All output is deterministic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a maker of test images fails loudly where a description makes no sense"
)]

mod damage;
mod drivers;
mod handles;
mod hooks;
mod image;
mod kernel;
mod layouts;
mod machine;
mod modules;
mod network;
mod objects;
mod pagefile;
mod paging;
pub mod pe;
mod physical;
mod pool;
mod processes;
pub mod profiles;
pub mod scenario;
mod store;
mod system;
mod token;
mod tree;
mod user;
mod vads;
pub mod win7_trial;
mod writers;

pub use damage::Damage;
pub use drivers::{Device, Driver, MAJOR_FUNCTIONS, PlacedDriver, driver_image};
pub use handles::Handle;
pub use hooks::{Callback, Unloaded};
pub use image::Snapshot;
pub use layouts::{Layouts, Place};
pub use machine::{Machine, Record, SpaceId};
pub use modules::Module;
pub use network::{Endpoint, Protocol};
pub use objects::{ObjectOptions, info};
pub use paging::Paging;
pub use physical::{PAGE, Physical};
pub use pool::{Kind, Totals};
pub use processes::{Parameters, Placed, Process, Thread, filetime};
pub use store::{STORE_FILE, STORE_PID, Stored};
pub use system::{Companion, Pdb, System};
pub use token::{Privilege, Token, sid_bytes};
pub use user::user_image;
pub use vads::{Backing, Page, Vad};
pub use writers::CrashDump;
