//! What the plugins need from a profile: the tables behind the fitness report, one per system.
//!
//! `a|b` means either will do, as kernels of different ages have one or the other. Fields are `struct.field`.

mod linux;
mod windows;

use profile::Document;

/// PDBs of the Windows kernel: its four builds before Windows 8, the last one since.
const WINDOWS_KERNELS: [&str; 4] = ["ntkrnlmp", "ntkrnlpa", "ntkrpamp", "ntoskrnl"];

/// What the plugins of the profile's system need from it. Nothing of profiles that no plugin reads by itself: of macOS,
/// and of Windows modules beside the kernel.
pub(crate) fn needs_of(document: &Document) -> &'static [Need] {
    let text = |key: &str| document.metadata.get(key).and_then(|value| value.as_str());
    let class = text("ProfileClass").unwrap_or_default();
    let windows = text("GUID_AGE").is_some() || text("PDBFile").is_some();
    if !windows {
        return if class.starts_with("Darwin") { &[] } else { linux::NEEDS };
    }
    let file = text("PDBFile").unwrap_or_default();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let is_kernel = |name: &str| WINDOWS_KERNELS.iter().any(|kernel| name.eq_ignore_ascii_case(kernel));
    let kernel =
        is_kernel(stem) || is_kernel(class) || class == "Nt" || document.structs.contains_key("_EPROCESS");
    if kernel { windows::NEEDS } else { &[] }
}

/// One need and the plugins that have it.
pub(crate) struct Need {
    /// What it is about.
    pub(crate) name: &'static str,
    /// Plugins that work badly or not at all without it.
    pub(crate) plugins: &'static [&'static str],
    /// Only kernels that have this struct or field have the need; empty = all.
    pub(crate) when: &'static str,
    /// Structs and fields.
    pub(crate) types: &'static [&'static str],
    /// Symbols.
    pub(crate) symbols: &'static [&'static str],
    /// Without it no plugin works.
    pub(crate) essential: bool,
}

const NEED: Need = Need { name: "", plugins: &[], when: "", types: &[], symbols: &[], essential: false };

/// Plugins that use a struct, a field of it (`struct.field`) or a symbol, sorted; a struct is used by who uses any field.
#[must_use]
pub fn plugins_that_use(item: &str) -> Vec<&'static str> {
    let names = |entry: &str| {
        entry
            .split('|')
            .any(|name| name == item || name.split_once('.').is_some_and(|(record, _)| record == item))
    };
    let mut plugins: Vec<&str> = linux::NEEDS
        .iter()
        .chain(windows::NEEDS)
        .filter(|need| need.types.iter().chain(need.symbols).any(|entry| names(entry)))
        .flat_map(|need| need.plugins.iter().copied())
        .collect();
    plugins.sort_unstable();
    plugins.dedup();
    plugins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_written_well() {
        for need in linux::NEEDS.iter().chain(windows::NEEDS) {
            assert!(!need.name.is_empty() && !need.plugins.is_empty(), "{}", need.name);
            for item in need.types.iter().chain(need.symbols).flat_map(|item| item.split('|')) {
                assert!(item.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c)), "{item}");
            }
        }
    }

    #[test]
    fn the_system_decides_what_is_needed() {
        let of = |pairs: &[(&str, &str)]| {
            let mut document = Document::default();
            pairs.iter().for_each(|(key, value)| document.set(key, *value));
            needs_of(&document).first().map(|need| need.symbols)
        };
        assert_eq!(of(&[]), Some(&["init_task"][..]));
        assert_eq!(of(&[("ProfileClass", "Darwin64")]), None);
        assert_eq!(of(&[("GUID_AGE", "0"), ("PDBFile", "tcpip.pdb")]), None);
        assert_eq!(of(&[("GUID_AGE", "0"), ("PDBFile", "ntkrnlmp.pdb")]), Some(&["PsActiveProcessHead"][..]));
        // The original's repository stores files under their identity.
        assert_eq!(
            of(&[("GUID_AGE", "0"), ("PDBFile", "0.pdb"), ("ProfileClass", "Nt")]),
            Some(&["PsActiveProcessHead"][..])
        );
    }
}
