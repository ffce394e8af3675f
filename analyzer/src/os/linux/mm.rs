//! User address spaces: `mm_struct` and its `vm_area_struct`s (include/linux/mm_types.h).
//!
//! The areas stand in a maple tree (`mm_mt`, from v6.1) or in a list sorted by address (`mmap`, `vm_next`) beside a
//! red-black tree (`mm_rb`). Names are those of `/proc/PID/maps` (`show_map_vma` of fs/proc/task_mmu.c).

use std::sync::Arc;

use object::walk::{self, End};
use object::{Absent, Addr, Ptr, Read, Target, Uint, layout};

use super::file::File;
use super::path::Paths;
use super::task::{self, Task};
use super::{Kernel, ProcessSpace, maple, rbtree};
use crate::notes::Notes;
use crate::table::text_of;

/// Most areas of one address space; the default limit (`vm.max_map_count`) is 65,530.
const MAX_AREAS: usize = 1 << 20;
/// `VM_READ`, `VM_WRITE`, `VM_EXEC`, `VM_MAYSHARE` (include/linux/mm.h).
const VM_READ: u64 = 1;
const VM_WRITE: u64 = 2;
const VM_EXEC: u64 = 4;
const VM_MAYSHARE: u64 = 0x80;
/// Bits of a page offset on x86.
const PAGE_SHIFT: u32 = 12;
/// `vsyscall_mode` of a kernel without the page (arch/x86/entry/vsyscall/vsyscall_64.c).
const VSYSCALL_NONE: u32 = 2;
/// `MM_CONTEXT_HAS_VSYSCALL` (arch/x86/include/asm/mmu.h, from v5.11).
const MM_CONTEXT_HAS_VSYSCALL: u64 = 1 << 1;

layout! {
    /// `mm_struct`: a user address space, shared by the threads of a process.
    pub struct Mm / MmLayout = "mm_struct" {
        /// First area of the list; before v6.1.
        mmap: Ptr = "mmap",
        /// Topmost node of the areas' red-black tree; before v6.1.
        mm_rb: Ptr = "mm_rb.rb_node",
        /// Tree of the areas; from v6.1.
        mm_mt: Addr = "mm_mt",
        /// Number of areas.
        map_count: i32 = "map_count",
        /// First address of the heap.
        start_brk: Uint = "start_brk",
        /// End of the heap.
        brk: Uint = "brk",
        /// Where the main thread's stack began.
        start_stack: Uint = "start_stack",
        /// First byte of the command line.
        arg_start: Uint = "arg_start",
        /// End of the command line.
        arg_end: Uint = "arg_end",
        /// First byte of the environment.
        env_start: Uint = "env_start",
        /// End of the environment.
        env_end: Uint = "env_end",
        /// Auxiliary vector that the program was given: pairs of words.
        auxv: Addr = "saved_auxv",
        /// The program that runs: a `file`.
        exe_file: Ptr = "exe_file",
        /// First address of the page of system call stubs.
        vdso: Ptr = "context.vdso",
        /// Whether it is a 32-bit process; before v5.11.
        ia32_compat: Uint = "context.ia32_compat",
        /// `MM_CONTEXT_*` flags; from v5.11.
        context_flags: Uint = "context.flags",
    }

    /// `vm_area_struct`: a range of addresses mapped in one way.
    pub struct Vma / VmaLayout = "vm_area_struct" {
        /// First address.
        vm_start: Uint = "vm_start",
        /// End, exclusive.
        vm_end: Uint = "vm_end",
        /// Next area of the list; before v6.1.
        vm_next: Ptr = "vm_next",
        /// `VM_*` flags.
        vm_flags: Uint = "vm_flags",
        /// Place in the file, in pages.
        vm_pgoff: Uint = "vm_pgoff",
        /// Mapped file, or null.
        vm_file: Ptr = "vm_file",
        /// `vm_operations_struct`, or null for plain anonymous memory.
        vm_ops: Ptr = "vm_ops",
        /// What the kind of mapping keeps.
        private_data: Ptr = "vm_private_data",
        /// `anon_vma_name`, or null; from v5.17.
        anon_name: Ptr = "anon_name",
    }

    struct VmOperations / VmOperationsLayout = "vm_operations_struct" {
        name: Ptr = "name",
    }

    struct SpecialMapping / SpecialMappingLayout = "vm_special_mapping" {
        name: Ptr = "name",
    }

    struct AnonVmaName / AnonVmaNameLayout = "anon_vma_name" {
        name: Addr = "name",
    }
}

/// The address space of a process; not applicable to zombies and kernel threads. A kernel thread may borrow one for a
/// while (`kthread_use_mm`), but has none of its own (`get_task_mm`).
pub fn of_task<'k>(task: &Task<'k>) -> Read<Mm<'k>> {
    let mm = task.mm()?.non_null("no user address space")?;
    if task.is_kernel_thread()? {
        return Err(Absent::NotApplicable("kernel thread"));
    }
    Ok(Mm::at(task.target(), mm))
}

/// The address space and the areas of a process, ascending. What is missing is noted; `None` for tasks without user memory.
pub fn areas_of<'k>(notes: &Notes, task: &Task<'k>) -> Option<(Mm<'k>, Vec<Vma<'k>>)> {
    let mm = match of_task(task) {
        Ok(mm) => mm,
        Err(why) => {
            if why.is_loss() {
                notes.partial(format!("areas of {} are missing: {why}", task::describe(task)));
            }
            return None;
        }
    };
    let (areas, end) = areas(&mm);
    let count = mm.map_count().ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let who = task::describe(task);
    if end != End::Complete {
        notes.walk(&format!("areas of {who}"), &end);
    } else if areas.len() < count {
        notes.partial(format!("only {} of {count} areas of {who} were found", areas.len()));
    }
    Some((mm, areas))
}

/// The memory of a process behind its page tables. What is missing is noted; `None` for tasks without user memory.
pub fn space_of(notes: &Notes, kernel: &Kernel, task: &Task<'_>) -> Option<Arc<ProcessSpace>> {
    match of_task(task).and_then(|_| task.user_space(kernel)) {
        Ok(space) => Some(space),
        Err(why) => {
            if why.is_loss() {
                notes.partial(format!("pages of {} are missing: {why}", task::describe(task)));
            }
            None
        }
    }
}

/// The areas of the address space at `mm`, ascending, and how the walk ended.
#[must_use]
pub fn areas<'t>(mm: &Mm<'t>) -> (Vec<Vma<'t>>, End) {
    let target = mm.target();
    let area = |addr| Vma::at(target, addr);
    if target.types().has_field(Mm::STRUCT, "mm_mt") {
        let (entries, end) = match mm.mm_mt() {
            Ok(Addr(tree)) => maple::entries(target, tree),
            Err(why) => (Vec::new(), End::Broken { node: mm.addr(), why, recovered: 0 }),
        };
        return (entries.into_iter().map(|entry| area(entry.value)).collect(), end);
    }
    let first = match mm.mmap() {
        Ok(Ptr(first)) => first,
        Err(why) => return (Vec::new(), End::Broken { node: mm.addr(), why, recovered: 0 }),
    };
    let walked = walk::chain(first, MAX_AREAS, |addr| area(addr).vm_next().map(|Ptr(next)| next));
    let mut areas: Vec<Vma<'t>> = walked.nodes.iter().copied().map(area).collect();
    let end = if walked.is_complete() { End::Complete } else { recover(mm, &mut areas, walked.end) };
    (areas, end)
}

/// Adds what the red-black tree has and a torn list lacks; the end that says how the list ended and what was added.
fn recover<'t>(mm: &Mm<'t>, areas: &mut Vec<Vma<'t>>, end: End) -> End {
    let target = mm.target();
    let (Ok(Ptr(root)), Ok(link)) = (mm.mm_rb(), target.offset_of(Vma::STRUCT, "vm_rb")) else { return end };
    let known: std::collections::HashSet<u64> = areas.iter().map(Vma::addr).collect();
    let tree = rbtree::nodes(target, root);
    let before = areas.len();
    areas
        .extend(tree.containers(link).filter(|addr| !known.contains(addr)).map(|addr| Vma::at(target, addr)));
    let added = areas.len().saturating_sub(before);
    areas.sort_by_cached_key(|area| (area.vm_start().map_or(u64::MAX, |start| start.0), area.addr()));
    match end {
        End::Broken { node, why, .. } => End::Broken { node, why, recovered: added },
        end => end,
    }
}

/// The page of the old system call interface, which every 64-bit process has without an area of its own, unless the
/// kernel does without (`get_gate_vma` of arch/x86/entry/vsyscall/vsyscall_64.c).
#[must_use]
pub fn gate_area<'t>(mm: &Mm<'t>) -> Option<Vma<'t>> {
    let target = mm.target();
    let gate = target.symbol("gate_vma").ok()?;
    if target.read_u32(target.symbol("vsyscall_mode").ok()?) == Ok(VSYSCALL_NONE) {
        return None;
    }
    let has_page = match mm.ia32_compat() {
        Ok(Uint(compat)) => compat == 0,
        Err(_) => mm.context_flags().is_ok_and(|Uint(flags)| flags & MM_CONTEXT_HAS_VSYSCALL != 0),
    };
    has_page.then(|| Vma::at(target, gate))
}

impl<'t> Mm<'t> {
    /// The program that runs, as `/proc/PID/exe` has it.
    pub fn executable(&self) -> Read<File<'t>> {
        Ok(File::at(self.target(), self.exe_file()?.non_null("no executable")?))
    }
}

impl<'t> Vma<'t> {
    /// First address and end, exclusive.
    pub fn range(&self) -> Read<(u64, u64)> {
        let (Uint(start), Uint(end)) = (self.vm_start()?, self.vm_end()?);
        if start < end { Ok((start, end)) } else { Err(Absent::Malformed("area that ends before it begins")) }
    }

    /// Permissions as in `/proc/PID/maps`: `r-xp`; the last letter is `s` for memory that may be shared.
    pub fn permissions(&self) -> Read<String> {
        let Uint(flags) = self.vm_flags()?;
        let letter = |bit, letter| if flags & bit != 0 { letter } else { '-' };
        let sharing = if flags & VM_MAYSHARE != 0 { 's' } else { 'p' };
        Ok([letter(VM_READ, 'r'), letter(VM_WRITE, 'w'), letter(VM_EXEC, 'x'), sharing].iter().collect())
    }

    /// The mapped file; not applicable to other memory.
    pub fn file(&self) -> Read<File<'t>> {
        self.vm_file()?.non_null("no file is mapped").map(|file| File::at(self.target(), file))
    }

    /// Place of the area's first byte in the mapped file, in bytes.
    pub fn file_offset(&self) -> Read<u64> {
        self.file()?;
        Ok(self.vm_pgoff()?.0.wrapping_shl(PAGE_SHIFT))
    }
}

/// Names areas as `/proc/PID/maps` does.
pub struct AreaNames<'p, 'k> {
    target: &'k Target,
    paths: &'p Paths<'k>,
    special_mapping_name: Option<u64>,
    gate_vma_name: Option<u64>,
    /// Whether `anon_name` shares its place with the links of mapped files and so means nothing for them (before v6.2).
    anon_name_is_union: bool,
    /// Whether the heap is what overlaps `start_brk..brk`; areas that merely touch it count before v6.6.
    heap_overlaps: bool,
}

impl<'p, 'k> AreaNames<'p, 'k> {
    /// Looks up what names depend on.
    #[must_use]
    pub fn new(target: &'k Target, paths: &'p Paths<'k>) -> Self {
        let offset = |field| target.offset_of(Vma::STRUCT, field).ok();
        let anon_name = offset("anon_name");
        Self {
            target,
            paths,
            special_mapping_name: target.symbol("special_mapping_name").ok(),
            gate_vma_name: target.symbol("gate_vma_name").ok(),
            anon_name_is_union: anon_name.is_some() && anon_name == offset("shared"),
            // The test came with v6.6 (include/linux/mm.h), the next change of task_mmu.c that leaves a trace in
            // types with v6.7.
            heap_overlaps: target.types().structure("pagemap_scan_private").is_ok(),
        }
    }

    /// The last column of `/proc/PID/maps`: path, `[heap]`, `[vdso]`, `[anon:NAME]`; not applicable where it is empty.
    pub fn name(&self, mm: &Mm<'_>, area: &Vma<'_>) -> Read<String> {
        match area.file() {
            Ok(file) => {
                if !self.anon_name_is_union
                    && let Some(name) = self.anon_name(area)?
                {
                    return Ok(format!("[anon_shmem:{name}]"));
                }
                return self.paths.d_path(file.user_location()?);
            }
            Err(Absent::NotApplicable(_)) => {}
            Err(why) => return Err(why),
        }
        if let Some(name) = self.special(area)? {
            return Ok(name);
        }
        let (Uint(start), Uint(end)) = (area.vm_start()?, area.vm_end()?);
        if mm.vdso() == Ok(Ptr(start)) {
            return Ok("[vdso]".to_owned());
        }
        let (Uint(brk), Uint(start_brk)) = (mm.brk()?, mm.start_brk()?);
        let heap = match self.heap_overlaps {
            true => start < brk && end > start_brk,
            false => start <= brk && end >= start_brk,
        };
        if heap {
            return Ok("[heap]".to_owned());
        }
        let Uint(stack) = mm.start_stack()?;
        if start <= stack && end >= stack {
            return Ok("[stack]".to_owned());
        }
        match self.anon_name(area)? {
            Some(name) => Ok(format!("[anon:{name}]")),
            None => Err(Absent::NotApplicable("anonymous memory")),
        }
    }

    /// The name a mapping's operations give it.
    fn special(&self, area: &Vma<'_>) -> Read<Option<String>> {
        let Ptr(ops) = area.vm_ops()?;
        if ops == 0 {
            return Ok(None);
        }
        let function = match VmOperations::at(self.target, ops).name() {
            Ok(Ptr(function)) => function,
            // Before v3.16.
            Err(Absent::NoProfile(_)) => 0,
            Err(why) => return Err(why),
        };
        if function == 0 {
            return Ok(None);
        }
        if Some(function) == self.gate_vma_name {
            return Ok(Some("[vsyscall]".to_owned()));
        }
        if self.special_mapping_name.is_some_and(|known| known != function) {
            return Err(Absent::Malformed("named by a function that is not known"));
        }
        let mapping = area.private_data()?.non_null("special mapping without description")?;
        match SpecialMapping::at(self.target, mapping).name()? {
            Ptr(0) => Ok(None),
            Ptr(name) => Ok(Some(text_of(&self.target.read_cstr(name, 256)?))),
        }
    }

    /// The name a program gave to anonymous memory (`PR_SET_VMA_ANON_NAME`, from v5.17).
    fn anon_name(&self, area: &Vma<'_>) -> Read<Option<String>> {
        let pointer = match area.anon_name() {
            Err(Absent::NoProfile(_)) | Ok(Ptr(0)) => return Ok(None),
            pointer => pointer?.0,
        };
        let Addr(name) = AnonVmaName::at(self.target, pointer).name()?;
        // ANON_VMA_NAME_MAX_LEN is 80.
        Ok(Some(text_of(&self.target.read_cstr(name, 80)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::linux::testkit::Memory;

    const STRUCTS: &str = r#"{
        "mm_struct": [48, {
            "mmap": [0, ["Pointer", {"target": "vm_area_struct"}]], "mm_rb": [8, ["rb_root"]],
            "start_brk": [16, ["long unsigned int"]], "brk": [24, ["long unsigned int"]],
            "start_stack": [32, ["long unsigned int"]], "context": [40, ["mm_context_t"]]}],
        "mm_context_t": [8, {"ia32_compat": [0, ["unsigned short"]]}],
        "rb_root": [8, {"rb_node": [0, ["Pointer", {"target": "rb_node"}]]}],
        "rb_node": [24, {"rb_right": [8, ["Pointer", {"target": "rb_node"}]], "rb_left": [16, ["Pointer", {"target": "rb_node"}]]}],
        "vm_area_struct": [80, {
            "vm_start": [0, ["long unsigned int"]], "vm_end": [8, ["long unsigned int"]],
            "vm_next": [16, ["Pointer", {"target": "vm_area_struct"}]], "vm_rb": [24, ["rb_node"]],
            "vm_flags": [48, ["long unsigned int"]], "vm_file": [56, ["Pointer", {"target": "file"}]],
            "vm_ops": [64, ["Pointer", {"target": "Void"}]]}]
    }"#;
    const MM: u64 = 0x1000;

    /// An area of one page in the list: `(address, start, next)`.
    fn area(memory: &mut Memory, at: u64, start: u64, next: u64) {
        memory.words(at, &[start, start + 0x1000, next, 0, 0, 0, 0x73, 0, 0]);
    }

    fn mm(memory: &mut Memory, first: u64, tree: u64) {
        memory.words(MM, &[first, tree, 0x7_0000, 0x7_1000, 0x9_0800, 0]);
    }

    fn starts(memory: &Memory) -> (Vec<u64>, End) {
        let target = memory.target(STRUCTS, &[]);
        let (areas, end) = areas(&Mm::at(&target, MM));
        (areas.iter().map(|area| area.vm_start().expect("readable").0).collect(), end)
    }

    #[test]
    fn the_list_gives_the_areas_in_order() {
        let mut memory = Memory::default();
        mm(&mut memory, 0x2000, 0);
        area(&mut memory, 0x2000, 0x7_0000, 0x2100);
        area(&mut memory, 0x2100, 0x9_0000, 0);
        assert_eq!(starts(&memory), (vec![0x7_0000, 0x9_0000], End::Complete));
    }

    #[test]
    fn a_list_that_loops_ends() {
        let mut memory = Memory::default();
        mm(&mut memory, 0x2000, 0);
        area(&mut memory, 0x2000, 0x7_0000, 0x2100);
        area(&mut memory, 0x2100, 0x9_0000, 0x2000);
        assert_eq!(starts(&memory), (vec![0x7_0000, 0x9_0000], End::Cycle { node: 0x2000 }));
    }

    #[test]
    fn the_tree_gives_what_a_torn_list_lacks() {
        let mut memory = Memory::default();
        mm(&mut memory, 0x2000, 0x2100 + 24);
        area(&mut memory, 0x2000, 0x7_0000, 0xdead_0000);
        area(&mut memory, 0x2100, 0x5_0000, 0);
        let (starts, end) = starts(&memory);
        assert_eq!(starts, [0x5_0000, 0x7_0000]);
        assert!(matches!(end, End::Broken { node: 0xdead_0000, recovered: 1, .. }), "{end:?}");
    }

    #[test]
    fn anonymous_areas_are_named_by_their_place() {
        let mut memory = Memory::default();
        mm(&mut memory, 0x2000, 0);
        area(&mut memory, 0x2000, 0x7_0000, 0);
        area(&mut memory, 0x2100, 0x9_0000, 0);
        area(&mut memory, 0x2200, 0x5_0000, 0);
        // Ends where the heap begins: named by kernels before v6.6 only.
        area(&mut memory, 0x2300, 0x6_f000, 0);
        let name = |structs: &str, at| {
            let target = memory.target(structs, &[]);
            let paths = Paths::new(&target, None);
            AreaNames::new(&target, &paths).name(&Mm::at(&target, MM), &Vma::at(&target, at))
        };
        assert_eq!(name(STRUCTS, 0x2000).as_deref(), Ok("[heap]"));
        assert_eq!(name(STRUCTS, 0x2100).as_deref(), Ok("[stack]"));
        assert_eq!(name(STRUCTS, 0x2200), Err(Absent::NotApplicable("anonymous memory")));
        assert_eq!(name(STRUCTS, 0x2300).as_deref(), Ok("[heap]"));
        let newer = STRUCTS.replacen('{', r#"{"pagemap_scan_private": [8, {}], "#, 1);
        assert_eq!(name(&newer, 0x2300), Err(Absent::NotApplicable("anonymous memory")));
    }

    #[test]
    fn the_system_call_page_follows_mode_and_word_size() {
        let build = |mode: u64, compat: u64| {
            let mut memory = Memory::default();
            mm(&mut memory, 0, 0);
            memory.word(MM + 40, compat).word(0x3000, mode);
            memory.target(STRUCTS, &[("gate_vma", 0x4000), ("vsyscall_mode", 0x3000)])
        };
        let shown = |target: Target| gate_area(&Mm::at(&target, MM)).map(|area| area.addr());
        assert_eq!(shown(build(1, 0)), Some(0x4000));
        assert_eq!(shown(build(1, 1)), None);
        assert_eq!(shown(build(u64::from(VSYSCALL_NONE), 0)), None);
    }
}
