//! Linux: identification of kernels, and walks and decoders over their structures.

mod identify;
mod kernel;
mod overlay;
mod scan;
pub mod task;
mod time;
mod vmcoreinfo;

pub use identify::{Hypothesis, Located, located};
pub use kernel::{Kernel, KernelFact, Layout};
pub use task::{ProcessFilter, Task, processes};
pub use vmcoreinfo::VmcoreInfo;
