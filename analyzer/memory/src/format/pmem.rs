//! What the pmem tools note in YAML about the system they image: page table root, kernel base, build number.
//!
//! Only lines `key: number` are read, whatever their nesting; the numbers are decimal or `0x...`. Keys of the
//! tools over time: `CR3`, `dtb_off`, `KernBase`, `kaslr_slide`, `NtBuildNumber`. Source: the emitters in
//! winpmem, linpmem and osxpmem.

use crate::{Hints, WindowsHints};

/// Most lines that are looked at.
const MAX_LINES: usize = 10_000;

/// The hints in a text; `None` when no known key is there.
pub(super) fn hints(text: &[u8]) -> Option<Hints> {
    let mut hints = Hints::default();
    let mut windows = WindowsHints::default();
    for line in text.split(|byte| *byte == b'\n').take(MAX_LINES) {
        let Some((key, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':')) else {
            continue;
        };
        let Some(number) = number(value) else { continue };
        match key.trim().trim_matches(['"', '\'', '-', ' ']) {
            "CR3" | "dtb_off" => hints.dtb.push(number),
            "KernBase" => windows.kernel_base = Some(number),
            "kaslr_slide" => hints.kernel_slide = Some(number),
            // The upper half says whether it is a free or a checked build.
            "NtBuildNumber" => windows.build = u32::try_from(number & 0xffff).ok(),
            _ => {}
        }
    }
    if windows != WindowsHints::default() {
        hints.windows = Some(windows);
    }
    (hints != Hints::default()).then_some(hints)
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim().trim_matches(['"', '\'']);
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => text.parse().ok()?,
    };
    (number != 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_every_nesting_and_form() {
        let text = b"Imager: WinPmem 2.0.1\nRegisters:\n  CR3: 1748992\nNtBuildNumber: 4026539441\n\
                     KernBase: 0xFFFFF80002653000\nRuns:\n  - start: 4096\n    length: 651264\n...\n";
        let hints = hints(text).unwrap();
        let windows = hints.windows.unwrap();
        assert_eq!((hints.dtb, windows.kernel_base), (vec![0x1a_b000], Some(0xffff_f800_0265_3000)));
        assert_eq!(windows.build, Some(7601));
        assert!(super::hints(b"hello: world\nCR3: none\nCR3: 0\n").is_none());
    }
}
