//! Windows: identification of kernels, and walks and decoders over their structures.
//!
//! ```text
//! roots, evidence, identify, verify   which kernel, where, described by which profile
//! kernel, paged, compressed_store     its types over memory whose pages may be elsewhere
//! process, parameters, thread, vad, module, library   what runs, and what it maps
//! page_state, page_frame, pagefile, regions   where pages are, and what ranges are for
//! executable                          files made of executables in memory
//! object_header, names, handle, views objects and the tables that lead to them
//! namespace, driver, token             what objects are there, what drivers serve, what processes may do
//! scan, scan_range, pool, reverse, object_scan   what remains in physical memory
//! net                                  connections and sockets
//! callback, timer                      what the kernel will call
//! pool_descriptor, pool_tracker        what the kernel says of its pools
//! resolver                            names of addresses
//! ```

pub mod callback;
mod compressed_store;
pub mod debugger_data;
pub mod driver;
mod dump_header;
mod evidence;
pub mod executable;
pub mod handle;
mod identify;
mod indexes;
pub mod info;
mod kernel;
pub mod library;
pub mod module;
pub mod module_scan;
pub mod mutant;
pub mod names;
pub mod namespace;
pub mod net;
pub mod object_header;
pub mod object_scan;
mod overlay;
pub mod page_frame;
pub mod page_state;
pub mod paged;
pub mod pagefile;
mod parameters;
pub mod physical_runs;
pub mod pool;
pub mod pool_descriptor;
pub mod pool_tracker;
pub mod process;
pub mod process_scan;
pub mod processor;
mod ranges;
pub mod regions;
mod remembered;
pub mod resolver;
pub mod reverse;
mod roots;
pub mod scan;
pub mod scan_range;
pub mod service_table;
pub mod sid;
pub mod thread;
pub mod thread_scan;
pub mod time;
pub mod timer;
pub mod token;
pub mod tree;
mod triage;
pub mod unicode;
pub mod unloaded;
pub mod vad;
mod verify;
pub mod views;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use memory::{AddressSpace as _, Image, VirtualSpace};

pub use compressed_store::StoredPage;
pub use dump_header::dump_header;
pub use kernel::{Kernel, KernelFact, Layout, is_kernel, types};
pub use process::{Process, ProcessFilter, processes};
pub use roots::Version;

/// Whether cheap evidence says that an image is of Windows; no search, no proof.
#[must_use]
pub fn looks_like(image: &Image) -> bool {
    let told = image.hints.windows.as_ref().is_some_and(|windows| windows.machine.is_some());
    told || roots::quick(image)
        .iter()
        .any(|root| roots::test(&image.space, root).is_some_and(|quality| quality.shared_data))
}

/// Page table roots in an image: address, whether they map the kernel's image as the kernel's own do, and what a test found.
/// The first is the one in use.
#[must_use]
pub fn root_candidates(image: &Image, kernel: &Kernel) -> Vec<(u64, bool, String)> {
    let mut evidence = evidence::Evidence::quick(image);
    evidence.scan(image);
    let mut found = vec![(kernel.dtb(), true, "in use".to_owned())];
    for (quality, root) in evidence.roots {
        let tables = VirtualSpace::new(Arc::clone(&image.space), root.paging, root.dtb);
        let wanted = kernel.space().tables().translate(kernel.base());
        let valid = wanted.is_ok() && tables.translate(kernel.base()) == wanted;
        let shared = if quality.shared_data { "shared page found" } else { "no shared page" };
        let comment = format!(
            "{}, {}, {shared}, {} entries of the kernel's half",
            root.source, root.paging.name, quality.population
        );
        found.push((root.dtb, valid, comment));
    }
    found
}
