//! ELF core files as QEMU's `dump-guest-memory` writes them: one `PT_LOAD` per run, and a note with the processor's registers.
//!
//! Source: System V ABI (ELF), QEMU's documentation of `QEMUCPUState` version 1.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::Block;
use crate::image::Snapshot;

impl Snapshot {
    /// Writes an ELF64 core.
    pub fn write_elf_core(&self, path: &Path) -> io::Result<()> {
        let loads = self.runs.len();
        let notes_at = 64 + 56 * (loads + 1);
        let note = self.note();
        let data_at = (notes_at + note.len()).next_multiple_of(0x1000) as u64;
        let mut h = Block(vec![0; 64 + 56 * (loads + 1)]);
        h.bytes(0, b"\x7fELF\x02\x01\x01");
        // ET_CORE, EM_X86_64, version, program headers behind the header.
        h.u16(16, 4).u16(18, 62).u32(20, 1).u64(32, 64);
        h.u16(52, 64).u16(54, 56).u16(56, u16::try_from(loads + 1).expect("few runs"));
        // PT_NOTE
        h.u32(64, 4).u64(72, notes_at as u64).u64(96, note.len() as u64).u64(104, note.len() as u64);
        let mut at = data_at;
        for (index, &(first, len)) in self.runs.iter().enumerate() {
            let entry = 64 + 56 * (index + 1);
            // PT_LOAD
            h.u32(entry, 1)
                .u64(entry + 8, at)
                .u64(entry + 24, first)
                .u64(entry + 32, len)
                .u64(entry + 40, len);
            at += len;
        }
        let mut file = File::create(path)?;
        file.write_all(&h.0)?;
        file.write_all(&note)?;
        file.set_len(at)?;
        self.write_frames(&mut file, |address| self.packed(data_at, address))
    }

    /// The registers of the only processor, of which the control registers matter.
    fn note(&self) -> Vec<u8> {
        const STATE: usize = 440;
        const CR: usize = 392;
        let mut note = Block(vec![0; 12 + 8 + STATE]);
        note.u32(0, 5).u32(4, u32::try_from(STATE).expect("small")).u32(8, 0).bytes(12, b"QEMU");
        let state = 20;
        note.u32(state, 1).u32(state + 4, u32::try_from(STATE).expect("small"));
        // RIP, then CR0, CR3, CR4: protection and paging on, PAE.
        note.u64(state + 136, self.machine.system.kernel_base + 0x1000);
        note.u64(state + CR, 0x8005_0031).u64(state + CR + 24, self.dtb()).u64(state + CR + 32, 0x6F8);
        note.0
    }
}
