//! eBPF programs that were loaded (include/linux/bpf.h, kernel/bpf/syscall.c).

use object::{Addr, Bytes, Ptr, Read, Target, Text, Uint, layout};

use super::xarray;
use crate::notes::Notes;
use crate::table::text_of;

layout! {
    struct Idr / IdrLayout = "idr" {
        root: Addr = "idr_rt",
    }

    /// `bpf_prog`: a program.
    pub struct Program / ProgramLayout = "bpf_prog" {
        /// `enum bpf_prog_type`.
        kind: Uint = "type",
        /// Instructions.
        instructions: u32 = "len",
        /// Bytes of the machine code made of it; 0 for none.
        machine_code: u32 = "jited_len",
        /// First bytes of a hash of the instructions.
        tag: Bytes = "tag",
        /// Where it begins: machine code, or the interpreter.
        function: Ptr = "bpf_func",
        /// `bpf_prog_aux`.
        aux: Ptr = "aux",
    }

    /// `bpf_prog_aux`: what only few need of a program.
    pub struct Details / DetailsLayout = "bpf_prog_aux" {
        /// Its number.
        id: u32 = "id",
        /// Name, padded with NUL.
        raw_name: Text = "name",
        /// Nanoseconds from boot to its loading.
        loaded: u64 = "load_time",
    }
}

/// All programs in the order of their numbers (`prog_idr`, from v4.13).
pub fn programs<'t>(notes: &Notes, target: &'t Target) -> Read<Vec<Program<'t>>> {
    let Addr(root) = Idr::at(target, target.symbol("prog_idr")?).root()?;
    let found = xarray::entries(target, root)?;
    notes.walk("prog_idr", &found.end);
    Ok(found.entries.into_iter().map(|(_, program)| Program::at(target, program)).collect())
}

impl<'t> Program<'t> {
    /// Number, name and time.
    pub fn details(&self) -> Read<Details<'t>> {
        Ok(Details::at(self.target(), self.aux()?.non_null("program without details")?))
    }
}

impl Details<'_> {
    /// Its name; empty where it was given none.
    pub fn label(&self) -> Read<String> {
        self.raw_name().map(|Text(name)| text_of(&name))
    }
}
