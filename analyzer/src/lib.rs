//! The analyzer: plugins over memory images.
//!
//! ```text
//! main.rs ─► cli::main ─► plugins::find ─► Plugin::collect ─► os ─► object ─► memory
//!                │                              │ rows
//!                └──────────► render ◄──────────┘
//! ```

pub mod cli;
pub mod copied;
pub mod diagnosis;
pub mod disassembly;
pub mod dump_file;
pub mod elf;
pub mod error;
pub mod hexdump;
pub mod manage;
pub mod module_profile;
pub mod notes;
pub mod os;
pub mod output;
pub mod parse;
pub mod pe;
pub mod plugin;
pub mod plugins;
pub mod profile_file;
pub mod progress;
pub mod render;
pub mod session;
pub mod table;
