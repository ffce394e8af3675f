//! `library_list`: libraries of processes, by the loader's own list.
//!
//! Follows `DT_DEBUG` of the program to `r_debug` and its chain of `link_map`s, which user space keeps and can change: compare
//! with `elfs`. Statically linked programs have no list. Truth: the libraries of `/proc/PID/maps` of guests of 5.10, 6.1 and
//! 6.12, with the addresses they begin at.

use memory::Fault;

use crate::elf::Elf;
use crate::os::linux::mm::{areas_of, space_of};
use crate::os::linux::{KernelFact, ProcessFilter, task};
use crate::plugin::prelude::*;
use crate::table::text_of;

/// The command.
pub struct LibraryList;

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// What is added to the addresses it was linked for: where a library begins.
        load_address: Address,
        /// Its dynamic section.
        dynamic: Address,
        /// Path by which it was loaded; empty for the program itself.
        path: Read<String>,
    }
}

impl Plugin for LibraryList {
    const NAME: &'static str = "library_list";
    const SUMMARY: &'static str = "List libraries of processes";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for task in args.tasks(session, &kernel)? {
            let Some((_, areas)) = areas_of(&session.notes, &task) else { continue };
            let Some(space) = space_of(&session.notes, &kernel, &task) else { continue };
            for (start, _) in areas.iter().filter_map(|area| area.range().ok()) {
                let Ok(elf) = Elf::read(&*space, start) else { continue };
                let (objects, end) = match elf.objects(&*space, elf.bias(start)) {
                    Ok(list) => list,
                    Err(Absent::NotApplicable(_)) => continue,
                    Err(why) => (Vec::new(), Some(why)),
                };
                if let Some(why) = end {
                    let who = task::describe(&task);
                    session.notes.partial(format!("libraries of {who} are incomplete: {why}"));
                }
                for object in objects {
                    out.push(Row {
                        task: task.obj_ref(),
                        load_address: Address(object.bias),
                        dynamic: Address(object.dynamic),
                        path: object.path.map(|path| text_of(&path)).map_err(untouched),
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// A page that the process itself never touched is not lost: after `fork`, mapped pages come back one by one.
fn untouched(why: Absent) -> Absent {
    match why {
        Absent::Unreadable { fault: Fault::NotPresent { entry: 0, .. }, .. } => {
            Absent::NotApplicable("the process has not touched the page that holds it")
        }
        why => why,
    }
}
