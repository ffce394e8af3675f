//! ELF notes of machine dumps: CPU registers of QEMU and VirtualBox, `VMCOREINFO` of Linux.

use crate::bytes::{u32_at, u64_at};
use crate::{Cpu, Hints};

/// ELF `e_machine` of x86-64.
pub(super) const EM_X86_64: u16 = 62;
/// Most CPUs taken from notes; Linux is built for at most 8192.
const MAX_CPUS: usize = 8192;

/// One note: name without the trailing NUL, type, descriptor.
pub(super) struct Note<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: u32,
    pub(super) desc: &'a [u8],
}

/// Iterates notes laid out as ELF says: three words, then name and descriptor, each padded to 4 bytes. Ends
/// at the first note that does not fit.
pub(super) fn notes(mut bytes: &[u8]) -> impl Iterator<Item = Note<'_>> {
    std::iter::from_fn(move || {
        let name_len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let desc_len = usize::try_from(u32_at(bytes, 4)?).ok()?;
        let kind = u32_at(bytes, 8)?;
        let rest = bytes.get(12..)?;
        let name = rest.get(..name_len)?;
        let rest = rest.get(name_len.checked_next_multiple_of(4)?..)?;
        let desc = rest.get(..desc_len)?;
        bytes = rest.get(desc_len.checked_next_multiple_of(4)?..).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Note { name, kind, desc })
    })
}

/// What the notes of a machine dump tell. `machine` is the ELF `e_machine` when known.
pub(super) fn hints(bytes: &[u8], machine: Option<u16>) -> Hints {
    let mut hints = Hints::default();
    for note in notes(bytes) {
        let cpu = match (note.name, note.kind) {
            (b"QEMU", 0) => qemu_cpu(note.desc, machine),
            (b"VBCPU", 0xb01) => virtualbox_cpu(note.desc),
            (b"VMCOREINFO", 0) => {
                hints.vmcoreinfo.get_or_insert_with(|| note.desc.to_vec());
                None
            }
            _ => None,
        };
        if let Some(cpu) = cpu
            && hints.cpus.len() < MAX_CPUS
        {
            hints.dtb.push(cpu.cr3);
            hints.cpus.push(cpu);
        }
    }
    hints
}

/// `QEMUCPUState` version 1 of `target/i386/arch_dump.c`: two words (version, size), 18 registers, 10
/// segments of 24 bytes, then CR0 to CR4.
fn qemu_cpu(desc: &[u8], machine: Option<u16>) -> Option<Cpu> {
    const CR: usize = 8 + 18 * 8 + 10 * 24;
    if u32_at(desc, 0)? != 1 {
        return None;
    }
    Some(Cpu {
        cr0: u64_at(desc, CR)?,
        cr3: u64_at(desc, CR + 24)?,
        cr4: u64_at(desc, CR + 32)?,
        long_mode: machine == Some(EM_X86_64),
    })
}

/// `DBGFCORECPU` of `dbgfcorefmt.h`: 18 registers, 6 selectors of 24 bytes, CR0, CR2, CR3, CR4, 8 debug
/// registers, GDTR, IDTR, LDTR, TR, three SYSENTER words, EFER.
fn virtualbox_cpu(desc: &[u8]) -> Option<Cpu> {
    const CR: usize = 18 * 8 + 6 * 24;
    const EFER: usize = CR + 4 * 8 + 8 * 8 + 2 * 16 + 2 * 24 + 3 * 8;
    Some(Cpu {
        cr0: u64_at(desc, CR)?,
        cr3: u64_at(desc, CR + 16)?,
        cr4: u64_at(desc, CR + 24)?,
        long_mode: u64_at(desc, EFER)? & (1 << 10) != 0,
    })
}
