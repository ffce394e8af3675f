//! What fields of Linux structs mean beyond what debug information says.

use object::FieldOverlay::{Alias, Class};
use object::{Overlay, StructOverlay};

/// Overlays for every Linux kernel.
pub(super) const LINUX: Overlay = &[
    StructOverlay {
        name: "task_struct",
        fields: &[
            ("comm", Class("String")),
            // Linux commit 2f064a59a11f (v5.14) renamed it.
            ("state", Alias(&["__state", "state"])),
            // Linux commit cf25e24db61c (v5.5) renamed it.
            ("start_boottime", Alias(&["start_boottime", "real_start_time"])),
        ],
    },
    StructOverlay { name: "module", fields: &[("name", Class("String"))] },
    StructOverlay {
        name: "new_utsname",
        fields: &[
            ("sysname", Class("String")),
            ("nodename", Class("String")),
            ("release", Class("String")),
            ("version", Class("String")),
            ("machine", Class("String")),
            ("domainname", Class("String")),
        ],
    },
    StructOverlay { name: "net_device", fields: &[("name", Class("String"))] },
    StructOverlay { name: "super_block", fields: &[("s_id", Class("String"))] },
];
