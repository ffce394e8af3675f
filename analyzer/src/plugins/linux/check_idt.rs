//! `check_idt`: the interrupt descriptor table, and where its gates lead.
//!
//! Reads the 256 gates of `idt_table` (arch/x86/kernel/idt.c); their form is the processor's (Intel SDM vol. 3, 6.11 and
//! 6.14.1): 8 bytes on 32 bits, 16 on 64. A present gate leads into the kernel's code.
//!
//! Truth: `/proc/kallsyms` of guests of 5.10, 6.1 and 6.12: every gate is an entry point of the kernel.

use object::Read;

use crate::os::linux::KernelFact;
use crate::os::linux::code::Code;
use crate::plugin::prelude::*;

/// The command.
pub struct CheckIdt;

row! {
    pub struct Row {
        /// Vector of the interrupt or exception.
        index: u64,
        /// Where the gate leads; a task gate leads to a segment and has no address.
        address: Read<Address>,
        /// Kind of gate.
        gate as "gate_type": Read<&'static str>,
        /// Whether the processor may use it.
        present: Read<bool>,
        /// Least privileged level that may use it by instruction: 0 kernel, 3 everyone.
        dpl: Read<u64>,
        /// The symbol there.
        symbol: Option<String>,
        /// Whether a present gate does not lead into the kernel's code.
        hooked: Read<bool>,
    }
}

/// Gates of a table.
const GATES: u64 = 256;

/// A gate, decoded.
#[derive(Clone)]
struct Gate {
    address: u64,
    kind: &'static str,
    present: bool,
    privilege: u64,
}

impl Gate {
    /// From the gate's first 8 bytes and, on 64 bits, the upper half of its address.
    fn decode(low: u64, high: u64) -> Self {
        let attributes = low >> 40 & 0xff;
        let kind = match attributes & 0xf {
            0x5 => "task",
            0x6 | 0xe => "interrupt",
            0x7 | 0xf => "trap",
            0 => "none",
            _ => "unknown",
        };
        Self {
            address: low & 0xffff | low >> 32 & 0xffff_0000 | high << 32,
            kind,
            present: attributes & 0x80 != 0,
            privilege: attributes >> 5 & 3,
        }
    }
}

impl Plugin for CheckIdt {
    const NAME: &'static str = "check_idt";
    const SUMMARY: &'static str = "List interrupt gates and find replaced ones";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        if !kernel.is_x86() {
            return Err(Error::not_applicable("only x86 has an interrupt descriptor table"));
        }
        let (target, code) = (kernel.target(), Code::of(session)?);
        let wide = target.types().model().pointer_size() == 8;
        let table = target.symbol("idt_table")?;
        for index in 0..GATES {
            let at = table + index * if wide { 16 } else { 8 };
            let high = if wide { target.read_u32(at + 8).map(u64::from) } else { Ok(0) };
            let gate: Read<Gate> = target.read_u64(at).and_then(|low| Ok(Gate::decode(low, high?)));
            let address = gate.clone().and_then(|gate| match gate.kind {
                "task" => Err(Absent::NotApplicable("a task gate leads to a segment")),
                _ => Ok(gate.address),
            });
            let judged = address.clone().map(|address| code.judge(address));
            out.push(Row {
                index,
                address: address.map(Address),
                gate: gate.clone().map(|gate| gate.kind),
                present: gate.clone().map(|gate| gate.present),
                dpl: gate.clone().map(|gate| gate.privilege),
                symbol: judged.as_ref().ok().and_then(|judged| judged.symbol.clone()),
                hooked: gate.and_then(|gate| Ok(gate.present && !judged?.own)),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_taken_apart() {
        // Intel SDM vol. 3, figure 6-8: offset 15..0, selector, IST, type and P, offset 31..16, offset 63..32.
        let gate = Gate::decode(0x8160_ee00_0010_1230, 0xffff_ffff);
        assert_eq!(
            (gate.address, gate.kind, gate.present, gate.privilege),
            (0xffff_ffff_8160_1230, "interrupt", true, 3)
        );
        assert!(!Gate::decode(0, 0).present);
    }
}
