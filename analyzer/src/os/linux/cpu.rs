//! Processors as the kernel saw them at boot (arch/x86/include/asm/processor.h, arch/x86/kernel/cpu/proc.c;
//! arch/arm64/include/asm/cpu.h, arch/arm64/kernel/cpuinfo.c).

use object::{Absent, Read, Text, Uint, layout};

use super::Kernel;
use crate::error::Error;
use crate::table::text_of;

layout! {
    /// `cpuinfo_x86`: one processor. What tells threads and cores apart moved into `topo` with v6.7.
    struct X86 / X86Layout = "cpuinfo_x86" {
        /// Vendor string of CPUID, padded with NUL.
        vendor: Text = "x86_vendor_id",
        /// Model name of CPUID, padded with NUL.
        model: Text = "x86_model_id",
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

    /// `cpuinfo_arm64`: identification registers of one processor.
    struct Arm64 / Arm64Layout = "cpuinfo_arm64" {
        /// `MIDR_EL1`.
        identity: Uint = "reg_midr",
        /// `ID_AA64MMFR0_EL1`.
        memory: Uint = "reg_id_aa64mmfr0",
        /// `ID_AA64MMFR2_EL1`.
        more_memory: Uint = "reg_id_aa64mmfr2",
    }
}

/// One processor.
pub struct Processor {
    /// Number.
    pub number: u32,
    /// x86: vendor string of CPUID; ARM64: code of the implementer, in hex.
    pub vendor: Read<String>,
    /// Model name of CPUID.
    pub model: Read<String>,
    /// x86: CPU family, extended bits included; ARM64: version of the architecture.
    pub family: Read<u8>,
    /// x86: model number, extended bits included; ARM64: part number.
    pub model_number: Read<u64>,
    /// ARM64: major revision.
    pub variant: Read<u8>,
    /// x86: stepping; ARM64: minor revision.
    pub stepping: Read<u8>,
    /// Revision of the microcode.
    pub microcode: Read<u32>,
    /// Package ("physical id").
    pub package: Read<u64>,
    /// Core in its package ("core id").
    pub core: Read<u64>,
    /// Local APIC id.
    pub apic: Read<u64>,
    /// Bits of a physical address.
    pub physical_bits: Read<u8>,
    /// Bits of a virtual address.
    pub virtual_bits: Read<u8>,
}

const X86_ONLY: Absent = Absent::NotApplicable("only x86 processors have it");
const ARM64_ONLY: Absent = Absent::NotApplicable("only ARM64 processors have it");

impl Processor {
    fn of_x86(number: u32, cpu: &X86<'_>) -> Self {
        Self {
            number,
            vendor: cpu.vendor().map(|Text(bytes)| text_of(&bytes)),
            model: cpu.model().map(|Text(bytes)| text_of(&bytes)),
            family: cpu.family(),
            model_number: cpu.model_number().map(u64::from),
            variant: Err(ARM64_ONLY),
            stepping: cpu.stepping(),
            microcode: cpu.microcode(),
            package: cpu.package().map(|id| id.0),
            core: cpu.core().map(|id| id.0),
            apic: cpu.apic().map(|id| id.0),
            physical_bits: cpu.physical_bits(),
            virtual_bits: cpu.virtual_bits(),
        }
    }

    /// The fields of `MIDR_EL1` and of the memory model registers by the Arm ARM (DDI 0487, D19.2).
    fn of_arm64(number: u32, cpu: &Arm64<'_>) -> Self {
        let identity = cpu.identity();
        let field = |shift: u32, bits: u32| {
            identity.clone().map(|Uint(register)| register >> shift & ((1 << bits) - 1))
        };
        let byte = |value: Read<u64>| value.map(|value| u8::try_from(value).unwrap_or(u8::MAX));
        let address_bits = cpu.memory().and_then(|Uint(register)| {
            let bits = [32, 36, 40, 42, 44, 48, 52];
            let code = usize::try_from(register & 0xf).unwrap_or(usize::MAX);
            bits.get(code).copied().ok_or(Absent::Malformed("no such range of physical addresses"))
        });
        Self {
            number,
            vendor: field(24, 8).map(|code| format!("{code:#04x}")),
            model: Err(X86_ONLY),
            // Bits 19 to 16 are 0xf: told by registers. The kernel shows 8 for every 64-bit one.
            family: identity.clone().map(|_| 8),
            model_number: field(4, 12),
            variant: byte(field(20, 4)),
            stepping: byte(field(0, 4)),
            microcode: Err(X86_ONLY),
            package: Err(X86_ONLY),
            core: Err(X86_ONLY),
            apic: Err(X86_ONLY),
            physical_bits: address_bits,
            virtual_bits: cpu
                .more_memory()
                .map(|Uint(register)| if register >> 16 & 0xf == 0 { 48 } else { 52 }),
        }
    }
}

/// The online processors: the per-CPU variable `cpu_info` (ARM64: `cpu_data`), or `boot_cpu_data` of a uniprocessor kernel.
pub fn processors(kernel: &Kernel) -> Result<Vec<Processor>, Error> {
    let target = kernel.target();
    if !kernel.is_x86() {
        target.types().structure(Arm64::STRUCT)?;
        let variable = target.symbol("cpu_data")?;
        let of = |(cpu, base): (u32, u64)| {
            Processor::of_arm64(cpu, &Arm64::at(target, variable.wrapping_add(base)))
        };
        return Ok(kernel.per_cpu()?.into_iter().map(of).collect());
    }
    target.types().structure(X86::STRUCT)?;
    let Ok(variable) = target.symbol("cpu_info").or_else(|_| target.symbol("per_cpu__cpu_info")) else {
        return Ok(vec![Processor::of_x86(0, &X86::at(target, target.symbol("boot_cpu_data")?))]);
    };
    let of = |(cpu, base): (u32, u64)| Processor::of_x86(cpu, &X86::at(target, variable.wrapping_add(base)));
    Ok(kernel.per_cpu()?.into_iter().map(of).collect())
}
