//! `ldrmodules`: modules of processes that their loaders do not list, or list without cause.
//!
//! Compares the executables that are mapped, by the kernel's descriptors of memory, with the three lists of the loader and, in
//! 32-bit processes of 64-bit systems, those of the 32-bit loader. The executable itself is never on the list of initialisation, and
//! a module that a list has and no descriptor maps is shown too. Truth: the description of the machine that the maker of test images
//! lays out; not compared with another program yet.

use std::collections::BTreeMap;

use crate::os::windows::library::{Order, listed};
use crate::os::windows::vad::ranges_of;
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Ldrmodules;

row! {
    pub struct Row {
        /// The process.
        process as "_EPROCESS": ObjRef,
        /// Where the module is mapped.
        base: Address,
        /// Whether it is on the list in the order of loading; absent where that list cannot be read.
        in_load: Read<bool>,
        /// Its path there.
        in_load_path: Read<String>,
        /// Whether it is on the list in the order of initialisation.
        in_init: Read<bool>,
        /// Its path there.
        in_init_path: Read<String>,
        /// Whether it is on the list in the order of addresses.
        in_mem: Read<bool>,
        /// Its path there.
        in_mem_path: Read<String>,
        /// The file that is mapped there, without its drive; absent where no descriptor maps an executable.
        mapped: Read<String>,
    }
}

/// Paths by address, or why a list cannot be read.
type List = Read<BTreeMap<u64, Read<String>>>;

impl Plugin for Ldrmodules {
    const NAME: &'static str = "ldrmodules";
    const SUMMARY: &'static str = "Compare mapped executables with the lists of loaders";
    const ACTIVE: Active = Active::Windows;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for process in args.processes(session, &kernel)? {
            let Some((_, ranges)) = ranges_of(&session.notes, &kernel, &process) else { continue };
            let mut bases: BTreeMap<u64, Read<String>> = BTreeMap::new();
            for (start, _, vad) in &ranges {
                // As the original: code that writing copies, of a file. Data files and code nobody may write are no modules.
                let image = vad.protection().is_ok_and(|it| it.is_executable() && it.is_writable());
                match vad.file_name() {
                    Err(Absent::NotApplicable(_)) => {}
                    name if image => {
                        bases.insert(*start, name);
                    }
                    _ => {}
                }
            }
            let user = process.user_target(&kernel);
            let lists = [Order::Load, Order::Initialization, Order::Memory].map(|order| -> List {
                let found = listed(&session.notes, &process, user.as_ref().map_err(Clone::clone)?, order)?;
                Ok(found.into_iter().filter_map(|module| Some((module.base.ok()?, module.path))).collect())
            });
            if let Some(why) = lists.iter().find_map(|list| list.as_ref().err())
                && why.is_loss()
                && process.exit_time().is_err()
            {
                session.notes.partial(format!("modules of {} are missing: {why}", process.describe()));
            }
            for base in lists.iter().flatten().flat_map(BTreeMap::keys) {
                let none = Absent::NotApplicable("no descriptor maps an executable here");
                bases.entry(*base).or_insert(Err(none));
            }
            for (base, mapped) in bases {
                let [load, init, mem] = lists.each_ref().map(|list| on(list, base));
                out.push(Row {
                    process: process.obj_ref(),
                    base: Address(base),
                    in_load: load.0,
                    in_load_path: load.1,
                    in_init: init.0,
                    in_init_path: init.1,
                    in_mem: mem.0,
                    in_mem_path: mem.1,
                    mapped,
                })?;
            }
        }
        Ok(())
    }
}

/// Whether a list has a module at an address, and its path there.
fn on(list: &List, base: u64) -> (Read<bool>, Read<String>) {
    match list {
        Ok(list) => {
            let path = list.get(&base).cloned();
            (Ok(path.is_some()), path.unwrap_or(Err(Absent::NotApplicable("not on this list"))))
        }
        Err(why) => (Err(why.clone()), Err(why.clone())),
    }
}
