//! A kernel without BTF whose profile nobody has: types of the nearest kernel in the repositories, with the symbols that the image
//! keeps itself.
//!
//! Types of another build are a guess, so each field that much depends on is tested on every process against what must hold in any
//! kernel. Where one of the list of processes fails, the kernel is too far; any other that fails is taken out of the profile, so that it
//! is absent rather than wrong. Truth: a guest whose BTF was wiped out, with the profile of a later build of its series only.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use object::walk::End;
use object::{Absent, Ptr, Read, Text, Uint, layout};
use profile::names::ProfileName;
use profile::{Document, Profile};
use profile_gen::kallsyms::Kallsyms;

use super::mm::Mm;
use super::module::{self, Module};
use super::task::Task;
use super::{Kernel, views};
use crate::session::Session;

/// Most profiles that are tried.
const MAX_PROFILES: usize = 8;
/// Most processes a field is tested on.
const MAX_TASKS: usize = 4096;
/// Of the symbols of a profile, how many in a hundred the image must have too.
const LEAST_COMMON: usize = 90;
/// `PID_MAX_LIMIT`.
const MAX_PID: i32 = 1 << 22;
/// Nanoseconds that no machine has run for: 100 years.
const MAX_AGE: u64 = 3_153_600_000_000_000_000;

layout! {
    struct Signal / SignalLayout = "signal_struct" {
        threads: i32 = "nr_threads",
    }
}

/// Types of a near kernel under the symbols of the image.
pub(super) struct Neighbour {
    /// Name of the profile.
    pub(super) name: String,
    /// Where it came from.
    pub(super) source: String,
    /// Both together.
    pub(super) document: Document,
    /// How many in a hundred of its symbols the image has.
    pub(super) common: usize,
}

/// The nearest profiles by release.
pub(super) fn names(session: &Session, releases: &BTreeSet<String>) -> Vec<ProfileName> {
    let Ok(repositories) = session.repositories() else { return Vec::new() };
    releases.iter().flat_map(|release| repositories.near_linux(release, MAX_PROFILES)).collect()
}

/// Those of a list of profiles whose symbols are like the image's, the most alike first.
pub(super) fn neighbours(session: &Session, names: &[ProfileName], symbols: &Kallsyms) -> Vec<Neighbour> {
    let Ok(repositories) = session.repositories() else { return Vec::new() };
    let known: HashSet<&str> = symbols.symbols.iter().map(|symbol| symbol.name.as_str()).collect();
    let mut found: Vec<Neighbour> = Vec::new();
    for name in names.iter().take(MAX_PROFILES) {
        let Ok(loaded) = repositories.load_named(name) else { continue };
        // Symbols of 64-bit x86 alone are known to be complete in kallsyms.
        if found.iter().any(|other| other.name == loaded.name)
            || loaded.profile.arch().is_some_and(|arch| arch != "AMD64")
        {
            continue;
        }
        let count = loaded.profile.symbol_count().max(1);
        let both = loaded.profile.symbols().filter(|symbol| known.contains(symbol.name)).count();
        let Ok(mut document) = loaded.profile.to_document() else { continue };
        profile_gen::take_symbols(&mut document, symbols);
        let common = both.saturating_mul(100) / count;
        found.push(Neighbour { name: loaded.name, source: loaded.source, document, common });
    }
    found.retain(|neighbour| neighbour.common >= LEAST_COMMON);
    found.sort_by_key(|neighbour| std::cmp::Reverse(neighbour.common));
    found
}

/// The outcome of the tests of fields.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tested {
    /// Number of fields that hold.
    pub(super) right: usize,
    /// Struct and field of those that do not.
    pub(super) wrong: Vec<(&'static str, &'static str)>,
    /// Struct and field of those that nothing could be said of.
    pub(super) untested: Vec<(&'static str, &'static str)>,
}

impl fmt::Display for Tested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |fields: &[(&str, &str)]| -> Vec<String> {
            fields.iter().map(|(structure, field)| format!("{structure}.{field}")).collect()
        };
        write!(f, "of the fields that were tested {} hold", self.right)?;
        if !self.wrong.is_empty() {
            write!(f, ", these do not and are left out: {}", list(&self.wrong).join(", "))?;
        }
        if !self.untested.is_empty() {
            write!(f, ", these could not be tested: {}", list(&self.untested).join(", "))?;
        }
        f.write_str("; all others are taken on trust")
    }
}

/// What is tested of a field in one process: whether it holds, or why it does not apply.
type Test = fn(&Kernel, &Task<'_>, &BTreeSet<u64>) -> Read<bool>;

/// Struct, field as the profile has it, and the test.
const TESTS: &[(&str, &str, Test)] = &[
    ("task_struct", "comm", |_, task, _| {
        let Text(name) = task.comm()?;
        Ok(!name.is_empty()
            && name.len() < 16
            && name.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ' || *byte == 0x1b))
    }),
    ("task_struct", "pid", |_, task, _| Ok((1..=MAX_PID).contains(&task.pid()?))),
    ("task_struct", "tgid", |_, task, _| Ok(task.tgid()? == task.pid()?)),
    ("task_struct", "real_parent", |kernel, task, tasks| {
        let Ptr(parent) = task.real_parent()?;
        Ok(tasks.contains(&parent) || Ok(parent) == kernel.target().symbol("init_task"))
    }),
    ("task_struct", "group_leader", |_, task, _| Ok(task.group_leader()? == Ptr(task.addr()))),
    ("task_struct", "mm", |_, task, _| {
        let Ptr(mm) = task.mm()?;
        Ok(mm == 0 || Mm::at(task.target(), mm).map_count()? > 0)
    }),
    ("task_struct", "flags", |_, task, _| Ok(!task.is_kernel_thread()? || task.mm()? == Ptr(0))),
    ("task_struct", "exit_state", |_, task, _| Ok([0, 16, 32].contains(&task.exit_state()?))),
    ("task_struct", "cred", |_, task, _| Ok(task.creds()?.uid()? <= 1 << 31)),
    ("task_struct", "signal", |_, task, _| {
        let Ptr(signal) = task.signal()?;
        Ok(Signal::at(task.target(), signal).threads()? >= 0)
    }),
    ("task_struct", "files", |_, task, _| pointer(task, task.files()?)),
    ("task_struct", "fs", |_, task, _| pointer(task, task.fs()?)),
    ("task_struct", "nsproxy", |_, task, _| pointer(task, task.nsproxy()?)),
    ("task_struct", "start_boottime", |_, task, _| Ok(task.start_boottime()? < MAX_AGE)),
    ("signal_struct", "nr_threads", |_, task, _| {
        let Ptr(signal) = task.signal()?;
        let threads = Signal::at(task.target(), signal).threads()?;
        Ok((1..=MAX_PID).contains(&threads) || task.exit_state()? != 0)
    }),
    ("mm_struct", "pgd", |_, task, _| task.dtb().map(|dtb| dtb.is_multiple_of(4096))),
    ("mm_struct", "map_count", |_, task, _| Ok((1..=1 << 20).contains(&mm(task)?.map_count()?))),
    ("mm_struct", "arg_start", |kernel, task, _| range(kernel, mm(task)?.arg_start()?, mm(task)?.arg_end()?)),
    ("mm_struct", "env_start", |kernel, task, _| range(kernel, mm(task)?.env_start()?, mm(task)?.env_end()?)),
    ("mm_struct", "start_brk", |kernel, task, _| range(kernel, mm(task)?.start_brk()?, mm(task)?.brk()?)),
    ("mm_struct", "exe_file", |_, task, _| mm(task)?.executable()?.location().map(|at| at.dentry != 0)),
];

/// The fields without which there is no list of processes.
const NEEDED: [&str; 4] = ["comm", "pid", "tgid", "real_parent"];

fn mm<'t>(task: &Task<'t>) -> Read<Mm<'t>> {
    super::mm::of_task(task)
}

fn range(kernel: &Kernel, Uint(start): Uint, Uint(end): Uint) -> Read<bool> {
    Ok(start <= end && end <= kernel.user_end())
}

/// Null, or where there is memory.
fn pointer(task: &Task<'_>, Ptr(pointer): Ptr) -> Read<bool> {
    Ok(pointer == 0 || pointer >> 63 == 1 && task.target().read_u64(pointer).is_ok())
}

/// Tests the fields of a kernel's types.
///
/// # Errors
/// Why the types cannot be those of this kernel.
pub(super) fn test(kernel: &Kernel) -> Result<Tested, String> {
    let (tasks, end) = views::task_list(kernel).map_err(|why| why.to_string())?;
    if tasks.len() < 2 || matches!(end, End::Cycle { .. }) {
        return Err("init_task.tasks is no list of processes with these types".to_owned());
    }
    let mut tested = Tested::default();
    for &(structure, field, test) in TESTS {
        let (mut held, mut of) = (0usize, 0usize);
        for task in tasks.iter().take(MAX_TASKS).map(|addr| Task::at(kernel.target(), *addr)) {
            match test(kernel, &task, &tasks) {
                Ok(holds) => (held, of) = (held + usize::from(holds), of + 1),
                Err(Absent::NotApplicable(_) | Absent::NoProfile(_)) => {}
                // A wrong pointer leads to where no memory is.
                Err(_) => of += 1,
            }
        }
        // Some memory is always torn.
        match (of, held * 10 >= of * 9) {
            (0, _) => tested.untested.push((structure, field)),
            (_, true) => tested.right += 1,
            (_, false) if NEEDED.contains(&field) => {
                return Err(format!("{structure}.{field} makes no sense in {} of {of} processes", of - held));
            }
            (_, false) => tested.wrong.push((structure, field)),
        }
    }
    modules(kernel, &mut tested);
    Ok(tested)
}

/// Tests the names of modules.
fn modules(kernel: &Kernel, tested: &mut Tested) {
    let field = ("module", "name");
    let named = |module: &Module<'_>| {
        module.name().is_ok_and(|Text(name)| !name.is_empty() && name.iter().all(u8::is_ascii_graphic))
    };
    let list = module::modules(&crate::notes::Notes::default(), kernel.target()).unwrap_or_default();
    match (list.is_empty(), list.iter().all(named)) {
        (true, _) => tested.untested.push(field),
        (false, true) => tested.right += 1,
        (false, false) => tested.wrong.push(field),
    }
}

/// The profile without the fields that failed.
pub(super) fn without(
    mut document: Document,
    wrong: &[(&'static str, &'static str)],
) -> Option<Arc<Profile>> {
    for (structure, field) in wrong {
        if let Some(structure) = document.structs.get_mut(*structure) {
            structure.fields.remove(*field);
        }
    }
    Profile::parse_text(document.to_canonical_json()).ok().map(Arc::new)
}
