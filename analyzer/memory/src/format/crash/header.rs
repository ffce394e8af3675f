//! The header of a crash dump, of either width.

use crate::bytes::{u32_at, u64_at};
use crate::format::Refused;
use crate::{AddressSpace, BugCheck, Hints, WindowsHints};

/// What unset fields hold: `PAGE`, little endian.
const FILL: u32 = 0x4547_4150;

/// The header.
pub(super) struct Header {
    bytes: Vec<u8>,
    /// Whether it is a 64-bit dump.
    pub(super) wide: bool,
}

impl Header {
    pub(super) fn read(base: &dyn AddressSpace) -> Result<Self, Refused> {
        let wide = base.read_u64(0)?.to_le_bytes() == *b"PAGEDU64";
        let size = if wide { 0x2000 } else { 0x1000 };
        let bytes = base.read_vec(0, size, 0x2000).map_err(|_| "the header is cut off")?;
        Ok(Self { bytes, wide })
    }

    /// Size of the header: file offset of what follows.
    pub(super) fn size(&self) -> u64 {
        if self.wide { 0x2000 } else { 0x1000 }
    }

    /// A `u32` that was set.
    fn set_u32(&self, at32: usize, at64: usize) -> Option<u32> {
        u32_at(&self.bytes, if self.wide { at64 } else { at32 }).filter(|value| *value != FILL)
    }

    /// A word of the dump's width that was set.
    fn word(&self, at32: usize, at64: usize) -> Option<u64> {
        if self.wide { self.set_u64(at64, at64) } else { self.set_u32(at32, at32).map(u64::from) }
    }

    /// A `u64` that was set.
    fn set_u64(&self, at32: usize, at64: usize) -> Option<u64> {
        let fill = u64::from(FILL) << 32 | u64::from(FILL);
        u64_at(&self.bytes, if self.wide { at64 } else { at32 }).filter(|value| *value != fill)
    }

    pub(super) fn dump_type(&self) -> Option<u32> {
        self.set_u32(0xf88, 0xf98)
    }

    /// `KdDebuggerDataBlock`.
    pub(super) fn kdbg(&self) -> Option<u64> {
        self.word(0x60, 0x80).filter(|addr| *addr != 0)
    }

    /// Number of pages the run list claims, and first page and number of pages of each run; `None` when the
    /// list was not set or its count exceeds its room.
    pub(super) fn runs(&self) -> Option<(u64, Vec<(u64, u64)>)> {
        let (first, room) = if self.wide { (0x98usize, 43) } else { (0x6c, 86) };
        let count = usize::try_from(self.set_u32(0x64, 0x88)?).ok().filter(|count| *count <= room)?;
        let width = if self.wide { 8usize } else { 4 };
        let claimed = self.word(0x68, 0x90)?;
        let word = |at: usize| self.word(at, at);
        let runs = (0..count).map(|index| {
            let at = first.checked_add(index.checked_mul(width.checked_mul(2)?)?)?;
            Some((word(at)?, word(at.checked_add(width)?)?))
        });
        Some((claimed, runs.collect::<Option<Vec<_>>>()?))
    }

    pub(super) fn hints(&self) -> Hints {
        let address = |at32, at64| self.word(at32, at64).filter(|addr| *addr != 0);
        let parameters = [0usize, 1, 2, 3].map(|index| {
            self.word(0x2c + index.saturating_mul(4), 0x40 + index.saturating_mul(8)).unwrap_or(0)
        });
        let machine = self.set_u32(0x20, 0x30).and_then(|machine| u16::try_from(machine).ok());
        let windows = WindowsHints {
            machine,
            major: self.set_u32(0x8, 0x8),
            build: self.set_u32(0xc, 0xc),
            pae: match self.bytes.get(0x5c) {
                Some(0) if !self.wide => Some(false),
                Some(1) if !self.wide => Some(true),
                _ => None,
            },
            processors: self.set_u32(0x24, 0x34),
            kdbg: self.kdbg(),
            loaded_modules: address(0x18, 0x20),
            active_processes: address(0x1c, 0x28),
            pfn_database: address(0x14, 0x18),
            bug_check: self.set_u32(0x28, 0x38).map(|code| BugCheck { code, parameters }),
            system_time: self.set_u64(0xfc0, 0xfa8).filter(|time| *time != 0),
            up_time: self.set_u64(0xfb8, 0x1030).filter(|time| *time != 0),
            ..WindowsHints::default()
        };
        Hints { dtb: address(0x10, 0x10).into_iter().collect(), windows: Some(windows), ..Hints::default() }
    }
}
