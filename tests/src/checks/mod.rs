//! One check per command: the records that the truth calls for, and those that `rekal` gave.

pub mod beside;
mod contents;
mod files;
mod heap;
pub mod hostile;
mod kernel;
mod network;
mod processes;
mod security;
pub mod swap;
mod threads;

use anyhow::{Context as _, Result};

use crate::rekal::{Rekal, Row};
use crate::table::{Comparison, Record};
use crate::truth::{Machine, Truth};

/// What the truth calls for, and what was found.
type Records = Result<(Vec<Record>, Vec<Record>)>;

/// Compares the rows of one command.
type Compare = fn(&Truth, &[Row]) -> Result<(Vec<Record>, Vec<Record>)>;

/// Every command that is compared with the truth.
const CHECKS: &[(&str, Compare)] = &[
    ("arp", network::arp),
    ("banner", kernel::banner),
    ("bash", security::bash),
    ("boottime", security::boottime),
    ("capabilities", security::capabilities),
    ("check_afinfo", security::nothing_hooked),
    ("check_creds", security::check_creds),
    ("check_idt", security::check_idt),
    ("check_inline_kernel", security::no_finding),
    ("check_modules", security::check_modules),
    ("check_proc_fops", security::check_proc_fops),
    ("check_syscall", security::check_syscall),
    ("check_task_fops", security::check_task_fops),
    ("check_ttys", security::nothing_hooked),
    ("coredump", contents::coredump),
    ("cpuinfo", kernel::cpuinfo),
    ("dmesg", kernel::dmesg),
    ("ebpf", security::no_finding),
    ("elfs", contents::elfs),
    ("envars", security::envars),
    ("ftrace", security::no_finding),
    ("heapdump", heap::heapdump),
    ("heapinfo", heap::heapinfo),
    ("heapobjects", heap::heapobjects),
    ("heaprefs", heap::heaprefs),
    ("heapsearch", heap::heapsearch),
    ("hidden_modules", security::no_finding),
    ("hostname", kernel::hostname),
    ("ifconfig", network::ifconfig),
    ("iomem", kernel::iomem),
    ("kallsyms", threads::kallsyms),
    ("kthreads", threads::kthreads),
    ("library_list", contents::library_list),
    ("lsmod", kernel::lsmod),
    ("lsmod_parameters", security::lsmod_parameters),
    ("lsmod_sections", security::lsmod_sections),
    ("lsof", files::lsof),
    ("malfind", contents::malfind),
    ("maps", files::maps),
    ("mcat", files::mcat),
    ("mls", files::mls),
    ("moddump", contents::moddump),
    ("modxview", security::modxview),
    ("mount", files::mount),
    ("netfilter", security::nothing_hooked),
    ("netstat", network::netstat),
    ("notifier_chains", security::nothing_hooked),
    ("perf_events", security::no_finding),
    ("pidhashtable", threads::pidhashtable),
    ("process_spoofing", threads::process_spoofing),
    ("psaux", processes::psaux),
    ("pscallstack", threads::pscallstack),
    ("pslist", processes::pslist),
    ("psscan", threads::psscan),
    ("pstree", processes::pstree),
    ("psxview", processes::psxview),
    ("ptrace", security::ptrace),
    ("sockscan", network::sockscan),
    ("tracepoints", security::no_finding),
    ("vadmap", contents::vadmap),
    ("vmcoreinfo", threads::vmcoreinfo),
    ("zsh", heap::zsh),
];

/// Commands whose truth (environments, sections, a bash) the small sample does not have.
const LAB_ONLY: [&str; 24] = [
    "bash",
    "check_proc_fops",
    "check_task_fops",
    "coredump",
    "elfs",
    "envars",
    "heapdump",
    "heapinfo",
    "heapobjects",
    "heaprefs",
    "heapsearch",
    "kallsyms",
    "library_list",
    "lsmod_parameters",
    "lsmod_sections",
    "mcat",
    "mls",
    "moddump",
    "process_spoofing",
    "pscallstack",
    "ptrace",
    "vadmap",
    "vmcoreinfo",
    "zsh",
];

/// Names of the commands that can be compared with the small sample.
pub fn sample_names() -> impl Iterator<Item = &'static str> {
    names().filter(|name| !LAB_ONLY.contains(name))
}

/// Commands about something that only x86 has.
const X86_ONLY: [&str; 2] = ["check_idt", "pscallstack"];

/// Whether a command writes files, whose names differ from run to run.
#[must_use]
pub fn writes(name: &str) -> bool {
    ["coredump", "heapdump", "mcat", "moddump"].contains(&name)
}

/// What a command must be told.
#[must_use]
pub fn arguments(name: &str) -> &'static [&'static str] {
    match name {
        "heapsearch" => &["--string", heap::TEXT],
        "mcat" => &["/etc/passwd", "/etc/group"],
        "check_afinfo" | "check_proc_fops" | "check_task_fops" | "check_ttys" => &["--all"],
        _ => &[],
    }
}

/// Names of the commands that are compared.
pub fn names() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|(name, _)| *name)
}

/// Runs a command on an image and compares its rows. A run that calls itself incomplete differs from the truth too.
pub fn check(name: &str, rekal: &Rekal, truth: &Truth) -> Result<Comparison> {
    let (_, compare) = CHECKS.iter().find(|(check, _)| *check == name).context("no such check")?;
    // Some commands write files.
    let scratch = tempfile::tempdir()?;
    let folder = scratch.path().to_str().context("not UTF-8")?;
    if X86_ONLY.contains(&name) && truth.machine()? == Machine::Arm64 {
        return Ok(refused(rekal, &[name]));
    }
    let swap = rekal.image.with_file_name("swap");
    let swap = swap.to_str().filter(|_| swap.is_file());
    let given = swap.map(|swap| vec!["--swap", swap]).unwrap_or_default();
    let output =
        rekal.run(&[&["--output_dir", folder], given.as_slice(), &[name], arguments(name)].concat())?;
    let (wanted, found) = compare(truth, &output.rows)?;
    let mut outcome = Comparison::of(wanted, found);
    if outcome.rows == 0 {
        outcome.differences.push("the truth has no row: nothing was compared".to_owned());
    }
    if !output.complete {
        outcome
            .differences
            .push(format!("the run was not complete: {}", serde_json::Value::from(output.notes)));
    }
    Ok(outcome)
}

/// A command that has no sense on the guest's processor must say so rather than give an empty answer.
fn refused(rekal: &Rekal, command: &[&str]) -> Comparison {
    let answer = match rekal.run(command) {
        Ok(output) => format!("{} rows", output.rows.len()),
        Err(error) => format!("{error:#}"),
    };
    let differences = if answer.contains("not applicable: ") { Vec::new() } else { vec![answer] };
    Comparison { rows: 1, cells: 1, differences }
}

/// An address as the program writes it.
fn hex(address: u64) -> String {
    format!("{address:#x}")
}
