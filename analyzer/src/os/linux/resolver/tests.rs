use super::*;
use crate::os::linux::fixture::{DIRECT, IMAGE, MODULES, Machine};

const EXT4: u64 = MODULES + 0x1000;
const TUN: u64 = MODULES + 0x1_1000;

/// A module with symbols, given with their names; its tables follow its struct.
fn module(machine: &mut Machine, addr: u64, name: &str, symbols: &[(&str, u64, u16)]) {
    let (tables, symtab, strtab) = (addr + 0x400, addr + 0x500, addr + 0x800);
    machine.bytes(addr + 24, name.as_bytes());
    machine.word(addr + 80, addr & !0xffff).half(addr + 88, 0x8000).word(addr + 96, tables);
    let count = u32::try_from(symbols.len() + 1).expect("few");
    machine.word(tables, symtab).half(tables + 8, count).word(tables + 16, strtab);
    let (mut at, mut text) = (symtab + 24, 1);
    for (name, value, section) in symbols {
        machine.half(at, text).bytes(at + 6, &section.to_le_bytes()).word(at + 8, *value);
        machine.bytes(strtab + u64::from(text), name.as_bytes());
        text += u32::try_from(name.len()).expect("short") + 1;
        at += 24;
    }
}

fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.symbol("modules", IMAGE + 0x100).symbol("init_task", IMAGE + 0x1000);
    machine.symbol("__x64_sys_read", IMAGE + 0x2000).symbol("sys_read", IMAGE + 0x2000);
    machine.symbol("tcp_prot", IMAGE + 0x3000).symbol("tcp_sock", IMAGE + 0x3008);
    let ext4 = [("ext4_init", MODULES + 0x2000, 1), ("shared", MODULES + 0x2010, 1), ("undefined", 0, 0)];
    module(&mut machine, EXT4, "ext4", &ext4);
    module(
        &mut machine,
        TUN,
        "tun_tap",
        &[("tun_init", MODULES + 0x1_2000, 1), ("shared", MODULES + 0x1_2010, 1)],
    );
    machine.list(IMAGE + 0x100, &[EXT4 + 8, TUN + 8]);
    machine
}

fn resolver(machine: &Machine) -> Resolver {
    let kernel = Arc::new(machine.kernel());
    let notes = Notes::default();
    let loaded = modules(&notes, kernel.target()).expect("modules");
    let loaded = loaded.iter().map(|module| Loaded::new(module, true).expect("module")).collect();
    assert_eq!(notes.take(), []);
    Resolver::new(kernel, loaded)
}

#[test]
fn expressions_become_addresses() {
    let mut machine = machine();
    machine.word(IMAGE + 0x1008, MODULES + 0x2004);
    let resolver = resolver(&machine);
    for (text, address) in [
        ("init_task", IMAGE + 0x1000),
        ("linux!init_task+0x10", IMAGE + 0x1010),
        ("linux", IMAGE),
        ("ext4", MODULES),
        ("ext4!ext4_init", MODULES + 0x2000),
        ("tun-tap!shared-10", MODULES + 0x1_2006),
        ("tun_init", MODULES + 0x1_2000),
        ("*init_task+8", MODULES + 0x2004),
        ("0xffffffff81200000", IMAGE),
    ] {
        assert_eq!(resolver.resolve(text).map_err(|e| e.to_string()), Ok(address), "{text}");
    }
    for (text, error) in [
        ("nothing", "no such symbol: nothing"),
        ("linux!nothing", "no such symbol: linux!nothing"),
        ("ext4!undefined", "no such symbol: ext4!undefined"),
        ("xfs!init", "no such module: xfs"),
        ("shared", "symbol is not unique, modules ext4, tun_tap have it: shared"),
    ] {
        assert_eq!(resolver.resolve(text).map_err(|e| e.to_string()), Err(error.to_owned()), "{text}");
    }
    assert!(resolver.resolve("*0x10").is_err());
}

#[test]
fn addresses_become_names() {
    let resolver = resolver(&machine());
    for (address, name) in [
        (IMAGE + 0x1000, Some("linux!init_task")),
        (IMAGE + 0x2004, Some("linux!sys_read+0x4")),
        (MODULES + 0x2010, Some("ext4!shared")),
        (MODULES + 0x200f, Some("ext4!ext4_init+0xf")),
        (MODULES + 0x10, Some("ext4+0x10")),
        (MODULES + 0x9000, None),
        (IMAGE + 0x20_0000, None),
        (IMAGE - 1, None),
        (DIRECT, None),
        (0, None),
        (u64::MAX, None),
    ] {
        assert_eq!(resolver.describe(address).as_deref(), name, "{address:#x}");
    }
    assert_eq!(resolver.names(IMAGE + 0x2000), ["linux!sys_read", "linux!__x64_sys_read"]);
    assert_eq!(resolver.module_of(MODULES + 0x1_0000), Some("tun_tap"));
    assert_eq!(resolver.module_of(IMAGE), Some("linux"));
    assert_eq!(resolver.module_of(DIRECT), None);
}

#[test]
fn patterns_find_symbols_of_the_kernel_and_of_modules() {
    let resolver = resolver(&machine());
    let search = |pattern| {
        let found = resolver.search(pattern).expect("readable");
        found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(search("tcp_*"), ["linux!tcp_prot", "linux!tcp_sock"]);
    assert_eq!(search("*!*init*"), ["linux!init_task", "ext4!ext4_init", "tun_tap!tun_init"]);
    assert_eq!(search("tun-tap!s*"), ["tun_tap!shared"]);
    assert!(search("xfs!*").is_empty());
}

#[test]
fn symbols_in_a_range_are_those_that_begin_there() {
    let resolver = resolver(&machine());
    let between = |start, end| {
        resolver.symbols_between(start, end).into_iter().map(|(_, name)| name).collect::<Vec<_>>()
    };
    assert_eq!(between(IMAGE + 0x3000, IMAGE + 0x3010), ["linux!tcp_prot", "linux!tcp_sock"]);
    assert_eq!(between(IMAGE + 0x3001, IMAGE + 0x3008), [] as [&str; 0]);
    assert_eq!(between(MODULES + 0x2000, MODULES + 0x2011), ["ext4!ext4_init", "ext4!shared"]);
    assert_eq!(between(0, 16), [] as [&str; 0]);
}

#[test]
fn a_torn_symbol_table_is_reported_and_the_rest_is_used() {
    let mut machine = machine();
    // 2000 symbols are promised; the table runs out of the mapped modules.
    let symtab = MODULES + 0x20_0000 - 48;
    machine.word(EXT4 + 0x400, symtab).half(EXT4 + 0x408, 2000);
    let torn = resolver(&machine);
    assert!(torn.resolve("ext4!ext4_init").is_err());
    assert_eq!(torn.describe(MODULES + 0x2000).as_deref(), Some("ext4+0x2000"));
    assert_eq!(torn.describe(MODULES + 0x1_2000).as_deref(), Some("tun_tap!tun_init"));
    let notes = Notes::default();
    torn.report(&notes);
    let texts: Vec<String> = notes.take().into_iter().map(|note| note.text).collect();
    assert_eq!(texts, ["2000 symbols of module ext4 cannot be read"]);
    // A count no module has is cut off.
    machine.half(EXT4 + 0x408, u32::MAX);
    assert!(resolver(&machine).resolve("ext4!ext4_init").is_err());
}
