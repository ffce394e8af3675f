//! Linux: identification of kernels, and walks and decoders over their structures.

pub mod file;
mod identify;
mod kernel;
mod overlay;
pub mod path;
pub mod task;
mod time;
pub mod vfs;
mod vmcoreinfo;

pub use identify::{Hypothesis, Located, located};
pub use kernel::{Kernel, KernelFact, Layout};
pub use task::{ProcessFilter, Task, processes};
pub use vmcoreinfo::VmcoreInfo;
