//! Processors as the kernel saw them at boot (arch/x86/include/asm/processor.h, arch/x86/kernel/cpu/proc.c).

use object::{Read, Text, Uint, layout};

use super::Kernel;
use crate::error::Error;
use crate::table::text_of;

layout! {
    /// `cpuinfo_x86`: one processor. What tells threads and cores apart moved into `topo` with v6.7.
    pub struct Cpu / CpuLayout = "cpuinfo_x86" {
        /// Vendor string of CPUID, padded with NUL.
        raw_vendor: Text = "x86_vendor_id",
        /// Model name of CPUID, padded with NUL.
        raw_model: Text = "x86_model_id",
        /// CPU family, extended bits included.
        family: u8 = "x86",
        /// Model number, extended bits included.
        model_number: u8 = "x86_model",
        /// Stepping; `x86_mask` before Linux commit b399151cb48d (v4.16).
        stepping: u8 = "x86_stepping | x86_mask",
        /// Revision of the microcode; from Linux commit 506ed6b53e00 (v3.2).
        microcode: u32 = "microcode",
        /// Cache size in KiB; signed before v5.0.
        cache_kib: Uint = "x86_cache_size",
        /// Package ("physical id").
        package: Uint = "topo.pkg_id | phys_proc_id",
        /// Core in its package ("core id").
        core: Uint = "topo.core_id | cpu_core_id",
        /// Local APIC id.
        apic: Uint = "topo.apicid | apicid",
        /// Bits of a physical address.
        physical_bits: u8 = "x86_phys_bits",
        /// Bits of a virtual address.
        virtual_bits: u8 = "x86_virt_bits",
    }
}

impl Cpu<'_> {
    /// Vendor string of CPUID.
    pub fn vendor(&self) -> Read<String> {
        self.raw_vendor().map(|Text(bytes)| text_of(&bytes))
    }

    /// Model name of CPUID.
    pub fn model(&self) -> Read<String> {
        self.raw_model().map(|Text(bytes)| text_of(&bytes))
    }
}

/// The online processors with their numbers: the per-CPU variable `cpu_info`, or `boot_cpu_data` of a uniprocessor
/// kernel.
pub fn cpus(kernel: &Kernel) -> Result<Vec<(u32, Cpu<'_>)>, Error> {
    let target = kernel.target();
    target.types().structure(Cpu::STRUCT)?;
    let Ok(variable) = target.symbol("cpu_info").or_else(|_| target.symbol("per_cpu__cpu_info")) else {
        return Ok(vec![(0, Cpu::at(target, target.symbol("boot_cpu_data")?))]);
    };
    let cpus = kernel.per_cpu()?;
    Ok(cpus.into_iter().map(|(cpu, base)| (cpu, Cpu::at(target, variable.wrapping_add(base)))).collect())
}
