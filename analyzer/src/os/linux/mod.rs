//! Linux: identification of kernels, and walks and decoders over their structures.

mod arch;
pub mod bash;
pub mod capability;
mod carve;
pub mod code;
pub mod command_line;
pub mod core_dump;
pub mod cpu;
pub mod file;
#[cfg(test)]
mod fixture;
pub mod ftrace;
mod identify;
pub mod inline_hook;
pub mod kallsyms;
mod kernel;
mod linear;
pub mod maple;
pub mod mm;
pub mod module;
pub mod module_file;
pub mod module_views;
pub mod mount;
pub mod net;
pub mod notifier;
pub mod operations;
mod overlay;
pub mod page_cache;
pub mod page_state;
pub mod parameter;
pub mod path;
pub mod printk;
pub mod proc;
mod ram_start;
pub mod rbtree;
pub mod resolver;
pub mod resource;
pub mod task;
pub mod task_scan;
#[cfg(test)]
mod testkit;
mod time;
pub mod tracepoint;
pub mod tree;
pub mod tty;
pub mod utsname;
mod verify;
pub mod vfs;
pub mod views;
mod vmcoreinfo;
pub mod xarray;

pub use carve::profile_of_image;
pub use identify::{Hypothesis, Located, located, looks_like};
pub use kernel::{Kernel, KernelFact, Layout, types};
pub use task::{ProcessFilter, Task, processes};
pub use vmcoreinfo::VmcoreInfo;
