//! Tables of operations: structs of pointers to functions (`file_operations`, `seq_operations`, `proc_ops`, ...).

use std::collections::HashMap;
use std::rc::Rc;

use object::{Missing, Read, Target};
use profile::Type;

use super::code::Code;

/// Most tables whose judgement is remembered; a running system has a few hundred.
const MAX_REMEMBERED: usize = 1 << 14;

/// A function pointer of a table.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Name of the member.
    pub member: String,
    /// Where it leads.
    pub address: Read<u64>,
    /// The symbol there.
    pub symbol: Option<String>,
    /// The module that holds the code; `linux` is the kernel.
    pub module: Option<String>,
    /// Whether it leads where it must not, see [`Code::is_hooked`].
    pub hooked: Read<bool>,
}

/// Options of the commands that check tables.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct ShowAll {
    /// Show every pointer, not only those that lead where they must not
    #[arg(long)]
    pub all: bool,
}

/// Judges tables, each once.
pub struct Judge<'k> {
    target: &'k Target,
    code: Code,
    show: ShowAll,
    known: HashMap<(&'static str, u64), Rc<[Operation]>>,
}

impl<'k> Judge<'k> {
    /// A judge that tells of all pointers, or of those that were replaced or cannot be read.
    #[must_use]
    pub fn new(target: &'k Target, code: Code, show: ShowAll) -> Self {
        Self { target, code, show, known: HashMap::new() }
    }

    /// The pointers worth telling of the table of type `structure` at an address, in order. Null pointers are left out.
    pub fn table(&mut self, structure: &'static str, table: u64) -> Result<Rc<[Operation]>, Missing> {
        if let Some(known) = self.known.get(&(structure, table)) {
            return Ok(Rc::clone(known));
        }
        let mut members: Vec<(u64, &str)> = Vec::new();
        for (name, field) in &self.target.types().structure(structure)?.fields {
            if matches!(&field.ty, Type::Pointer(to) if matches!(**to, Type::Function(_))) {
                members.push((field.offset.cast_unsigned(), name));
            }
        }
        members.sort_unstable();
        let told = members.into_iter().filter_map(|(offset, name)| {
            let place = table.wrapping_add(offset);
            self.pointer(name, place, self.target.read_ptr(place))
        });
        let told: Rc<[Operation]> = told.collect();
        if self.known.len() < MAX_REMEMBERED {
            self.known.insert((structure, table), Rc::clone(&told));
        }
        Ok(told)
    }

    /// A single pointer that stands at `place`, where it is worth telling.
    #[must_use]
    pub fn pointer(&self, member: &str, place: u64, address: Read<u64>) -> Option<Operation> {
        let hooked = self.code.is_hooked(place, &address);
        if address == Ok(0) || !self.show.all && hooked == Ok(false) {
            return None;
        }
        let (symbol, module) = self.code.names_of(&address);
        Some(Operation { member: member.to_owned(), address, symbol, module, hooked })
    }
}
