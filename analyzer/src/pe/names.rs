//! Names of numbers in headers. Source: "PE Format" specification, `winnt.h`.

use super::Headers;
use super::headers::Section;

/// Names of processors.
const MACHINES: &[(u16, &str)] = &[
    (0x0, "IMAGE_FILE_MACHINE_UNKNOWN"),
    (0x14c, "IMAGE_FILE_MACHINE_I386"),
    (0x1c0, "IMAGE_FILE_MACHINE_ARM"),
    (0x1c2, "IMAGE_FILE_MACHINE_THUMB"),
    (0x1c4, "IMAGE_FILE_MACHINE_ARMNT"),
    (0x200, "IMAGE_FILE_MACHINE_IA64"),
    (0x8664, "IMAGE_FILE_MACHINE_AMD64"),
    (0xaa64, "IMAGE_FILE_MACHINE_ARM64"),
    (0xa641, "IMAGE_FILE_MACHINE_ARM64EC"),
    (0xa64e, "IMAGE_FILE_MACHINE_ARM64X"),
];

/// Names of the flags of a file.
const FILE_FLAGS: &[(u16, &str)] = &[
    (0x1, "IMAGE_FILE_RELOCS_STRIPPED"),
    (0x2, "IMAGE_FILE_EXECUTABLE_IMAGE"),
    (0x4, "IMAGE_FILE_LINE_NUMS_STRIPPED"),
    (0x8, "IMAGE_FILE_LOCAL_SYMS_STRIPPED"),
    (0x10, "IMAGE_FILE_AGGRESSIVE_WS_TRIM"),
    (0x20, "IMAGE_FILE_LARGE_ADDRESS_AWARE"),
    (0x80, "IMAGE_FILE_BYTES_REVERSED_LO"),
    (0x100, "IMAGE_FILE_32BIT_MACHINE"),
    (0x200, "IMAGE_FILE_DEBUG_STRIPPED"),
    (0x400, "IMAGE_FILE_REMOVABLE_RUN_FROM_SWAP"),
    (0x800, "IMAGE_FILE_NET_RUN_FROM_SWAP"),
    (0x1000, "IMAGE_FILE_SYSTEM"),
    (0x2000, "IMAGE_FILE_DLL"),
    (0x4000, "IMAGE_FILE_UP_SYSTEM_ONLY"),
    (0x8000, "IMAGE_FILE_BYTES_REVERSED_HI"),
];

/// Names of the further flags.
const DLL_FLAGS: &[(u16, &str)] = &[
    (0x20, "IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA"),
    (0x40, "IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE"),
    (0x80, "IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY"),
    (0x100, "IMAGE_DLLCHARACTERISTICS_NX_COMPAT"),
    (0x200, "IMAGE_DLLCHARACTERISTICS_NO_ISOLATION"),
    (0x400, "IMAGE_DLLCHARACTERISTICS_NO_SEH"),
    (0x800, "IMAGE_DLLCHARACTERISTICS_NO_BIND"),
    (0x1000, "IMAGE_DLLCHARACTERISTICS_APPCONTAINER"),
    (0x2000, "IMAGE_DLLCHARACTERISTICS_WDM_DRIVER"),
    (0x4000, "IMAGE_DLLCHARACTERISTICS_GUARD_CF"),
    (0x8000, "IMAGE_DLLCHARACTERISTICS_TERMINAL_SERVER_AWARE"),
];

/// Names of subsystems.
const SUBSYSTEMS: &[(u16, &str)] = &[
    (0, "IMAGE_SUBSYSTEM_UNKNOWN"),
    (1, "IMAGE_SUBSYSTEM_NATIVE"),
    (2, "IMAGE_SUBSYSTEM_WINDOWS_GUI"),
    (3, "IMAGE_SUBSYSTEM_WINDOWS_CUI"),
    (5, "IMAGE_SUBSYSTEM_OS2_CUI"),
    (7, "IMAGE_SUBSYSTEM_POSIX_CUI"),
    (9, "IMAGE_SUBSYSTEM_WINDOWS_CE_GUI"),
    (10, "IMAGE_SUBSYSTEM_EFI_APPLICATION"),
    (11, "IMAGE_SUBSYSTEM_EFI_BOOT_SERVICE_DRIVER"),
    (12, "IMAGE_SUBSYSTEM_EFI_RUNTIME_DRIVER"),
    (13, "IMAGE_SUBSYSTEM_EFI_ROM"),
    (14, "IMAGE_SUBSYSTEM_XBOX"),
    (16, "IMAGE_SUBSYSTEM_WINDOWS_BOOT_APPLICATION"),
];

/// Names of the data directories.
const DIRECTORIES: [&str; 16] = [
    "IMAGE_DIRECTORY_ENTRY_EXPORT",
    "IMAGE_DIRECTORY_ENTRY_IMPORT",
    "IMAGE_DIRECTORY_ENTRY_RESOURCE",
    "IMAGE_DIRECTORY_ENTRY_EXCEPTION",
    "IMAGE_DIRECTORY_ENTRY_SECURITY",
    "IMAGE_DIRECTORY_ENTRY_BASERELOC",
    "IMAGE_DIRECTORY_ENTRY_DEBUG",
    "IMAGE_DIRECTORY_ENTRY_ARCHITECTURE",
    "IMAGE_DIRECTORY_ENTRY_GLOBALPTR",
    "IMAGE_DIRECTORY_ENTRY_TLS",
    "IMAGE_DIRECTORY_ENTRY_LOAD_CONFIG",
    "IMAGE_DIRECTORY_ENTRY_BOUND_IMPORT",
    "IMAGE_DIRECTORY_ENTRY_IAT",
    "IMAGE_DIRECTORY_ENTRY_DELAY_IMPORT",
    "IMAGE_DIRECTORY_ENTRY_COM_DESCRIPTOR",
    "IMAGE_DIRECTORY_ENTRY_RESERVED",
];

impl Headers {
    /// The processor by name: `IMAGE_FILE_MACHINE_AMD64`, or its number.
    #[must_use]
    pub fn machine_name(&self) -> String {
        name(MACHINES, self.machine)
    }

    /// The subsystem by name, or its number.
    #[must_use]
    pub fn subsystem_name(&self) -> String {
        name(SUBSYSTEMS, self.subsystem)
    }

    /// The flags of the file by name; flags without one as a number.
    #[must_use]
    pub fn characteristics_names(&self) -> Vec<String> {
        flags(FILE_FLAGS, self.characteristics)
    }

    /// The further flags by name; flags without one as a number.
    #[must_use]
    pub fn dll_characteristics_names(&self) -> Vec<String> {
        flags(DLL_FLAGS, self.dll_characteristics)
    }

    /// Name of a data directory by its position; `None` beyond the sixteenth.
    #[must_use]
    pub fn directory_name(index: usize) -> Option<&'static str> {
        DIRECTORIES.get(index).copied()
    }
}

impl Section {
    /// What may be done with its memory: `xrw`, with `-` for what may not.
    #[must_use]
    pub fn permissions(&self) -> String {
        let flag = |bit: u32, letter| if self.characteristics >> bit & 1 == 1 { letter } else { '-' };
        [flag(29, 'x'), flag(30, 'r'), flag(31, 'w')].into_iter().collect()
    }
}

fn name(names: &[(u16, &str)], value: u16) -> String {
    let known = names.iter().find(|(number, _)| *number == value);
    known.map_or_else(|| format!("{value:#x}"), |(_, name)| (*name).to_owned())
}

fn flags(names: &[(u16, &str)], value: u16) -> Vec<String> {
    let set = names.iter().filter(|(bit, _)| value & bit != 0);
    let mut found: Vec<String> = set.map(|(_, name)| (*name).to_owned()).collect();
    let rest = names.iter().fold(value, |rest, (bit, _)| rest & !bit);
    if rest != 0 {
        found.push(format!("{rest:#x}"));
    }
    found
}
