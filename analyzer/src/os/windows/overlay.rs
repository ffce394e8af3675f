//! What fields of Windows structs mean beyond what PDBs say.

use object::FieldOverlay::{Alias, Class};
use object::{Overlay, StructOverlay};

/// Overlays for every Windows kernel.
pub(super) const WINDOWS: Overlay = &[StructOverlay {
    name: "_EPROCESS",
    fields: &[
        ("ImageFileName", Class("String")),
        // Renamed by Windows 10 together with the type it points to.
        ("Wow64Process", Alias(&["Wow64Process", "WoW64Process"])),
    ],
}];
