//! `cpuinfo`: online processors.
//!
//! Reads the per-CPU `cpu_info` (ARM64: `cpu_data`, with the identification registers) of each CPU in `cpu_online_mask`. Truth: `/proc/cpuinfo` of real guests.

use crate::os::linux::KernelFact;
use crate::os::linux::cpu::processors;
use crate::plugin::prelude::*;

/// The command.
pub struct Cpuinfo;

row! {
    pub struct Row {
        /// Number of the processor.
        number as "CPU": u32,
        /// Vendor string of CPUID; ARM64: code of the implementer.
        vendor: Read<String>,
        /// Model name of CPUID.
        model: Read<String>,
        /// CPU family; ARM64: version of the architecture.
        family as "cpu_family": Read<u8>,
        /// Model number; ARM64: part number.
        model_number: Read<u64>,
        /// Major revision (ARM64).
        variant: Read<u8>,
        /// Stepping; ARM64: minor revision.
        stepping: Read<u8>,
        /// Revision of the microcode, in hex.
        microcode: Read<String>,
        /// Package ("physical id").
        physical_id: Read<u64>,
        /// Core in its package.
        core_id: Read<u64>,
        /// Local APIC id.
        apicid: Read<u64>,
        /// Bits of a physical address.
        physical_bits: Read<u8>,
        /// Bits of a virtual address.
        virtual_bits: Read<u8>,
    }
}

impl Plugin for Cpuinfo {
    const NAME: &'static str = "cpuinfo";
    const SUMMARY: &'static str = "List processors";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for cpu in processors(&kernel)? {
            out.push(Row {
                number: cpu.number,
                vendor: cpu.vendor,
                model: cpu.model,
                family: cpu.family,
                model_number: cpu.model_number,
                variant: cpu.variant,
                stepping: cpu.stepping,
                microcode: cpu.microcode.map(|revision| format!("{revision:#x}")),
                physical_id: cpu.package,
                core_id: cpu.core,
                apicid: cpu.apic,
                physical_bits: cpu.physical_bits,
                virtual_bits: cpu.virtual_bits,
            })?;
        }
        Ok(())
    }
}
