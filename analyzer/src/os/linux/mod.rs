//! Linux: identification of kernels, and walks and decoders over their structures.

pub mod command_line;
pub mod cpu;
pub mod file;
mod identify;
mod kernel;
pub mod maple;
pub mod mm;
pub mod module;
pub mod mount;
pub mod net;
mod overlay;
pub mod path;
pub mod printk;
pub mod rbtree;
pub mod resource;
pub mod task;
mod time;
pub mod utsname;
pub mod vfs;
mod vmcoreinfo;

pub use identify::{Hypothesis, Located, located};
pub use kernel::{Kernel, KernelFact, Layout};
pub use task::{ProcessFilter, Task, processes};
pub use vmcoreinfo::VmcoreInfo;
