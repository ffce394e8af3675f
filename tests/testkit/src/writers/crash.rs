//! Windows crash dumps, 32 and 64 bits.
//!
//! The header is `DUMP_HEADER32` or `DUMP_HEADER64` (wdm.h and the debugger's documentation): filled with `PAGE`, one or two
//! pages. A full dump has all runs behind it; a bitmap dump has a second header with one bit per frame and only those frames.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::Block;
use crate::image::Snapshot;
use crate::machine::Machine;
use crate::physical::{PAGE, Use};

/// A kind of crash dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashDump {
    /// All physical memory, run by run.
    Full,
    /// The frames in use, told by a bitmap (`FDMP`, 64 bits only).
    Bitmap,
    /// The frames that no user page takes, told by a bitmap (`SDMP`, 64 bits only).
    Kernel,
}

impl Snapshot {
    /// Writes a crash dump of the machine's width.
    pub fn write_crash_dump(&self, path: &Path, kind: CrashDump) -> io::Result<()> {
        let is_64 = self.machine.system.is_64();
        let mut file = File::create(path)?;
        match kind {
            CrashDump::Full => {
                let header = if is_64 { self.header_64(1) } else { self.header_32() };
                file.write_all(&header)?;
                let start = header.len() as u64;
                file.set_len(start + self.total())?;
                self.write_frames(&mut file, |address| self.packed(start, address))
            }
            CrashDump::Bitmap => self.write_bitmap_dump(&mut file, 5, *b"FDMP", |_| true),
            CrashDump::Kernel => self.write_bitmap_dump(&mut file, 6, *b"SDMP", |frame| {
                let uses = &self.machine.physical.uses;
                !matches!(uses.get(&frame), Some(Use::Mapped { va, .. } | Use::Standby { va, .. })
                    if !self.machine.tables.paging.is_kernel(*va))
            }),
        }
    }

    fn write_bitmap_dump(
        &self,
        file: &mut File,
        dump_type: u32,
        signature: [u8; 4],
        wanted: impl Fn(u64) -> bool,
    ) -> io::Result<()> {
        const BITMAP_HEADER: usize = 0x2000;
        assert!(self.machine.system.is_64(), "32-bit systems have no bitmap dumps");
        file.write_all(&self.header_64(dump_type))?;
        let frames = self.end() / PAGE;
        let present: Vec<(u64, &[u8])> =
            self.present().into_iter().filter(|&(frame, _)| wanted(frame)).collect();
        let bitmap_bytes = usize::try_from(frames.div_ceil(32) * 4).expect("a small bitmap");
        let size = (BITMAP_HEADER + 0x38 + bitmap_bytes).next_multiple_of(0x1000);
        let mut block = Block(vec![0; size - BITMAP_HEADER]);
        block.bytes(0, &signature).bytes(4, b"DUMP");
        block.u64(0x20, size as u64).u64(0x28, present.len() as u64).u64(0x30, frames);
        for (frame, _) in &present {
            let byte = 0x38 + usize::try_from(frame / 8).expect("a small frame");
            block.0[byte] |= 1 << (frame % 8);
        }
        file.write_all(&block.0)?;
        for (_, bytes) in present {
            file.write_all(bytes)?;
        }
        Ok(())
    }

    fn header_64(&self, dump_type: u32) -> Vec<u8> {
        let machine = &self.machine;
        let mut h = filled(0x2000, *b"PAGEDU64");
        h.u32(0x8, 15).u32(0xC, machine.system.version.2);
        h.u64(0x10, self.dtb()).u64(0x18, machine.system.pfn_database);
        h.u64(0x20, machine.symbol("PsLoadedModuleList")).u64(0x28, machine.symbol("PsActiveProcessHead"));
        h.u32(0x30, 0x8664).u32(0x34, 1);
        // MANUALLY_INITIATED_CRASH
        h.u32(0x38, 0xE2);
        for parameter in 0..4 {
            h.u64(0x40 + 8 * parameter, 0);
        }
        h.u64(0x80, machine.symbol("KdDebuggerDataBlock"));
        h.u32(0x88, u32::try_from(self.runs.len()).expect("few runs")).u64(0x90, self.total() / PAGE);
        for (index, &(first, len)) in self.runs.iter().enumerate() {
            h.u64(0x98 + 16 * index, first / PAGE).u64(0xA0 + 16 * index, len / PAGE);
        }
        h.bytes(0x348, &[0; 3000]);
        // CONTEXT_AMD64 with all its parts; RIP in the kernel.
        h.u32(0x348 + 0x30, 0x0010_005F).u16(0x348 + 0x38, 0x10);
        h.u64(0x348 + 0xF8, machine.system.kernel_base + 0x1000);
        // EXCEPTION_RECORD64: a breakpoint.
        h.bytes(0xF00, &[0; 152]).u32(0xF00, 0x8000_0003).u64(0xF10, machine.system.kernel_base + 0x1000);
        h.u32(0xF98, dump_type).u64(0xFA0, 0x2000 + self.total()).u64(0xFA8, machine.now);
        h.bytes(0xFB0, &[0; 128]).u64(0x1030, UPTIME);
        h.u32(0x1040, 1).u32(0x1044, 0x110);
        h.0
    }

    fn header_32(&self) -> Vec<u8> {
        let machine = &self.machine;
        let mut h = filled(0x1000, *b"PAGEDUMP");
        let word = |value: u64| u32::try_from(value).expect("32 bits");
        let symbol = |machine: &Machine, name| word(machine.symbol(name));
        h.u32(0x8, 15).u32(0xC, machine.system.version.2);
        h.u32(0x10, word(self.dtb())).u32(0x14, word(machine.system.pfn_database));
        h.u32(0x18, symbol(machine, "PsLoadedModuleList")).u32(0x1C, symbol(machine, "PsActiveProcessHead"));
        h.u32(0x20, 0x14C).u32(0x24, 1).u32(0x28, 0xE2);
        for parameter in 0..4 {
            h.u32(0x2C + 4 * parameter, 0);
        }
        h.bytes(0x5C, &[u8::from(machine.tables.paging == crate::Paging::Pae), 0, 0, 0]);
        h.u32(0x60, symbol(machine, "KdDebuggerDataBlock"));
        h.u32(0x64, u32::try_from(self.runs.len()).expect("few runs")).u32(0x68, word(self.total() / PAGE));
        for (index, &(first, len)) in self.runs.iter().enumerate() {
            h.u32(0x6C + 8 * index, word(first / PAGE)).u32(0x70 + 8 * index, word(len / PAGE));
        }
        h.bytes(0x320, &[0; 1200])
            .u32(0x320, 0x1_003F)
            .u32(0x320 + 0xB8, word(machine.system.kernel_base + 0x1000));
        h.bytes(0x7D0, &[0; 80]).u32(0x7D0, 0x8000_0003).bytes(0x820, &[0; 128]);
        h.u32(0xF88, 1).u32(0xF94, 1).u32(0xF98, 0x110).u64(0xFA0, 0x1000 + self.total());
        h.u64(0xFB8, UPTIME).u64(0xFC0, machine.now);
        h.0
    }
}

/// Twenty minutes.
const UPTIME: u64 = 20 * 60 * 10_000_000;

/// A header with its signature, every other word the filler that Windows leaves.
fn filled(size: usize, signature: [u8; 8]) -> Block {
    let mut block = Block(b"PAGE".repeat(size / 4));
    block.bytes(0, &signature);
    block
}
