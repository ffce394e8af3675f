//! `ebpf`: eBPF programs that were loaded.
//!
//! Every program in `prog_idr` (kernel/bpf/syscall.c), attached or not. Programs of the classic kind (socket filters, seccomp) have no
//! number and are not in it.
//!
//! Truth: clean guests of 5.10, 6.1 and 6.12 load none, and none is found. No guest has one to find.

use object::{Bytes, Ptr, Scalar, Uint};
use profile::Type;

use crate::os::linux::KernelFact;
use crate::os::linux::code::Code;
use crate::os::linux::ebpf::programs;
use crate::plugin::prelude::*;

/// The command.
pub struct Ebpf;

row! {
    pub struct Row {
        /// Address of the `bpf_prog`.
        program as "bpf_prog": Address,
        /// Its number.
        id as "prog_id": Read<u32>,
        /// Its name, at most 15 bytes.
        name: Read<String>,
        /// What it is for, by `enum bpf_prog_type`: `BPF_PROG_TYPE_KPROBE`, ...
        kind as "prog_type": Read<String>,
        /// First bytes of a hash of its instructions.
        tag: Read<String>,
        /// Instructions.
        instructions: Read<u32>,
        /// Bytes of machine code; 0 where it is interpreted.
        machine_code: Read<ByteSize>,
        /// Where it begins.
        address: Read<Address>,
        /// The symbol there; absent for machine code that was made of it.
        symbol: Option<String>,
        /// When it was loaded.
        loaded as "load_time": Read<Time>,
    }
}

impl Plugin for Ebpf {
    const NAME: &'static str = "ebpf";
    const SUMMARY: &'static str = "List loaded eBPF programs";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let (target, code) = (kernel.target(), Code::of(session)?);
        for program in programs(&session.notes, target)? {
            let details = program.details();
            let function = program.function().map(|Ptr(function)| function);
            let kind = object::Object::new(target, program.addr(), Type::named("bpf_prog")).get("type");
            let kind = kind.and_then(|kind| match kind.scalar()? {
                Scalar::Enum(_, Some(name)) => Ok(name),
                _ => program.kind().map(|Uint(number)| number.to_string()),
            });
            let boot = kernel.boot_time();
            out.push(Row {
                program: Address(program.addr()),
                id: details.clone().and_then(|details| details.id()),
                name: details.clone().and_then(|details| details.label()),
                kind,
                tag: program.tag().map(|Bytes(tag)| tag.iter().map(|byte| format!("{byte:02x}")).collect()),
                instructions: program.instructions(),
                machine_code: program.machine_code().map(|bytes| ByteSize(bytes.into())),
                symbol: function.clone().ok().and_then(|function| code.judge(function).symbol),
                address: function.map(Address),
                loaded: details
                    .and_then(|details| Ok(Time(boot?.0.saturating_add(i128::from(details.loaded()?))))),
            })?;
        }
        Ok(())
    }
}
