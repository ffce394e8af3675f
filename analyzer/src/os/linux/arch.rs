//! What differs between processors in where a Linux kernel is linked, loaded and mapped.

use std::sync::Arc;

use memory::{AddressSpace, Overlap, Paging, Run, RunSpace, paging};
use profile::Profile;

/// `__START_KERNEL_map`: where the kernel image is linked (arch/x86/include/asm/page_64_types.h).
pub(super) const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// End of the window KASLR moves the image in (`KERNEL_IMAGE_SIZE` is at most 1 GiB).
const END_KERNEL_MAP: u64 = 0xffff_ffff_c000_0000;
/// Bits of `_text` that are `PAGE_OFFSET` of a 32-bit kernel: it is a multiple of this with every `CONFIG_VMSPLIT_*`, and
/// `CONFIG_PHYSICAL_START` is less.
const PAGE_OFFSET_MASK: u64 = 0xf800_0000;

/// A processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    /// x86-64.
    Amd64,
    /// x86 with 32 bits.
    I386,
    /// ARM with 64 bits.
    Arm64,
}

impl Arch {
    /// By the profile's metadata; old ones do not say and are of x86-64.
    pub(super) fn of(profile: &Profile) -> Self {
        match profile.arch() {
            Some("I386") => Self::I386,
            Some("ARM64") => Self::Arm64,
            _ => Self::Amd64,
        }
    }

    /// Link-time virtual address of what is linked at physical address 0. ARM64 kernels are linked to no physical address;
    /// for them it is the start of the image, so that the physical shift is where the image was loaded.
    pub(super) fn link_base(self, profile: &Profile) -> Option<u64> {
        match self {
            Self::Amd64 => Some(START_KERNEL_MAP),
            Self::I386 => Some(text(profile)? & PAGE_OFFSET_MASK),
            Self::Arm64 => text(profile),
        }
    }

    /// Kernels are loaded at physical addresses whose distance from the link-time one is a multiple of this:
    /// `CONFIG_PHYSICAL_ALIGN` is at least 1 MiB in effect; the EFI stub of ARM64 aligns to 64 KiB (`EFI_KIMG_ALIGN`), and
    /// `TEXT_OFFSET` was 0x80000 before v5.8.
    pub(super) fn alignment(self) -> u64 {
        match self {
            Self::Amd64 | Self::I386 => 0x10_0000,
            Self::Arm64 => 0x1_0000,
        }
    }

    /// The paging modes such a kernel may use, and for each the addresses its image may be mapped at.
    pub(super) fn modes(self, profile: &Profile) -> Vec<(&'static Paging, u64, u64)> {
        match self {
            Self::Amd64 => [&paging::X64, &paging::X64_LA57]
                .map(|mode| (mode, START_KERNEL_MAP, END_KERNEL_MAP))
                .to_vec(),
            Self::I386 => {
                let start = self.link_base(profile).unwrap_or_default();
                [&paging::PAE, &paging::X86].map(|mode| (mode, start, 0xffff_ffff)).to_vec()
            }
            Self::Arm64 => {
                let Some(text) = text(profile) else { return Vec::new() };
                paging::ARM64
                    .into_iter()
                    .filter(|mode| arm64_fits(mode, text))
                    .map(|mode| {
                        // The image and the direct map, which maps the image too, are in different halves of the kernel's
                        // addresses (of 48 bits where there are 52), whichever of them is the upper one.
                        let half = 1u64 << (mode.bits.min(48) - 1);
                        let start = text & !(half - 1);
                        (mode, start, start.saturating_add(half))
                    })
                    .collect()
            }
        }
    }
}

/// Where the image is linked.
pub(super) fn text(profile: &Profile) -> Option<u64> {
    profile.symbol("_text").or_else(|| profile.symbol("_stext"))
}

/// Whether a kernel linked at `text` may have addresses of a mode's width: the bits above are ones, and the highest one
/// tells the image from the direct map: it is 1 since v5.4 (Linux commit 14c127c957c1), 0 before. Kernels of 52 bits are linked
/// as those of 48, as the processor may not have more.
fn arm64_fits(mode: &Paging, text: u64) -> bool {
    let width = 64u32.saturating_sub(text.leading_ones());
    let bits = u32::from(mode.bits);
    bits == width || bits == width + 1 || (bits == 52 && width == 47)
}

/// Physical memory whose first stored byte has the address `start`, where that is not 0.
pub(super) fn shifted(space: &Arc<dyn AddressSpace>, start: u64) -> Arc<dyn AddressSpace> {
    if start == 0 {
        return Arc::clone(space);
    }
    let run = Run { start, len: space.end().min(u64::MAX - start), target: 0 };
    Arc::new(RunSpace::new("RAM", Arc::clone(space), vec![run], Overlap::FirstWins))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documentation/arm64/memory.rst of v5.4 to v6.1, and `KIMAGE_VADDR` of kernels with 39, 42, 47, 48 and 52 bits.
    #[test]
    fn the_link_address_tells_the_width() {
        let fits = |text: u64| -> Vec<u8> {
            let mut bits: Vec<u8> = paging::ARM64
                .into_iter()
                .filter(|mode| arm64_fits(mode, text))
                .map(|mode| mode.bits)
                .collect();
            bits.sort_unstable();
            bits.dedup();
            bits
        };
        assert_eq!(fits(0xffff_8000_0800_0000), [47, 48, 52]);
        assert_eq!(fits(0xffff_0000_0808_0000), [48]);
        assert_eq!(fits(0xffff_ffc0_0800_0000), [39]);
        assert_eq!(fits(0xffff_fe00_0800_0000), [42]);
        assert_eq!(fits(0xffff_c000_0800_0000), [47]);
        assert_eq!(fits(0xffff_fff8_0800_0000), [36]);
    }
}
