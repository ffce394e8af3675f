//! Every difference between Volatility 3 and `rekal` on the guests, and why it is there.

use std::fmt::Write as _;

/// Why some differences are there.
#[derive(Debug, Clone, Copy)]
pub struct Explanation {
    /// Its name in reports and in the document.
    pub name: &'static str,
    /// The plugins it is about.
    plugins: &'static [&'static str],
    /// Lines of the comparison it covers; `*` stands for any text.
    lines: &'static [&'static str],
    /// What differs.
    difference: &'static str,
    /// Why, and who says so.
    reason: &'static str,
}

/// The version of Volatility that these are about.
pub const VERSION: &str = "2.28.2";

/// All explanations.
pub const ALL: &[Explanation] = &[
    Explanation {
        name: "mapped-inode-zero",
        plugins: &["elfs", "library_list", "malware.malfind", "proc.Maps"],
        lines: &["fails: AttributeError: 'NoneType' object has no attribute 'i_size'"],
        difference: "Volatility ends with an error and shows nothing",
        reason: "it takes an inode for valid only if its number is not 0, and does not expect to find none: a process of the guest maps \
                 the first System V segment, whose inode has the segment's number, 0",
    },
    Explanation {
        name: "other-producers",
        plugins: &["malware.hidden_modules"],
        lines: &["fails: Invalid symbol table, please ensure the ISF table produced by dwarf2json *"],
        difference: "Volatility refuses the symbol table",
        reason: "its test of the table's producer refuses every table that does not name `dwarf2json`; the table has what the plugin reads",
    },
    Explanation {
        name: "relative-export-table",
        plugins: &["kallsyms"],
        lines: &["fails: TypeError: pointer_to_string takes a Pointer"],
        difference: "Volatility ends with an error and shows nothing",
        reason: "names in the table of exported symbols are offsets since Linux 4.19; Volatility makes an integer of one and reads it as a pointer",
    },
    Explanation {
        name: "zombies",
        plugins: &["capabilities", "malware.process_spoofing", "psaux", "pslist", "pstree"],
        lines: &["not in Volatility: pid *"],
        difference: "Volatility has no row for a zombie",
        reason: "it takes a task without namespaces for damaged, and the kernel takes those from a process that ends; `/proc` of the guest lists it",
    },
    Explanation {
        name: "no-task-at-all",
        plugins: &["psscan"],
        lines: &[
            "missing: pid * at 0x* name=\"*\" ppid=\"0\"",
            "missing: pid -* at 0x* name=\"*\" ppid=\"*\"",
        ],
        difference: "Volatility finds tasks in places that hold none",
        reason: "it takes any memory with a pointer to a scheduling class in the right distance for a task; names of control characters and pids the guest never had tell that they are none",
    },
    Explanation {
        name: "threads",
        plugins: &["lsof", "pidhashtable", "psscan", "sockstat"],
        lines: &["missing: pid * thread *", "missing: ns * thread *"],
        difference: "Volatility has rows for threads",
        reason: "it repeats for every thread what belongs to the process; `rekal` shows processes, as the guest's `/proc` does",
    },
    Explanation {
        name: "start-times",
        plugins: &["pslist"],
        lines: &["pid *: started: Volatility \"*\", rekal \"*\""],
        difference: "Volatility's processes start up to a second too early",
        reason: "it adds the time since boot to the boot time without that one's fraction, which its own `boottime` shows; the guest's `/proc/PID/stat` and \
                 `/proc/stat` agree with `rekal`",
    },
    Explanation {
        name: "freed-history",
        plugins: &["bash"],
        lines: &["missing: pid * HOME=/root time=\"*\""],
        difference: "Volatility has two commands `HOME=/root`",
        reason: "it takes whatever in the heap has a pointer to a `#` where an entry has its time for an entry; these two are in no list of the shell, and nobody typed them",
    },
    Explanation {
        name: "root-resource",
        plugins: &["iomem"],
        lines: &["missing: 0x0 to 0x* depth=\"0\" name=\"PCI mem\""],
        difference: "Volatility shows the root of the tree",
        reason: "the kernel leaves it out of `/proc/iomem`, and so does `rekal`",
    },
    Explanation {
        name: "running",
        plugins: &["ip.Link"],
        lines: &["ns *: flags: Volatility \"*LOWER_UP,*\", rekal \"*LOWER_UP,*RUNNING,*\""],
        difference: "Volatility never shows `RUNNING`",
        reason: "the kernel does not store this flag; `dev_get_flags` makes it of the operational state, and `ip link` of the guest shows it",
    },
    Explanation {
        name: "device-that-is-down",
        plugins: &["ip.Link"],
        lines: &["ns *: state: Volatility \"lowerlayerdown\", rekal \"down\""],
        difference: "Volatility shows the stored state of a device that is not up",
        reason: "the kernel reports every such device as down (`rtnl_fill_ifinfo`), whatever was stored when it was last up; `ip link` shows that",
    },
    Explanation {
        name: "device-of-a-message",
        plugins: &["kmsg"],
        lines: &["missing: * SUBSYSTEM=* caller=\"*\"*", "missing: * DEVICE=* caller=\"*\"*"],
        difference: "Volatility has a line each for subsystem and device of a message",
        reason: "they are no message; `rekal` has a column for the device",
    },
    Explanation {
        name: "newest-message",
        plugins: &["kmsg"],
        lines: &["not in Volatility: * gt: message with a level, a *"],
        difference: "Volatility misses the newest message",
        reason: "it stops before the newest descriptor of the ring instead of behind it; the guest's `/dev/kmsg` ends with this message",
    },
    Explanation {
        name: "kthreadd",
        plugins: &["kthreads"],
        lines: &["not in Volatility: tid 2 function=\"\" module=\"\" name=\"kthreadd\" symbol=\"\""],
        difference: "Volatility has no row for `kthreadd`",
        reason: "it is started without the function of a thread, and Volatility skips such threads; the guest's `/proc` lists it",
    },
    Explanation {
        name: "functions-of-modules",
        plugins: &["kthreads"],
        lines: &["tid *: symbol: Volatility \"\", rekal \"loop_kthread_worker_fn\""],
        difference: "Volatility has no name for the function of a thread of the module `loop`",
        reason: "it finds no symbol of the module at this address; the guest's `/proc/kallsyms` has the name, and `rekal kallsyms` agrees with that",
    },
    Explanation {
        name: "anonymous-inodes",
        plugins: &["lsof"],
        lines: &[
            "pid * fd *: path: Volatility \"anon_inode:[*]\", rekal \"anon_inode:*\"",
            "pid * fd *: type: Volatility \"\", rekal \"ANON\"",
        ],
        difference: "Volatility shows the inode's number for an event, timer or signal descriptor",
        reason: "all of them share one inode; what the descriptor is stands in the name of its entry, as in the guest's `/proc/PID/fd`",
    },
    Explanation {
        name: "process-descriptors",
        plugins: &["lsof"],
        lines: &[
            "pid * fd *: path: Volatility \"<unsupported d_op symbol> pidfs_dname:[*]\", rekal \"anon_inode:[pidfd]\"",
        ],
        difference: "Volatility has no name for a process descriptor",
        reason: "they have a file system of their own since Linux 6.9, whose names it does not know; the guest's `/proc/PID/fd` has this one",
    },
    Explanation {
        name: "other-vectors",
        plugins: &["malware.check_idt"],
        lines: &["not in Volatility: vector *"],
        difference: "Volatility looks at the vectors 0 to 19 and 128",
        reason: "interrupts and the system's own vectors can be hooked too",
    },
    Explanation {
        name: "machine-check-gate",
        plugins: &["malware.check_idt"],
        lines: &["vector 18: symbol: Volatility \"\", rekal \"early_idt_handler_array+0xa2\""],
        difference: "Volatility has no name for the machine check's handler",
        reason: "this processor has no machine check, so the gate still leads to the early handler of vector 18, 18 * 9 bytes behind the array's start; \
                 Volatility names starts of functions only",
    },
    Explanation {
        name: "calls-without-metadata",
        plugins: &["malware.check_syscall"],
        lines: &["not in Volatility: *bit call 4* address=*"],
        difference: "Volatility looks at fewer calls: 430 of 451 in Linux 6.1, 443 of 463 in 6.12",
        reason: "it takes the number of `__syscall_meta__` symbols for the size of the table; calls without arguments and those of other names have none",
    },
    Explanation {
        name: "kernel-threads",
        plugins: &["malware.process_spoofing"],
        lines: &[
            "missing: pid * argv0=\"\" argv0 differs=\"false\" exe=\"\" name=\"*\" name differs=\"false\" ppid=\"*\"",
        ],
        difference: "Volatility has rows for threads of the kernel",
        reason: "they have neither a program nor arguments to compare",
    },
    Explanation {
        name: "pseudoterminals",
        plugins: &["malware.tty_check"],
        lines: &["not in Volatility: ptm* function=*", "not in Volatility: pts* function=*"],
        difference: "Volatility does not look at pseudoterminals",
        reason: "it walks the arrays of the drivers, which those of Unix 98 pseudoterminals do not fill: theirs are found through `devpts`",
    },
    Explanation {
        name: "hidden-root",
        plugins: &["mountinfo"],
        lines: &["ns * mount *: path: Volatility \"/\", rekal \"\""],
        difference: "Volatility gives a path to a mount that its namespace cannot reach",
        reason: "the only process of the namespace (`kdevtmpfs`) has the file system mounted above it as its root; `/proc/PID/mountinfo` leaves such mounts out",
    },
    Explanation {
        name: "bind-mounts",
        plugins: &["pagecache.Files"],
        lines: &[
            "not in Volatility: on /mnt/bind inode *",
            "not in Volatility: on /mnt/loop inode *",
            "missing: on /mnt/bind inode *",
        ],
        difference: "Volatility has one of the two trees of a file system and of a directory of it that is mounted elsewhere, and perhaps under the other's name",
        reason: "it lists each file system once, from its own root, with the place of the mount it meets first; `rekal` lists what is below every mount, as \
                 `find` in the guest does",
    },
    Explanation {
        name: "fractions-of-times",
        plugins: &["pagecache.Files"],
        lines: &["on /* inode * /*: *ed: Volatility \"*.000000\", rekal \"*\""],
        difference: "Volatility's times are whole seconds on Linux 6.12",
        reason: "it does not know the fields that hold the fractions since Linux 6.11 (`i_mtime_nsec`); the guest's `stat` has them",
    },
    Explanation {
        name: "pointers-to-functions",
        plugins: &["pscallstack"],
        lines: &["missing: tid * at 0x* name=\"*\" value=\"0x*\""],
        difference: "Volatility shows more words of the stacks",
        reason: "these lead to the first byte of a function, so no call can have left them: they are callbacks in structures on the stack; every frame of the guest's \
                 `/proc/PID/stack` is among those of `rekal`",
    },
    Explanation {
        name: "symbols-of-one-name",
        plugins: &["pscallstack"],
        lines: &["tid * at 0x*: name: Volatility \"set_pte\", rekal \"set_pte_2\""],
        difference: "Volatility has the name `set_pte` for `set_pte_2`",
        reason: "the kernel has several functions `set_pte`; a profile has each name once, and numbers the others",
    },
    Explanation {
        name: "parents-of-the-dead",
        plugins: &["psscan"],
        lines: &["pid * at 0x*: ppid: Volatility \"*\", rekal \"\""],
        difference: "Volatility has a parent for processes that were released",
        reason: "the parent may be gone as well, so `rekal` does not follow the pointer of a task in freed memory",
    },
    Explanation {
        name: "tracers",
        plugins: &["ptrace"],
        lines: &["missing: tid * tracer=\"\""],
        difference: "Volatility has a row for the tracer too",
        reason: "`rekal` has one row for each pair, with both",
    },
    Explanation {
        name: "numbers-of-unix-sockets",
        plugins: &["sockstat"],
        lines: &["ns * at 0x* pid * fd *: *port: Volatility \"*\", rekal \"\""],
        difference: "Volatility has ports for sockets without any",
        reason: "it shows the inode numbers of a Unix socket and its peer there, and 0 for what a netlink socket is connected to",
    },
    Explanation {
        name: "states-of-sockets",
        plugins: &["sockstat"],
        lines: &[
            "ns * at 0x* pid * fd *: state: Volatility \"unconnected\", rekal \"*\"",
            "ns * at 0x* pid * fd *: state: Volatility \"established\", rekal \"connected\"",
        ],
        difference: "other states for all but TCP sockets",
        reason: "Volatility shows those of `struct socket` or of TCP; `rekal` shows what the guest's `/proc/net/udp`, `raw` and `unix` show",
    },
    Explanation {
        name: "sockets-of-nobody",
        plugins: &["sockstat"],
        lines: &["not in Volatility: ns * at 0x* pid fd *"],
        difference: "Volatility misses sockets that no process has open",
        reason: "it looks at open files only; those of the kernel and those in `TIME_WAIT` are in the tables of the protocols, and in the guest's `/proc/net`",
    },
    Explanation {
        name: "start-of-vmalloc",
        plugins: &["vmcoreinfo"],
        lines: &["NUMBER(VMALLOC_START): value: Volatility \"18446*\", rekal \"ffff*\""],
        difference: "the start of the area of `vmalloc` in decimal",
        reason: "Volatility reads every `NUMBER` and prints it again; `rekal` shows the text of the note, which is hexadecimal here",
    },
];

/// The explanation of a line of a plugin's comparison.
#[must_use]
pub fn find(plugin: &str, line: &str) -> Option<&'static Explanation> {
    ALL.iter().find(|explanation| {
        explanation.plugins.contains(&plugin)
            && explanation.lines.iter().any(|pattern| matches(pattern, line))
    })
}

/// Whether a text is what a pattern with `*` for any text describes.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = text.get(at + part.len()..).unwrap_or_default();
    }
    text.ends_with(last)
}

/// The document that lists all explanations.
#[must_use]
pub fn document() -> String {
    let mut text = format!(
        "# Volatility 3 on the same images: where it differs from rekal\n\n\
         `compare-volatility` runs every plugin of Volatility {VERSION} for Linux that has a counterpart on the raw dump of a guest, with the\n\
         symbol table that `rekal convert_profile --to isf` writes of the guest's kernel, and compares row by row. It fails on a difference that\n\
         is not listed here. This page is written by `compare-volatility --document`; a test fails where it is out of date.\n\n\
         | name | plugins | difference | reason |\n|---|---|---|---|\n"
    );
    for Explanation { name, plugins, difference, reason, .. } in ALL {
        let plugins = plugins.join("`, `");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}` | `{plugins}` | {difference} | {reason} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volatility::pairs::PAIRS;

    #[test]
    fn patterns_match_from_end_to_end() {
        assert!(matches("missing: pid * name=\"gt\"", "missing: pid 1 fd 3 name=\"gt\""));
        assert!(matches("*", ""));
        assert!(!matches("missing: *", "not missing: pid 1"));
        assert!(!matches("a*bc*c", "abc"));
        assert!(!matches("pid 1", "pid 12"));
    }

    #[test]
    fn explanations_are_named_once_and_about_plugins_that_are_compared() {
        for (at, explanation) in ALL.iter().enumerate() {
            assert!(
                ALL.iter().skip(at + 1).all(|other| other.name != explanation.name),
                "{}",
                explanation.name
            );
            for plugin in explanation.plugins {
                assert!(PAIRS.iter().any(|pair| pair.plugin == *plugin), "{plugin}");
            }
        }
    }

    #[test]
    fn the_document_is_up_to_date() {
        assert_eq!(include_str!("../../../docs/volatility-differences.md"), document());
    }
}
