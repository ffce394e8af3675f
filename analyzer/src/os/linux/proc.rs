//! The tree of files that the kernel and its modules register below `/proc` (fs/proc/generic.c, fs/proc/proc_net.c).
//!
//! The files of processes are made when they are looked up and are not in it. Each network namespace has a tree of its own
//! for `/proc/net`.

use std::collections::HashSet;

use object::walk::{self, End, Walked};
use object::{Absent, Ptr, Read, Target, Uint, layout};
use profile::Type;

use super::net::namespaces;
use super::rbtree;
use crate::error::Error;
use crate::notes::Notes;
use crate::table::text_of;

/// Most entries of all trees, deepest folder, and longest name (`proc_register()` allows 255 bytes).
const MAX_ENTRIES: usize = 1 << 18;
const MAX_DEPTH: usize = 64;
const MAX_NAME: usize = 255;
/// `S_IFDIR >> 12` (include/uapi/linux/stat.h).
const DIRECTORY: u16 = 4;

layout! {
    /// `proc_dir_entry` (fs/proc/internal.h).
    pub struct Entry / EntryLayout = "proc_dir_entry" {
        /// Bytes of its name.
        name_len: Uint = "namelen",
        /// Type and permissions (`S_IF*`, `0777`).
        mode: u16 = "mode",
        /// Topmost node of the tree of children, from Linux commit 710585d4922f (v3.19).
        subdir_root: Ptr = "subdir.rb_node",
        /// First child, before.
        subdir: Ptr = "subdir",
        /// Next entry of the same folder, before.
        next: Ptr = "next",
        /// `inode_operations` of its inodes.
        inode_operations: Ptr = "proc_iops",
        /// A `proc_ops` from Linux commit d56c0d45f0e2 (v5.6), a `file_operations` before.
        operations: Ptr = "proc_ops | proc_fops",
        /// How the file is listed, or the one function that prints it; from Linux commit 3f3942aca6da (v4.18).
        sequence: Ptr = "seq_ops",
        /// Function for writing; from Linux commit 564def71765c (v4.18).
        write: Ptr = "write",
    }

    struct Net / NetLayout = "net" {
        proc_net: Ptr = "proc_net",
        inum: u32 = "ns.inum | proc_inum",
    }
}

/// A file or folder below `/proc`.
pub struct File<'t> {
    /// The entry.
    pub entry: Entry<'t>,
    /// Its path.
    pub path: String,
    /// Network namespace whose `/proc/net` it is in.
    pub net_ns: Option<u32>,
}

/// What holds functions of a file.
pub enum Functions {
    /// A table of this type at this address.
    Table(&'static str, u64),
    /// One pointer: its member, the place where it stands, and where it leads.
    Pointer(&'static str, u64, Read<u64>),
}

/// All files and folders: those of `/proc`, then those of `/proc/net` of each network namespace; folders before what is in them.
pub fn files<'t>(notes: &Notes, target: &'t Target) -> Result<Vec<File<'t>>, Error> {
    let mut tree = Tree { notes, target, seen: HashSet::new(), found: Vec::new() };
    tree.add(target.symbol("proc_root")?, "/proc", None);
    for net in namespaces(notes, target)? {
        let net = Net::at(target, net.addr());
        match net.proc_net() {
            Ok(Ptr(0)) => {}
            Ok(Ptr(root)) => tree.add(root, "/proc/net", net.inum().ok()),
            Err(why) => notes.partial(format!("/proc/net of a network namespace cannot be walked: {why}")),
        }
    }
    Ok(tree.found)
}

struct Tree<'t, 'n> {
    notes: &'n Notes,
    target: &'t Target,
    seen: HashSet<u64>,
    found: Vec<File<'t>>,
}

impl Tree<'_, '_> {
    fn add(&mut self, root: u64, path: &str, net_ns: Option<u32>) {
        let mut waiting = vec![(root, path.to_owned(), 0)];
        while let Some((addr, path, depth)) = waiting.pop() {
            if !self.seen.insert(addr) {
                self.notes.partial(format!("entry of /proc is in the tree twice: {addr:#x}"));
                continue;
            }
            if self.found.len() >= MAX_ENTRIES {
                self.notes.walk("proc_root", &End::Truncated { limit: MAX_ENTRIES });
                return;
            }
            let entry = Entry::at(self.target, addr);
            let children = if depth < MAX_DEPTH {
                children(&entry)
            } else {
                Ok(Walked { nodes: Vec::new(), end: End::Complete })
            };
            match children {
                Ok(walked) => {
                    self.notes.walk(&path, &walked.end);
                    // The last one that waits comes next.
                    for child in walked.nodes.into_iter().rev() {
                        let name = Entry::at(self.target, child).name();
                        let name = name.unwrap_or_else(|why| format!("<{why}>"));
                        waiting.push((child, format!("{path}/{name}"), depth + 1));
                    }
                }
                Err(why) => self.notes.partial(format!("folder cannot be walked: {path}: {why}")),
            }
            self.found.push(File { entry, path, net_ns });
        }
    }
}

/// Addresses of the entries in a folder.
fn children(entry: &Entry<'_>) -> Read<Walked> {
    let target = entry.target();
    if let Ok(link) = target.offset_of(Entry::STRUCT, "subdir_node") {
        let Walked { nodes, end } = rbtree::nodes(target, entry.subdir_root()?.0);
        let nodes = nodes.into_iter().map(|node| node.wrapping_sub(link)).collect();
        return Ok(Walked { nodes, end });
    }
    let next = |child| Entry::at(target, child).next().map(|Ptr(next)| next);
    Ok(walk::chain(entry.subdir()?.0, MAX_ENTRIES, next))
}

impl Entry<'_> {
    /// Its name; a pointer to it, or on old kernels the text itself at the end of the struct.
    pub fn name(&self) -> Read<String> {
        let target = self.target();
        let place = target.types().resolve(Self::STRUCT, "name")?;
        let addr = self.addr().wrapping_add(place.offset);
        let text = match place.ty {
            Type::Pointer(_) => target.read_ptr(addr)?,
            _ => addr,
        };
        let Uint(len) = self.name_len()?;
        match usize::try_from(len) {
            Ok(max) if max <= MAX_NAME => Ok(text_of(&target.read_cstr(text, max)?)),
            _ => Err(Absent::Malformed("name longer than /proc allows")),
        }
    }

    /// What holds its functions; members the build does not have are left out.
    ///
    /// # Errors
    /// Why the entry cannot be read.
    pub fn functions(&self) -> Read<Vec<Functions>> {
        let target = self.target();
        let is_directory = self.mode()? >> 12 == DIRECTORY;
        let split = target.types().has_field(Self::STRUCT, "proc_ops");
        let mut found = Vec::new();
        let mut table = |structure, pointer: Read<Ptr>| match pointer {
            Ok(Ptr(0)) | Err(Absent::NoProfile(_)) => Ok(()),
            Ok(Ptr(table)) => {
                found.push(Functions::Table(structure, table));
                Ok(())
            }
            Err(why) => Err(why),
        };
        table("inode_operations", self.inode_operations())?;
        table(if split && !is_directory { "proc_ops" } else { "file_operations" }, self.operations())?;
        match self.sequence() {
            Err(Absent::NoProfile(_)) => {}
            sequence => {
                let Ptr(sequence) = sequence?;
                let place = self.addr().wrapping_add(target.offset_of(Self::STRUCT, "seq_ops")?);
                match self.is_single()? {
                    true => found.push(Functions::Pointer("single_show", place, Ok(sequence))),
                    false if sequence != 0 => found.push(Functions::Table("seq_operations", sequence)),
                    false => {}
                }
                let place = self.addr().wrapping_add(target.offset_of(Self::STRUCT, "write")?);
                found.push(Functions::Pointer("write", place, self.write().map(|Ptr(write)| write)));
            }
        }
        Ok(found)
    }

    /// Whether one function prints the file, so that `seq_ops` shares its place with a pointer to it.
    fn is_single(&self) -> Read<bool> {
        const TABLES: [&str; 4] =
            ["proc_single_ops", "proc_net_single_ops", "proc_single_fops", "proc_net_single_fops"];
        let Ptr(operations) = self.operations()?;
        Ok(TABLES.iter().any(|table| self.target().symbol(table) == Ok(operations)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{Memory, texts};
    use super::*;

    /// As in v6.1, in small; `net_namespace_list` is empty.
    const STRUCTS: &str = r#"{"proc_dir_entry": [128, {"mode": [0, ["unsigned short"]], "namelen": [2, ["unsigned char"]],
        "name": [8, ["Pointer"]], "subdir": [16, ["rb_root"]], "subdir_node": [24, ["rb_node"]],
        "proc_iops": [48, ["Pointer"]], "proc_ops": [56, ["Pointer"]], "seq_ops": [64, ["Pointer"]], "write": [72, ["Pointer"]]}],
        "rb_root": [8, {"rb_node": [0, ["Pointer"]]}],
        "rb_node": [24, {"rb_right": [8, ["Pointer"]], "rb_left": [16, ["Pointer"]]}],
        "list_head": [16, {"next": [0, ["Pointer"]], "prev": [8, ["Pointer"]]}],
        "net": [64, {"list": [0, ["list_head"]], "proc_net": [16, ["Pointer"]]}]}"#;

    /// An entry at an address: its name is at the end of its page, its first child's node in `child`, its own links nil.
    fn entry(memory: &mut Memory, at: u64, mode: u64, name: &str, child: u64, tables: [u64; 4]) {
        memory.words(at, &[mode | (name.len() as u64) << 16, at + 0x800, child, 0, 0, 0]);
        memory.words(at + 48, &tables).bytes(at + 0x800, name.as_bytes());
    }

    fn files_of(memory: &mut Memory) -> (Vec<String>, Vec<String>) {
        memory.words(0x900, &[0x900, 0x900]);
        let symbols = [("proc_root", 0x1000), ("net_namespace_list", 0x900), ("proc_single_ops", 0x77)];
        let target = memory.target(STRUCTS, &symbols);
        let notes = Notes::default();
        let found = files(&notes, &target).expect("there is a root");
        let show = |file: &File<'_>| {
            let functions = file.entry.functions().unwrap_or_default();
            let functions: Vec<String> = functions
                .iter()
                .map(|function| match function {
                    Functions::Table(name, table) => format!("{name}@{table:x}"),
                    Functions::Pointer(name, place, to) => {
                        format!("{name}@{place:x}={:x}", to.clone().unwrap_or(0))
                    }
                })
                .collect();
            format!("{} {}", file.path, functions.join(" "))
        };
        (found.iter().map(show).collect(), texts(&notes))
    }

    #[test]
    fn functions_are_where_the_kind_of_file_keeps_them() {
        let mut memory = Memory::default();
        entry(&mut memory, 0x1000, 0o040_555, "proc", 0x2018, [0xa, 0xb, 0, 0]);
        entry(&mut memory, 0x2000, 0o100_444, "tcp", 0, [0xa, 0xc, 0xd, 0xe]);
        entry(&mut memory, 0x3000, 0o100_444, "one", 0, [0xa, 0x77, 0xd, 0]);
        // one stands to the right of tcp.
        memory.word(0x2018 + 8, 0x3018);
        let (files, notes) = files_of(&mut memory);
        assert_eq!(
            files,
            [
                "/proc inode_operations@a file_operations@b write@1048=0",
                "/proc/tcp inode_operations@a proc_ops@c seq_operations@d write@2048=e",
                "/proc/one inode_operations@a proc_ops@77 single_show@3040=d write@3048=0",
            ]
        );
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn a_folder_that_holds_itself_ends() {
        let mut memory = Memory::default();
        entry(&mut memory, 0x1000, 0o040_555, "proc", 0x2018, [0; 4]);
        entry(&mut memory, 0x2000, 0o040_555, "loop", 0x2018, [0; 4]);
        let (files, notes) = files_of(&mut memory);
        assert_eq!(files.len(), 2);
        assert_eq!(notes, ["entry of /proc is in the tree twice: 0x2000"]);
    }

    #[test]
    fn what_is_missing_is_told() {
        let mut memory = Memory::default();
        entry(&mut memory, 0x1000, 0o040_555, "proc", 0x9018, [0; 4]);
        let (files, notes) = files_of(&mut memory);
        assert_eq!(files.len(), 1);
        assert!(matches!(notes.as_slice(), [note] if note.contains("broken at 0x9018")), "{notes:?}");
    }
}
