//! What the Windows plugins need from a kernel's profile.
//!
//! Names of fields by version of Windows: the profiles of Windows 7, 10 and 11 that the tests read.

use super::{NEED, Need};

/// All needs, the essential ones first.
pub(crate) const NEEDS: &[Need] = &[
    Need {
        name: "process list",
        plugins: &["pslist", "pstree", "psxview", "dlllist", "handles", "vad", "memmap"],
        types: &[
            "_LIST_ENTRY.Flink",
            "_EPROCESS.ActiveProcessLinks",
            "_EPROCESS.UniqueProcessId",
            "_EPROCESS.ImageFileName",
            "_EPROCESS.Pcb",
            "_KPROCESS.DirectoryTableBase",
        ],
        symbols: &["PsActiveProcessHead"],
        essential: true,
        ..NEED
    },
    Need {
        name: "process details",
        plugins: &["pslist", "pstree"],
        types: &[
            "_EPROCESS.InheritedFromUniqueProcessId",
            "_EPROCESS.CreateTime",
            "_EPROCESS.ExitTime",
            "_EPROCESS.ActiveThreads",
            "_EPROCESS.ObjectTable",
            "_EPROCESS.Session",
            "_EPROCESS.Wow64Process|_EPROCESS.WoW64Process",
        ],
        ..NEED
    },
    Need {
        name: "threads",
        plugins: &["threads", "thrdscan"],
        types: &[
            "_EPROCESS.ThreadListHead",
            "_ETHREAD.ThreadListEntry",
            "_ETHREAD.Cid",
            "_CLIENT_ID.UniqueThread",
        ],
        ..NEED
    },
    Need {
        name: "process environment",
        plugins: &["dlllist", "ldrmodules", "pslist", "cmdline"],
        types: &[
            "_EPROCESS.Peb",
            "_PEB.Ldr",
            "_PEB.ProcessParameters",
            "_PEB_LDR_DATA.InLoadOrderModuleList",
            "_LDR_DATA_TABLE_ENTRY.InLoadOrderLinks",
            "_LDR_DATA_TABLE_ENTRY.DllBase",
            "_LDR_DATA_TABLE_ENTRY.SizeOfImage",
            "_LDR_DATA_TABLE_ENTRY.FullDllName",
            "_RTL_USER_PROCESS_PARAMETERS.CommandLine",
            "_UNICODE_STRING.Buffer",
        ],
        ..NEED
    },
    Need {
        name: "virtual address descriptors",
        plugins: &["vad", "memmap", "ldrmodules", "malfind", "vaddump"],
        types: &[
            "_EPROCESS.VadRoot",
            "_RTL_AVL_TREE.Root|_MM_AVL_TABLE.BalancedRoot|_MMVAD.LeftChild",
            "_MMVAD_SHORT.StartingVpn",
            "_MMVAD_SHORT.EndingVpn",
            "_MMVAD.Subsection|_MMVAD.ControlArea",
            "_MMVAD_FLAGS.Protection",
            "_CONTROL_AREA.FilePointer",
            "_FILE_OBJECT.FileName",
        ],
        ..NEED
    },
    Need {
        name: "handles",
        plugins: &["handles"],
        types: &[
            "_EPROCESS.ObjectTable",
            "_HANDLE_TABLE.TableCode",
            "_HANDLE_TABLE_ENTRY.GrantedAccess|_HANDLE_TABLE_ENTRY.GrantedAccessBits",
            "_OBJECT_HEADER.Body",
            "_OBJECT_HEADER.TypeIndex|_OBJECT_HEADER.Type",
            "_OBJECT_TYPE.Name",
        ],
        ..NEED
    },
    Need {
        name: "object types",
        plugins: &["handles", "object_tree", "object_types"],
        when: "_OBJECT_HEADER.TypeIndex",
        symbols: &["ObTypeIndexTable|ObpObjectTypes"],
        ..NEED
    },
    Need {
        name: "object directories",
        plugins: &["object_tree", "driverirp"],
        types: &[
            "_OBJECT_DIRECTORY.HashBuckets",
            "_OBJECT_DIRECTORY_ENTRY.Object",
            "_OBJECT_HEADER_NAME_INFO.Name",
        ],
        symbols: &["ObpRootDirectoryObject"],
        ..NEED
    },
    Need {
        name: "kernel modules",
        plugins: &["modules", "version_modules", "driverirp"],
        types: &[
            "_LDR_DATA_TABLE_ENTRY.InLoadOrderLinks",
            "_LDR_DATA_TABLE_ENTRY.DllBase",
            "_LDR_DATA_TABLE_ENTRY.BaseDllName",
        ],
        symbols: &["PsLoadedModuleList"],
        ..NEED
    },
    Need {
        name: "drivers",
        plugins: &["driverirp", "driverscan"],
        types: &["_DRIVER_OBJECT.DriverStart", "_DRIVER_OBJECT.MajorFunction", "_DRIVER_OBJECT.DriverName"],
        ..NEED
    },
    Need {
        name: "registry hives",
        plugins: &["hives", "printkey", "hivedump"],
        types: &[
            "_CMHIVE.HiveList",
            "_CMHIVE.Hive",
            "_HHIVE.Storage",
            "_DUAL.Map",
            "_CM_KEY_NODE.SubKeyLists",
        ],
        symbols: &["CmpHiveListHead"],
        ..NEED
    },
];
