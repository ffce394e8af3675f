//! VMware: memory in `.vmem` with the saved state in `.vmss` beside it, or a `.vmsn` that holds both.
//!
//! The state is groups of tags: a byte with the size of the data and the number of indices, the length of the name, name,
//! indices, data. Source: the format as described by the Volatility and libvmi projects' documentation and in VMware's
//! own `vmss2core` announcements.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::Block;
use crate::image::Snapshot;
use crate::physical::PAGE;

/// Tags of one group.
#[derive(Default)]
struct Group(Vec<u8>);

impl Group {
    fn tag(&mut self, size: u8, name: &str, indices: &[u32]) -> &mut Self {
        self.0.push(size | u8::try_from(indices.len()).expect("few indices") << 6);
        self.0.push(u8::try_from(name.len()).expect("a short name"));
        self.0.extend(name.bytes());
        for index in indices {
            self.0.extend(index.to_le_bytes());
        }
        self
    }

    fn u32(&mut self, name: &str, indices: &[u32], value: u32) -> &mut Self {
        self.tag(4, name, indices).0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, name: &str, indices: &[u32], value: u64) -> &mut Self {
        self.tag(8, name, indices).0.extend(value.to_le_bytes());
        self
    }

    fn end(&mut self) -> Vec<u8> {
        self.0.extend([0, 0]);
        std::mem::take(&mut self.0)
    }
}

impl Snapshot {
    /// Writes `.vmem` and `.vmss`. Memory from 3 GiB on would stand behind a hole; this machine has less.
    pub fn write_vmware(&self, vmem: &Path, vmss: &Path) -> io::Result<()> {
        self.write_raw(vmem)?;
        let memory = self.regions().end();
        self.write_state(&mut File::create(vmss)?, &memory)?;
        Ok(())
    }

    /// Writes a `.vmsn` that holds its memory itself.
    pub fn write_vmsn(&self, path: &Path) -> io::Result<()> {
        const PADDING: u16 = 0x20;
        let mut memory = self.regions();
        memory.tag(0x3E, "Memory", &[0, 0]);
        // Size on disk, size in memory, padding.
        memory.0.extend(self.end().to_le_bytes());
        memory.0.extend(self.end().to_le_bytes());
        memory.0.extend(PADDING.to_le_bytes());
        memory.0.extend([0; PADDING as usize]);
        let mut file = File::create(path)?;
        let data_at = self.write_state(&mut file, &memory.0)?;
        file.set_len(data_at + self.end() + 2)?;
        self.write_frames(&mut file, |address| Some(data_at + address))
    }

    /// Tags that say which pages stand where.
    fn regions(&self) -> Group {
        let mut memory = Group::default();
        memory
            .u32("regionsCount", &[], 1)
            .u32("regionPPN", &[0], 0)
            .u32("regionPageNum", &[0], 0)
            .u32("regionSize", &[0], u32::try_from(self.end() / PAGE).expect("below 16 TiB"))
            .u32("align_mask", &[], 0xFFFF);
        memory
    }

    /// Writes header and groups, the memory last. Returns the size so far.
    fn write_state(&self, file: &mut File, memory: &[u8]) -> io::Result<u64> {
        const HEADER: usize = 12 + 80 * 2;
        let mut cpu = Group::default();
        for (register, value) in [(0, 0x8005_0031), (3, self.dtb()), (4, 0x6F8)] {
            cpu.u64("CR64", &[0, register], value);
        }
        let cpu = cpu.end();
        let mut header = Block(vec![0; HEADER]);
        header.u32(0, 0xBED2_BED2).u32(4, 2).u32(8, 2);
        let (cpu_at, memory_at) = (HEADER as u64, (HEADER + cpu.len()) as u64);
        header.bytes(12, b"cpu").u64(12 + 64, cpu_at).u64(12 + 72, cpu.len() as u64);
        header.bytes(92, b"memory").u64(92 + 64, memory_at).u64(92 + 72, memory.len() as u64);
        file.write_all(&header.0)?;
        file.write_all(&cpu)?;
        file.write_all(memory)?;
        Ok(memory_at + memory.len() as u64)
    }
}
