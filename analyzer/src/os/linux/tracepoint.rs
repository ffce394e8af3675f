//! Tracepoints and who listens to them (include/linux/tracepoint-defs.h, kernel/tracepoint.c).

use object::{Absent, Ptr, Read, Target, layout};
use profile::Type;

use super::module::modules;
use crate::error::Error;
use crate::notes::Notes;
use crate::table::text_of;

/// Most tracepoints of the kernel or one module, most listeners of one, and longest name.
const MAX_TRACEPOINTS: u64 = 1 << 16;
const MAX_PROBES: u64 = 1 << 10;
const MAX_NAME: usize = 256;

layout! {
    struct Owner / OwnerLayout = "module" {
        pointers: Ptr = "tracepoints_ptrs",
        count: u32 = "num_tracepoints",
    }

    /// `tracepoint`: a place that tells listeners when it is passed.
    pub struct Tracepoint / TracepointLayout = "tracepoint" {
        /// Name: a string.
        name: Ptr = "name",
        /// Array of listeners, or null.
        probes: Ptr = "funcs",
    }

    /// `tracepoint_func`: a listener.
    pub struct Probe / ProbeLayout = "tracepoint_func" {
        /// The function that is called; null ends the array.
        function: Ptr = "func",
        /// What it is given.
        data: Ptr = "data",
        /// Listeners of higher priority are called first; from Linux commit 7904b5c4988e (v4.4).
        priority: i32 = "prio",
    }
}

/// Tracepoints of the kernel, then those of the listed modules.
pub fn tracepoints<'t>(notes: &Notes, target: &'t Target) -> Result<Vec<Tracepoint<'t>>, Error> {
    // Since v4.19 distances from where they stand, on architectures that can (CONFIG_HAVE_ARCH_PREL32_RELOCATIONS).
    let pointers = target.types().resolve(Owner::STRUCT, "tracepoints_ptrs")?.ty;
    let relative = matches!(&pointers, Type::Pointer(to) if !matches!(**to, Type::Pointer(_)));
    let width = if relative { 4 } else { u64::from(target.types().model().pointer_size()) };
    let (start, end) =
        (target.symbol("__start___tracepoints_ptrs")?, target.symbol("__stop___tracepoints_ptrs")?);
    let mut tables = vec![(start, end.saturating_sub(start) / width)];
    for module in modules(notes, target)? {
        let owner = Owner::at(target, module.addr());
        match (owner.pointers(), owner.count()) {
            (Ok(Ptr(first)), Ok(count)) => tables.push((first, count.into())),
            (Err(why), _) | (_, Err(why)) => {
                notes.partial(format!("tracepoints of the module at {:#x}: {why}", module.addr()));
            }
        }
    }
    let mut found = Vec::new();
    for (first, count) in tables {
        if count > MAX_TRACEPOINTS {
            notes.partial(format!("more tracepoints than any module has: {count}"));
        }
        for index in 0..count.min(MAX_TRACEPOINTS) {
            let place = first.wrapping_add(index.wrapping_mul(width));
            let address = match relative {
                true => target
                    .read_u32(place)
                    .map(|distance| place.wrapping_add(i64::from(distance.cast_signed()).cast_unsigned())),
                false => target.read_ptr(place),
            };
            match address {
                Ok(address) => found.push(Tracepoint::at(target, address)),
                Err(why) => notes.partial(format!("tracepoint cannot be found: {why}")),
            }
        }
    }
    Ok(found)
}

impl<'t> Tracepoint<'t> {
    /// Its name.
    pub fn label(&self) -> Read<String> {
        Ok(text_of(&self.target().read_cstr(self.name()?.0, MAX_NAME)?))
    }

    /// Its listeners in the order they are called.
    pub fn listeners(&self) -> Read<Vec<Probe<'t>>> {
        let Ptr(first) = self.probes()?;
        let mut found = Vec::new();
        if first == 0 {
            return Ok(found);
        }
        let stride = self.target().types().struct_size(Probe::STRUCT)?;
        for index in 0..MAX_PROBES {
            let probe = Probe::at(self.target(), first.wrapping_add(stride.wrapping_mul(index)));
            if probe.function()? == Ptr(0) {
                return Ok(found);
            }
            found.push(probe);
        }
        Err(Absent::Malformed("array of listeners does not end"))
    }
}
