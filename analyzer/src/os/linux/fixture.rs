//! A tiny machine for tests: physical memory, page tables, and a kernel in it.
//!
//! ```text
//! virtual                 physical
//! 0xffff888000000000  ->  0          direct map, 1 GiB page
//! 0xffffffff81200000  ->  0x200000   kernel image, linked at 0xffffffff81000000
//! 0xffffffffa0000000  ->  0x400000   modules
//! ```

use std::fmt::Write as _;
use std::sync::Arc;

use memory::{AddressSpace, FileSpace, paging};
use profile::Profile;

use super::{Kernel, Layout};

/// First address of the direct map.
pub(super) const DIRECT: u64 = 0xffff_8880_0000_0000;
/// Run-time address of the kernel image.
pub(super) const IMAGE: u64 = 0xffff_ffff_8120_0000;
/// Run-time minus link-time address.
pub(super) const SLIDE: u64 = 0x20_0000;
/// First address of modules.
pub(super) const MODULES: u64 = 0xffff_ffff_a000_0000;
/// Bytes of physical memory.
const SIZE: usize = 0x60_0000;
/// The first table; three more follow.
const ROOT: usize = 0x1000;

/// Structs of the fixture's kernel: as few fields as the code under test needs.
pub(super) const STRUCTS: &str = r#"{
    "list_head": [16, {"next": [0, ["Pointer", {"target": "list_head"}]], "prev": [8, ["Pointer", {"target": "list_head"}]]}],
    "hlist_head": [8, {"first": [0, ["Pointer", {"target": "Void"}]]}],
    "hlist_node": [16, {"next": [0, ["Pointer", {"target": "Void"}]]}],
    "task_struct": [256, {
        "pid": [0, ["int"]], "tgid": [4, ["int"]], "comm": [8, ["Array", {"count": 16, "target": "char"}]],
        "group_leader": [24, ["Pointer", {"target": "task_struct"}]], "real_parent": [32, ["Pointer", {"target": "task_struct"}]],
        "tasks": [40, ["list_head"]], "children": [56, ["list_head"]], "sibling": [72, ["list_head"]],
        "sighand": [88, ["Pointer", {"target": "Void"}]], "exit_state": [96, ["int"]],
        "signal": [104, ["Pointer", {"target": "signal_struct"}]], "thread_node": [112, ["list_head"]],
        "pid_links": [128, ["Array", {"count": 4, "target": "hlist_node"}]]}],
    "signal_struct": [64, {"thread_head": [16, ["list_head"]]}],
    "pid": [64, {"tasks": [8, ["Array", {"count": 4, "target": "hlist_head"}]]}],
    "pid_namespace": [64, {"idr": [8, ["idr"]]}],
    "idr": [24, {"idr_rt": [0, ["xarray"]]}],
    "xarray": [16, {"xa_head": [8, ["Pointer", {"target": "Void"}]]}],
    "xa_node": [552, {"shift": [0, ["unsigned char"]], "slots": [40, ["Array", {"count": 64, "target": "Pointer"}]]}],
    "module": [256, {
        "list": [8, ["list_head"]], "name": [24, ["Array", {"count": 56, "target": "char"}]],
        "core_layout": [80, ["module_layout"]], "kallsyms": [96, ["Pointer", {"target": "mod_kallsyms"}]]}],
    "module_layout": [16, {"base": [0, ["Pointer", {"target": "Void"}]], "size": [8, ["unsigned int"]]}],
    "mod_kallsyms": [32, {"symtab": [0, ["Pointer", {"target": "Void"}]], "num_symtab": [8, ["unsigned int"]],
                          "strtab": [16, ["Pointer", {"target": "char"}]]}]
}"#;

/// Memory under construction.
pub(super) struct Machine {
    memory: Vec<u8>,
    /// Names and link-time addresses.
    symbols: Vec<(String, u64)>,
}

impl Machine {
    /// Empty memory with page tables.
    pub(super) fn new() -> Self {
        let mut machine = Self { memory: vec![0; SIZE], symbols: Vec::new() };
        // Entries: present, writable; bit 7 makes a large page.
        let mut entry = |table: usize, index: usize, value: u64| {
            let at = ROOT + table * 0x1000 + index * 8;
            machine.memory[at..at + 8].copy_from_slice(&(value | 3).to_le_bytes());
        };
        entry(0, 273, 0x2000);
        entry(1, 0, 1 << 7);
        entry(0, 511, 0x3000);
        entry(2, 510, 0x4000);
        entry(3, 9, 0x20_0000 | 1 << 7);
        entry(3, 256, 0x40_0000 | 1 << 7);
        machine.symbol("_text", IMAGE).symbol("_end", IMAGE + 0x20_0000);
        machine
    }

    fn physical(addr: u64) -> usize {
        let place = match addr {
            MODULES.. => addr - MODULES + 0x40_0000,
            IMAGE.. => addr - IMAGE + 0x20_0000,
            _ => addr - DIRECT,
        };
        usize::try_from(place).expect("in the machine")
    }

    /// Gives a name to a run-time address of the image.
    pub(super) fn symbol(&mut self, name: &str, addr: u64) -> &mut Self {
        self.symbols.push((name.to_owned(), addr.wrapping_sub(SLIDE)));
        self
    }

    /// Writes bytes at a virtual address.
    pub(super) fn bytes(&mut self, addr: u64, bytes: &[u8]) -> &mut Self {
        let at = Self::physical(addr);
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Writes a 64-bit word.
    pub(super) fn word(&mut self, addr: u64, value: u64) -> &mut Self {
        self.bytes(addr, &value.to_le_bytes())
    }

    /// Writes a 32-bit word.
    pub(super) fn half(&mut self, addr: u64, value: u32) -> &mut Self {
        self.bytes(addr, &value.to_le_bytes())
    }

    /// Links nodes into a circular list.
    pub(super) fn list(&mut self, head: u64, nodes: &[u64]) -> &mut Self {
        let ring: Vec<u64> = std::iter::once(head).chain(nodes.iter().copied()).collect();
        for (at, node) in ring.iter().enumerate() {
            let next = ring[(at + 1) % ring.len()];
            let prev = ring[(at + ring.len() - 1) % ring.len()];
            self.word(*node, next).word(node + 8, prev);
        }
        self
    }

    /// The kernel that runs on it.
    pub(super) fn kernel(&self) -> Kernel {
        self.kernel_with(STRUCTS)
    }

    /// A kernel of other structs.
    pub(super) fn kernel_with(&self, structs: &str) -> Kernel {
        let mut constants = String::new();
        for (name, addr) in &self.symbols {
            write!(constants, "{}\"{name}\": {addr}", if constants.is_empty() { "" } else { ", " })
                .expect("text");
        }
        let text = format!(
            r#"{{"$METADATA": {{"ProfileClass": "Linux64", "arch": "AMD64"}}, "$STRUCTS": {structs}, "$CONSTANTS": {{{constants}}}}}"#
        );
        let profile = Arc::new(Profile::parse_text(text).expect("profile"));
        let physical: Arc<dyn AddressSpace> = Arc::new(FileSpace::from_vec(self.memory.clone()));
        let layout =
            Layout { paging: &paging::X64, dtb: ROOT as u64, slide: SLIDE, physical_shift: 0, ram_start: 0 };
        Kernel::new(profile, &physical, layout, ("test".to_owned(), "test".to_owned()), Vec::new())
    }
}

/// A process to put into a [`Machine`].
#[derive(Clone, Copy)]
pub(super) struct Process {
    /// Address of its `task_struct`, in the direct map or the image; the page behind it holds its other structs.
    pub(super) addr: u64,
    /// Process id.
    pub(super) pid: u32,
    /// Name.
    pub(super) name: &'static str,
    /// Address of the parent's `task_struct`.
    pub(super) parent: u64,
}

/// Where the idle task is.
pub(super) const IDLE: u64 = IMAGE + 0x1000;
const PID_NAMESPACE: u64 = IMAGE + 0x4000;
const XA_NODE: u64 = DIRECT + 0x10_0000;

impl Process {
    /// A process in the direct map, 8 KiB for each.
    pub(super) fn new(pid: u32, name: &'static str, parent: u64) -> Self {
        Self { addr: Self::place(pid), pid, name, parent }
    }

    /// Address of a process made by [`Process::new`].
    pub(super) fn place(pid: u32) -> u64 {
        DIRECT + 0x11_0000 + u64::from(pid) * 0x2000
    }

    /// Its `struct pid`.
    pub(super) fn pid_struct(&self) -> u64 {
        self.addr + 0x1000 + 64
    }

    fn write(&self, machine: &mut Machine) {
        let signal = self.addr + 0x1000;
        machine.half(self.addr, self.pid).half(self.addr + 4, self.pid);
        machine.bytes(self.addr + 8, self.name.as_bytes());
        machine.word(self.addr + 24, self.addr).word(self.addr + 32, self.parent);
        machine.word(self.addr + 88, DIRECT + 0x8000).word(self.addr + 104, signal);
        machine.list(signal + 16, &[self.addr + 112]);
        machine.word(self.pid_struct() + 8, self.addr + 128);
    }
}

impl Machine {
    /// Puts the idle task and processes (pids below 64) on every list there is.
    pub(super) fn processes(&mut self, processes: &[Process]) -> &mut Self {
        let idle = Process { addr: IDLE, pid: 0, name: "swapper/0", parent: IDLE };
        self.symbol("init_task", IDLE).symbol("init_pid_ns", PID_NAMESPACE);
        let all: Vec<Process> = std::iter::once(idle).chain(processes.iter().copied()).collect();
        for process in &all {
            process.write(self);
            let children = processes.iter().filter(|child| child.parent == process.addr);
            let children: Vec<u64> = children.map(|child| child.addr + 72).collect();
            self.list(process.addr + 56, &children);
            if process.pid != 0 {
                self.word(XA_NODE + 40 + 8 * u64::from(process.pid), process.pid_struct());
            }
        }
        let links: Vec<u64> = processes.iter().map(|process| process.addr + 40).collect();
        self.list(IDLE + 40, &links);
        self.word(PID_NAMESPACE + 8 + 8, XA_NODE | 2)
    }

    /// Adds a thread to a process: on the list of threads, and with no children yet.
    pub(super) fn thread(&mut self, addr: u64, leader: Process) -> &mut Self {
        self.half(addr, leader.pid + 1).half(addr + 4, leader.pid);
        self.word(addr + 24, leader.addr).word(addr + 32, leader.parent);
        self.word(addr + 104, leader.addr + 0x1000).list(addr + 56, &[]);
        self.list(leader.addr + 0x1000 + 16, &[leader.addr + 112, addr + 112])
    }
}
