//! ARM64 page tables against the MMU of QEMU: for every mode, random tables are put into a machine whose system registers
//! select that mode, and the monitor's `gva2gpa` must translate every address as the walker does.
//!
//! Skipped, saying so, where there is no `qemu-system-aarch64`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use memory::paging::{ARM64, HighBits};
use memory::{AddressSpace as _, FileSpace, Overlap, Paging, Run, RunSpace, VirtualSpace};

/// The part of the RAM that is used; the machine has a device tree below.
const RAM: u64 = 0x4020_0000;
const SIZE: u64 = 64 << 20;
/// The two roots, and where tables of lower levels are.
const ROOTS: [u64; 2] = [RAM + 0x10_0000, RAM + 0x20_0000];
const TABLES: u64 = RAM + 0x40_0000;
/// Valid, access flag (without it the processor faults).
const LEAF: u64 = 1 | 1 << 10;
/// Inner shareable; with LPA2 these bits are part of the address.
const SHAREABLE: u64 = 3 << 8;

/// Numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Page size as a power of two, and format, of a mode.
#[derive(Clone, Copy)]
struct Mode {
    paging: &'static Paging,
    granule: u8,
    lpa2: bool,
}

impl Mode {
    fn of(paging: &'static Paging) -> Self {
        let granule = paging.levels.last().unwrap().shift;
        Self { paging, granule, lpa2: paging.name.contains("LPA2") }
    }

    /// An address in an entry, by the letter of DDI 0487, D8.3.
    fn place(self, addr: u64) -> u64 {
        match (self.granule, self.lpa2) {
            (16, _) => addr & 0xffff_ffff_0000 | (addr >> 48 & 0xf) << 12,
            (_, true) => addr & 0x3_ffff_ffff_f000 | (addr >> 50 & 3) << 8,
            _ => addr & 0xffff_ffff_f000,
        }
    }

    /// Whether an entry of level `number` (1 is the last) may be a block.
    fn has_block(self, number: usize) -> bool {
        match (self.granule, number) {
            (_, 2) | (12 | 16, 3) => true,
            (12, 4) | (14, 3) => self.lpa2,
            _ => false,
        }
    }

    fn physical_bits(self) -> u8 {
        if self.granule == 16 || self.lpa2 { 52 } else { 48 }
    }
}

/// Tables in the making.
struct Tables {
    mode: Mode,
    ram: Vec<u8>,
    free: u64,
    random: Random,
    addresses: Vec<u64>,
}

impl Tables {
    fn of(mode: Mode) -> Self {
        let seed = 0x1234_5678_9abc_def1 ^ u64::from(mode.paging.bits) << mode.granule;
        let ram = vec![0; usize::try_from(SIZE).unwrap()];
        let mut tables = Self { mode, ram, free: TABLES, random: Random(seed), addresses: Vec::new() };
        tables.fill(0, ROOTS[0], 0);
        tables.fill(0, ROOTS[1], u64::MAX << mode.paging.bits);
        for (at, word) in boot_code(mode).into_iter().enumerate() {
            tables.ram[at * 4..at * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        tables
    }

    fn set(&mut self, table: u64, index: u64, entry: u64) {
        let at = usize::try_from(table - RAM + index * 8).unwrap();
        self.ram[at..at + 8].copy_from_slice(&entry.to_le_bytes());
    }

    /// Fills a table with a few entries, for addresses from `first` on.
    fn fill(&mut self, depth: usize, table: u64, first: u64) {
        let (mode, levels) = (self.mode, self.mode.paging.levels);
        let Some(level) = levels.get(depth) else { return };
        let number = levels.len() - depth;
        for _ in 0..if depth == 0 { 3 } else { 2 } {
            let index = self.random.below(1 << level.bits);
            let start = first | index << level.shift;
            if number == 1 || mode.has_block(number) && self.random.below(3) == 0 {
                let page = self.random.next() & ((1 << mode.physical_bits()) - 1) & !((1 << level.shift) - 1);
                let kind = if number == 1 { 2 } else { 0 } | if mode.lpa2 { 0 } else { SHAREABLE };
                self.set(table, index, LEAF | kind | mode.place(page));
                let offset = self.random.below(1 << level.shift);
                self.addresses.push(start | offset);
            } else {
                let next = self.free;
                self.free += 1 << mode.granule;
                self.set(table, index, 3 | mode.place(next));
                self.fill(depth + 1, next, start);
            }
            // A neighbour, most often not mapped.
            self.addresses.push(start ^ 1 << level.shift);
        }
    }
}

/// Code that selects the mode and then waits.
fn boot_code(mode: Mode) -> Vec<u32> {
    let size = 64 - u64::from(mode.paging.bits);
    let (tg0, tg1) = match mode.granule {
        12 => (0, 2),
        14 => (2, 1),
        _ => (1, 3),
    };
    // T0SZ, T1SZ, TG0, TG1, IPS 6 (52-bit physical addresses), DS.
    let tcr = size | size << 16 | tg0 << 14 | tg1 << 30 | 6 << 32 | u64::from(mode.lpa2) << 59;
    let mut code = Vec::new();
    // MAIR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1: MSR from X0, after MOVZ and MOVK.
    for (register, value) in
        [(0xd518_a200, 0xff), (0xd518_2040, tcr), (0xd518_2000, ROOTS[0]), (0xd518_2020, ROOTS[1])]
    {
        for part in 0..4u32 {
            let piece = u32::try_from(value >> (part * 16) & 0xffff).unwrap();
            code.push(if part == 0 { 0xd280_0000 } else { 0xf280_0000 } | part << 21 | piece << 5);
        }
        code.push(register);
    }
    // ISB; MRS X0, SCTLR_EL1; ORR X0, X0, #1; MSR SCTLR_EL1, X0; ISB; B .
    code.extend([0xd503_3fdf, 0xd538_1000, 0xb240_0000, 0xd518_1000, 0xd503_3fdf, 0x1400_0000]);
    code
}

/// A running machine.
struct Machine {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Machine {
    fn start(ram: &std::path::Path) -> Self {
        let mut process = Command::new("qemu-system-aarch64")
            .args(["-M", "virt", "-cpu", "max", "-accel", "tcg", "-m", "128", "-display", "none"])
            .args(["-nodefaults", "-nic", "none", "-qmp", "stdio", "-device"])
            .arg(format!("loader,file={},addr={RAM:#x},force-raw=on", ram.display()))
            .args(["-device", &format!("loader,addr={RAM:#x},cpu-num=0")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut machine = Self { process, input, output };
        machine.ask("{\"execute\": \"qmp_capabilities\"}");
        machine
    }

    fn ask(&mut self, request: &str) -> String {
        writeln!(self.input, "{request}").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "QEMU ended");
            if line.starts_with("{\"return\"") || line.starts_with("{\"error\"") {
                return line;
            }
        }
    }

    fn translate(&mut self, addr: u64) -> Option<u64> {
        let answer = self.ask(&format!(
            "{{\"execute\": \"human-monitor-command\", \"arguments\": {{\"command-line\": \"gva2gpa {addr:#x}\"}}}}"
        ));
        let (_, rest) = answer.split_once("gpa: 0x")?;
        let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
        u64::from_str_radix(&digits, 16).ok()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Best effort: it may be gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn every_mode_translates_as_the_mmu_of_qemu_does() {
    if Command::new("qemu-system-aarch64").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no qemu-system-aarch64");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("ram");
    let mut mapped = 0;
    for paging in ARM64 {
        assert_eq!(paging.high_bits, HighBits::Halves);
        let Tables { ram, addresses, .. } = Tables::of(Mode::of(paging));
        std::fs::write(&file, &ram).unwrap();
        let run = Run { start: RAM, len: SIZE, target: 0 };
        let base = Arc::new(FileSpace::from_vec(ram));
        let physical = Arc::new(RunSpace::new("ram", base, vec![run], Overlap::FirstWins));
        let space = VirtualSpace::of_process(physical, paging, ROOTS[0], ROOTS[1]);

        let mut machine = Machine::start(&file);
        // Until its registers are set, every address translates to itself.
        let absent = *addresses.iter().find(|addr| space.translate(**addr).is_err()).unwrap();
        let ready = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            machine.translate(absent).is_none()
        });
        assert!(ready, "{}: the machine did not start", paging.name);
        for &addr in &addresses {
            let (ours, theirs) = (space.translate(addr).ok(), machine.translate(addr));
            assert_eq!(ours, theirs, "{}: {addr:#x}", paging.name);
            mapped += usize::from(ours.is_some());
        }
    }
    assert!(mapped > 100, "{mapped}");
}
