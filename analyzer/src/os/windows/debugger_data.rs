//! `KdDebuggerDataBlock`: where the kernel tells debuggers what is where.
//!
//! From Windows 8 on it is hidden until a debugger comes, by the same scheme as pointers of timers. Source: `KDDEBUGGER_DATA64` in
//! the Debugging Tools SDK (wdbgexts.h).

use memory::{CHUNK, scan};
use object::{Absent, Read, Target};

use super::Kernel;
use super::pool;
use crate::table::{Address, Cell, Value, text_of};

/// Members shown: offset and name.
const MEMBERS: &[(u64, &str)] = &[
    (0x18, "Kernel base"),
    (0x48, "PsLoadedModuleList"),
    (0x50, "PsActiveProcessHead"),
    (0x58, "PspCidTable"),
    (0x98, "ObpRootDirectoryObject"),
    (0xc0, "MmPfnDatabase"),
    (0x1c8, "MmHighestUserAddress"),
    (0x208, "NtBuildLab"),
    (0x218, "KiProcessorBlock"),
    (0x220, "MmUnloadedDrivers"),
    (0x270, "MmPhysicalMemoryBlock"),
];
/// Where the tag and the size stand.
const TAG: u64 = 0x10;
const SIZE: u64 = 0x14;
/// Most blocks that are shown.
const MAX_FOUND: usize = 4096;

/// A block, in plain or hidden.
pub struct DebuggerData<'k> {
    /// Memory it is in.
    target: &'k Target,
    /// Its address in that memory.
    pub addr: u64,
    /// What it is hidden by: `KiWaitNever`, `KiWaitAlways`, and the address of the flag that says so.
    secret: Option<(u64, u64, u64)>,
}

impl<'k> DebuggerData<'k> {
    /// The block of the kernel that was identified.
    pub fn of_kernel(kernel: &'k Kernel) -> Read<Self> {
        let target = kernel.target();
        let addr = target.symbol("KdDebuggerDataBlock")?;
        let hidden = || -> Read<(u64, u64, u64)> {
            let flag = target.symbol("KdpDataBlockEncoded")?;
            if target.read_bytes(flag, 1, 1)? == [0] {
                return Err(Absent::NotApplicable("in plain"));
            }
            let word = |name: &str| target.read_u64(target.symbol(name)?);
            Ok((word("KiWaitNever")?, word("KiWaitAlways")?, flag))
        };
        Ok(Self { target, addr, secret: hidden().ok() })
    }

    fn word(&self, offset: u64) -> Read<u64> {
        let stored = self.target.read_u64(self.addr.wrapping_add(offset & !7))?;
        let word = match self.secret {
            Some((never, always, flag)) => decode(stored, never, always, flag),
            None => stored,
        };
        Ok(if offset & 4 == 0 { word } else { word >> 32 })
    }

    /// Whether the tag of such blocks is there.
    #[must_use]
    pub fn is_tagged(&self) -> bool {
        self.word(TAG).is_ok_and(|word| word.to_le_bytes().starts_with(b"KDBG"))
    }

    /// What it says. `kernel` is the memory that its addresses are of.
    #[must_use]
    pub fn facts(&self, kernel: &Target) -> Vec<(&'static str, Value)> {
        let mut facts = vec![
            ("Hidden", self.secret.is_some().into_value()),
            ("Tag found", self.is_tagged().into_value()),
            ("Size", self.word(SIZE).map(|size| size & 0xffff_ffff).into_value()),
        ];
        let is_32bit = kernel.types().model().pointer_size() == 4;
        // Addresses of 32-bit kernels are kept with their sign.
        let address = |word: u64| if is_32bit { word & 0xffff_ffff } else { word };
        for (offset, name) in MEMBERS {
            facts.push((name, self.word(*offset).map(|word| Address(address(word))).into_value()));
        }
        let lab = self.word(0x208).and_then(|at| kernel.read_cstr(address(at), 256));
        facts.push(("Build", lab.map(|text| text_of(&text)).into_value()));
        facts
    }
}

/// A hidden word in plain: of the block, or a pointer to the procedure of a timer. `place` is the address of the flag, or of
/// the timer; `never` and `always` are the values of `KiWaitNever` and `KiWaitAlways`.
pub(super) fn decode(stored: u64, never: u64, always: u64, place: u64) -> u64 {
    let [rotation, ..] = never.to_le_bytes();
    let word = (stored ^ never).rotate_left(u32::from(rotation) & 63) ^ place;
    word.swap_bytes() ^ always
}

/// Physical addresses of blocks in plain, ascending: the tag behind two links, and a size that such blocks have.
#[must_use]
pub fn scan_memory(kernel: &Kernel) -> Vec<u64> {
    let finder = memchr::memmem::Finder::new(b"KDBG");
    let physical = pool::physical(kernel);
    let (mut found, _) = scan(physical.space(), CHUNK, 4, |piece| {
        let hits = finder.find_iter(piece.bytes).take_while(|offset| *offset < piece.own);
        hits.map(|offset| piece.addr.wrapping_add(offset as u64).wrapping_sub(TAG)).take(MAX_FOUND).collect()
    });
    found.retain(|at| {
        let size = physical.read_u32(at.wrapping_add(SIZE));
        at % 4 == 0 && size.is_ok_and(|size| (0x200..0x1000).contains(&size))
    });
    found.truncate(MAX_FOUND);
    found
}

/// The block at an address of physical memory, which is in plain.
#[must_use]
pub fn in_physical(physical: &Target, addr: u64) -> DebuggerData<'_> {
    DebuggerData { target: physical, addr, secret: None }
}
