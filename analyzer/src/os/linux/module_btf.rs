//! Types of loaded modules, from the BTF that the kernel keeps of each (`btf_modules` of kernel/bpf/btf.c, what
//! `/sys/kernel/btf/NAME` shows; from v5.11, with `CONFIG_DEBUG_INFO_BTF_MODULES`).
//!
//! The BTF of a module continues that of the kernel, which `__start_BTF` marks in the kernel's image. Truth: `pahole` on the `.ko` of
//! the guests' packages.

use std::sync::Arc;

use object::walk::{self, End};
use object::{Absent, Addr, Ptr, Read, Target, Text, Types, Uint, layout};
use profile::Profile;

use super::Kernel;
use super::module::Module;
use crate::table::text_of;

/// Most bytes of the BTF of a kernel, and of a module.
const MAX_BTF: usize = 64 << 20;
/// Most modules with BTF.
const MAX_MODULES: usize = 1 << 16;

layout! {
    struct Entry / EntryLayout = "btf_module" {
        list: Addr = "list",
        module: Ptr = "module",
        btf: Ptr = "btf",
    }

    struct Btf / BtfLayout = "btf" {
        data: Ptr = "data",
        size: Uint = "data_size",
    }
}

/// Name and address of the `struct btf` of each module that has one, and how the walk of the list ended.
pub fn modules(target: &Target) -> Read<(Vec<(String, u64)>, End)> {
    let head = target.symbol("btf_modules")?;
    let walked = walk::list_capped(target, head, MAX_MODULES);
    let link = target.offset_of(Entry::STRUCT, "list")?;
    let found = walked.containers(link).filter_map(|addr| {
        let entry = Entry::at(target, addr);
        let (Ptr(module), Ptr(btf)) = (entry.module().ok()?, entry.btf().ok()?);
        let Text(name) = Module::at(target, module).name().ok()?;
        Some((text_of(&name), btf))
    });
    Ok((found.collect(), walked.end))
}

/// Names of the modules that may define a struct: those whose BTF has its name.
pub fn naming(kernel: &Kernel, structure: &str) -> Vec<String> {
    let target = kernel.target();
    let needle = [b"\0", structure.as_bytes(), b"\0"].concat();
    let has = |btf: u64| {
        let btf = Btf::at(target, btf);
        let (Ptr(data), Uint(size)) = (btf.data().ok()?, btf.size().ok()?);
        let bytes = target.read_bytes(data, size, MAX_BTF).ok()?;
        memchr::memmem::find(&bytes, &needle)
    };
    let Ok((known, _)) = modules(target) else { return Vec::new() };
    known.into_iter().filter(|(_, btf)| has(*btf).is_some()).map(|(name, _)| name).collect()
}

/// The types a module defines, over the kernel's memory; those it shares with the kernel are in the kernel's profile.
///
/// # Errors
/// [`Absent::NotApplicable`] where the kernel keeps no BTF of a loaded module of that name, else what is missing or damaged.
pub(super) fn types(kernel: &Kernel, name: &str) -> Read<Target> {
    let target = kernel.target();
    let none = Absent::NotApplicable("the kernel keeps no BTF of such a module");
    let (known, _) = match modules(target) {
        Err(Absent::NoProfile(_)) => return Err(none),
        known => known?,
    };
    let (_, btf) = known.into_iter().find(|(known, _)| known == name).ok_or(none)?;
    let btf = Btf::at(target, btf);
    let (Ptr(data), Uint(size)) = (btf.data()?, btf.size()?);
    let module = target.read_bytes(data, size, MAX_BTF)?;
    let document = profile_gen::module_types(kernel.btf()?, &module)
        .map_err(|_| Absent::Malformed("damaged BTF of a module"))?;
    let profile = Profile::parse_text(document.to_canonical_json())
        .map_err(|_| Absent::Malformed("types that make no profile"))?;
    let types = Types::new(Arc::new(profile), target.types().model(), &[]);
    Ok(Target::new(Arc::new(types), Arc::clone(target.shared_space()), 0, u64::MAX))
}

/// The kernel's own BTF, out of its image.
pub(super) fn of_kernel(target: &Target) -> Read<Vec<u8>> {
    let (start, end) = (target.symbol("__start_BTF")?, target.symbol("__stop_BTF")?);
    let len = end.checked_sub(start).filter(|len| *len > 0).ok_or(Absent::Malformed("BTF without an end"))?;
    if usize::try_from(len).is_ok_and(|len| len <= MAX_BTF) {
        target
            .space()
            .read_vec(start, len, MAX_BTF)
            .map_err(|fault| Absent::Unreadable { addr: start, fault })
    } else {
        Err(Absent::Malformed("length beyond its limit"))
    }
}
