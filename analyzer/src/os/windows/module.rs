//! Modules: drivers and the kernel on the kernel's list, and libraries on the lists of a process.

use object::walk;
use object::{Addr, Ptr, Read, Target, Uint, layout};

use super::unicode;
use crate::error::Error;
use crate::notes::Notes;
use crate::table::ObjRef;

layout! {
    /// `_LDR_DATA_TABLE_ENTRY`: one loaded module.
    pub struct Module / ModuleLayout = "_LDR_DATA_TABLE_ENTRY" {
        /// Link of the list in the order of loading.
        load_links: Addr = "InLoadOrderLinks",
        /// Link of the list in the order of addresses.
        memory_links: Addr = "InMemoryOrderLinks",
        /// Link of the list in the order of initialisation.
        init_links: Addr = "InInitializationOrderLinks | InInitializationOrderModuleList",
        /// Where it is mapped.
        base_pointer: Ptr = "DllBase",
        /// Bytes it takes in memory.
        size: u32 = "SizeOfImage",
        /// Entry point.
        entry_point: Ptr = "EntryPoint",
        /// Path, a `UNICODE_STRING`.
        full_name: Addr = "FullDllName",
        /// File name, a `UNICODE_STRING`.
        base_name: Addr = "BaseDllName",
        /// References, -1 for those that are never unloaded; moved by Windows 8 to where it is of no use.
        load_count_raw: Uint = "LoadCount | ObsoleteLoadCount",
        /// Why it was loaded (`_LDR_DLL_LOAD_REASON`, from Windows 8 on).
        load_reason: Uint = "LoadReason",
        /// When it was loaded, as a `FILETIME` (from Windows 7 on).
        load_time: Uint = "LoadTime",
        /// `TimeDateStamp` of its header: seconds since 1970, or a hash of the build.
        time_stamp: u32 = "TimeDateStamp",
    }
}

impl Module<'_> {
    /// Where it is mapped.
    pub fn base(&self) -> Read<u64> {
        self.base_pointer().map(|Ptr(base)| base)
    }

    /// Its file name.
    pub fn name(&self) -> Read<String> {
        unicode::text_at(self.target(), self.base_name())
    }

    /// Its path, as it was loaded: `\SystemRoot\system32\...` for drivers.
    pub fn path(&self) -> Read<String> {
        unicode::text_at(self.target(), self.full_name())
    }

    /// The cell that stands for it.
    #[must_use]
    pub fn obj_ref(&self) -> ObjRef {
        use crate::table::Cell as _;
        ObjRef { type_name: Self::STRUCT, addr: self.addr(), tags: vec![("name", self.name().into_value())] }
    }
}

/// Modules of the kernel, in the order of loading.
pub fn modules<'k>(notes: &Notes, target: &'k Target) -> Result<Vec<Module<'k>>, Error> {
    let head = target.symbol("PsLoadedModuleList")?;
    let links = target.offset_of(Module::STRUCT, "InLoadOrderLinks")?;
    let walked = walk::list(target, head);
    notes.walk("PsLoadedModuleList", &walked.end);
    Ok(walked.containers(links).map(|addr| Module::at(target, addr)).collect())
}

/// A name of a module as users type it: without its path and extension, in lower case; the kernel is `nt`.
#[must_use]
pub fn short_name(name: &str) -> String {
    let file = name.rsplit(['\\', '/']).next().unwrap_or(name).to_lowercase();
    let stem = match file.rsplit_once('.') {
        Some((stem, "exe" | "dll" | "sys" | "drv" | "ocx" | "cpl" | "efi" | "mui")) => stem,
        _ => &file,
    };
    match stem {
        "ntoskrnl" | "ntkrnlmp" | "ntkrnlpa" | "ntkrpamp" => "nt".to_owned(),
        stem => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::short_name;

    #[test]
    fn modules_are_named_by_their_stem() {
        for (name, short) in [
            (r"\SystemRoot\system32\ntkrnlmp.exe", "nt"),
            ("NTOSKRNL.EXE", "nt"),
            (r"C:\Windows\System32\drivers\tcpip.sys", "tcpip"),
            ("msvcr110.clr0400.dll", "msvcr110.clr0400"),
            ("no.extension", "no.extension"),
            ("", ""),
        ] {
            assert_eq!(short_name(name), short);
        }
    }
}
