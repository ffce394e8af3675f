//! Kernel symbols: `System.map`, `/proc/kallsyms`, and the rules by which they get into a profile.

use std::collections::{BTreeMap, HashSet};

/// Longest symbol name; the kernel's own limit (`KSYM_NAME_LEN`) is 512.
const MAX_NAME: usize = 1024;
/// Most symbols that are read; a kernel has 100,000 to 300,000.
const MAX_SYMBOLS: usize = 4 << 20;
/// Where an x86-64 kernel is linked: `__START_KERNEL_map` + the default `CONFIG_PHYSICAL_START`.
const X86_64_TEXT: u64 = 0xffff_ffff_8100_0000;
/// `CONFIG_PHYSICAL_ALIGN` of x86-64: address randomisation moves the kernel by multiples of it.
const X86_64_ALIGN: u64 = 0x20_0000;

/// A name for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Name, verbatim.
    pub name: &'a str,
    /// Full 64-bit address or value.
    pub address: u64,
    /// Visible outside its source file.
    pub global: bool,
}

/// Why a symbol list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SymbolsError {
    /// Debian's placeholder for the real file.
    #[error(
        "System.map is a placeholder: {0:?}; install the kernel's debug package (linux-image-<release>-dbg) and use \
         /usr/lib/debug/boot/System.map-<release>, or the symbol table of that package's vmlinux"
    )]
    Stub(String),
    /// No line looks like a symbol.
    #[error("not a symbol list: no line has the form `address type name`")]
    Empty,
    /// Addresses are hidden from unprivileged users.
    #[error(
        "all addresses are zero: the kernel hides them (kptr_restrict); read /proc/kallsyms as root, \
         after `sysctl kernel.kptr_restrict=1`"
    )]
    Restricted,
    /// More symbols than any kernel has.
    #[error("more than {MAX_SYMBOLS} symbols")]
    TooMany,
}

/// A parsed symbol list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SymbolList<'a> {
    /// Symbols of the kernel itself, in file order.
    pub symbols: Vec<Symbol<'a>>,
    /// Number of symbols of loaded modules (`name [module]`), left out because modules are not part of a kernel's profile.
    pub module_symbols: usize,
    /// Lines that are no symbols, not counting empty ones.
    pub odd_lines: usize,
}

/// Parses `System.map` or `/proc/kallsyms`: lines of `hexaddress type name`, optionally followed by `[module]`.
///
/// Types are those of `nm`: upper case is global. Undefined symbols (`U`, `w`) are left out.
///
/// # Errors
/// [`SymbolsError`]: a placeholder, no symbols at all, hidden addresses, too many.
pub fn parse(text: &[u8]) -> Result<SymbolList<'_>, SymbolsError> {
    let mut list = SymbolList::default();
    let mut address_seen = false;
    for line in text.split(|&byte| byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            list.odd_lines += 1;
            continue;
        };
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        let (kind, name, module, rest) = (words.next(), words.next(), words.next(), words.next());
        let address = (first.len() <= 16).then(|| u64::from_str_radix(first, 16).ok()).flatten();
        let (Some(address), Some(&[kind]), Some(name), None) = (address, kind.map(str::as_bytes), name, rest)
        else {
            if line.to_ascii_lowercase().contains("the real system.map is in") {
                return Err(SymbolsError::Stub(line.chars().filter(|c| !c.is_control()).take(200).collect()));
            }
            list.odd_lines += 1;
            continue;
        };
        if !kind.is_ascii_alphabetic() || name.len() > MAX_NAME {
            list.odd_lines += 1;
        } else if module.is_some() {
            list.module_symbols += 1;
        } else if !matches!(kind, b'U' | b'w') {
            address_seen |= address != 0;
            list.symbols.push(Symbol { name, address, global: kind.is_ascii_uppercase() });
            if list.symbols.len() > MAX_SYMBOLS {
                return Err(SymbolsError::TooMany);
            }
        }
    }
    match (list.symbols.is_empty(), address_seen) {
        (true, _) => Err(SymbolsError::Empty),
        (false, false) => Err(SymbolsError::Restricted),
        (false, true) => Ok(list),
    }
}

/// How far the symbols of a running x86-64 kernel are from where it was linked; 0 for `System.map`.
///
/// `None` where it cannot be told: there is no `_text` or `_stext`, or the distance is no multiple of 2 MiB.
#[must_use]
pub fn x86_64_slide(symbols: &[Symbol<'_>]) -> Option<u64> {
    let text = ["_text", "_stext", "startup_64"]
        .iter()
        .find_map(|name| symbols.iter().find(|symbol| symbol.name == *name))?;
    let slide = text.address.checked_sub(X86_64_TEXT)?;
    slide.is_multiple_of(X86_64_ALIGN).then_some(slide)
}

/// Whether a symbol is only an artefact of the tool chain, as the kernel's `scripts/mksysmap` sees it: mapping symbols
/// of arm (`$x`, `$d.1`), local labels (`.L12`), and the checksums and name strings of exported symbols.
fn is_noise(name: &str) -> bool {
    const PREFIXES: [&str; 5] = ["$", ".L", "__crc_", "__kstrtab_", "__kstrtabns_"];
    name.is_empty() || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Symbols by name as a profile holds them.
///
/// Where several symbols share a name, a global one keeps it; among the others the lowest address goes first, and all
/// that cannot have the plain name get `_1`, `_2`, ... in order of address, skipping names that exist.
#[must_use]
pub fn constants(symbols: &[Symbol<'_>]) -> BTreeMap<String, u64> {
    let mut sorted: Vec<Symbol<'_>> =
        symbols.iter().filter(|symbol| !is_noise(symbol.name)).copied().collect();
    sorted.sort_unstable_by_key(|symbol| (symbol.name, !symbol.global, symbol.address));
    sorted.dedup_by_key(|symbol| (symbol.name, symbol.address));
    let taken: HashSet<&str> = sorted.iter().map(|symbol| symbol.name).collect();
    let mut constants = BTreeMap::new();
    for group in sorted.chunk_by(|a, b| a.name == b.name) {
        let mut suffix = 0usize;
        for (at, symbol) in group.iter().enumerate() {
            let name = if at == 0 {
                symbol.name.to_owned()
            } else {
                loop {
                    suffix += 1;
                    let name = format!("{}_{suffix}", symbol.name);
                    if !taken.contains(name.as_str()) {
                        break name;
                    }
                }
            };
            constants.insert(name, symbol.address);
        }
    }
    constants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_placeholder_is_explained() {
        let stub = b"ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n";
        assert!(matches!(parse(stub), Err(SymbolsError::Stub(_))));
    }

    #[test]
    fn hidden_addresses_are_explained() {
        let text = b"0000000000000000 T _text\n0000000000000000 D init_task\n0000000000000000 t f\t[ext4]\n";
        assert_eq!(parse(text), Err(SymbolsError::Restricted));
        assert_eq!(parse(b"<html>\n"), Err(SymbolsError::Empty));
        assert_eq!(parse(b""), Err(SymbolsError::Empty));
    }

    #[test]
    fn kallsyms_keeps_modules_apart() {
        let text = b"ffffffff81000000 T _text\n0000000000000000 A fixed_percpu_data\n\
                     ffffffffc0000000 t ext4_init\t[ext4]\n                 w undefined\n\
                     ffffffff81000010 ? odd\nffffffff81000020 D spaced name here too\n";
        let list = parse(text).expect("symbols");
        assert_eq!(
            list.symbols,
            [
                Symbol { name: "_text", address: 0xffff_ffff_8100_0000, global: true },
                Symbol { name: "fixed_percpu_data", address: 0, global: true },
            ]
        );
        assert_eq!((list.module_symbols, list.odd_lines), (1, 3));
    }

    #[test]
    fn a_global_symbol_keeps_its_name_and_locals_follow_by_address() {
        let symbol = |name, address, global| Symbol { name, address, global };
        let symbols = [
            symbol("dup", 0x300, false),
            symbol("dup", 0x100, false),
            symbol("dup", 0x900, true),
            symbol("dup_1", 0x500, false),
            symbol("only_local", 0x20, false),
            symbol("only_local", 0x10, false),
            symbol("only_local", 0x10, false),
            symbol("$x", 1, false),
            symbol("__crc_printk", 2, true),
        ];
        let constants: Vec<(String, u64)> = constants(&symbols).into_iter().collect();
        let expected = [
            ("dup", 0x900),
            ("dup_1", 0x500),
            ("dup_2", 0x100),
            ("dup_3", 0x300),
            ("only_local", 0x10),
            ("only_local_1", 0x20),
        ];
        assert_eq!(constants, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn slide_of_a_running_kernel_is_told_from_its_text() {
        let at = |address| [Symbol { name: "_text", address, global: true }];
        assert_eq!(x86_64_slide(&at(X86_64_TEXT)), Some(0));
        assert_eq!(x86_64_slide(&at(X86_64_TEXT + 0x1e00_0000)), Some(0x1e00_0000));
        assert_eq!(x86_64_slide(&at(X86_64_TEXT + 0x1000)), None);
        assert_eq!(x86_64_slide(&[]), None);
    }
}
