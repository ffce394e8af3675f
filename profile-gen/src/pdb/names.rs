//! Symbol names as profiles spell them: undecorated just enough that one name serves 32-bit and 64-bit builds.
//!
//! Deliberate difference from the original: a leading `_` or `.` is dropped in x86 files only, where every C name has
//! one. The original dropped it everywhere, so on x64 `__C_specific_handler` lost a letter of its name.

use std::collections::{BTreeMap, BTreeSet};

/// Longest text of a string literal that is kept; the decorated form holds 32 characters.
const MAX_LITERAL: usize = 256;

/// The name a profile gives a public symbol.
///
/// `x86` says whether C names are decorated as 32-bit x86 compilers do: `_cdecl`, `_stdcall@8`, `@fastcall@8`.
/// C++ names become their first identifier, string literals `str:` and their text.
pub(super) fn undecorate(name: &str, x86: bool) -> String {
    if let Some(literal) = name.strip_prefix("??_C@") {
        return string_literal(literal);
    }
    if let Some(decorated) = name.strip_prefix('?') {
        let identifier = decorated.split('@').next().unwrap_or_default();
        let plain = is_identifier(identifier) && decorated.contains('@');
        return if plain { identifier.to_owned() } else { name.to_owned() };
    }
    if !x86 {
        return name.to_owned();
    }
    if let Some(stem) = stdcall(name) {
        return stem.to_owned();
    }
    name.strip_prefix(['_', '.']).filter(|rest| !rest.is_empty()).unwrap_or(name).to_owned()
}

/// `name` of `_name@8` or `@name@8`: x86 names of functions that clean the stack or take arguments in registers.
pub(super) fn stdcall(name: &str) -> Option<&str> {
    let (stem, bytes) = name.strip_prefix(['_', '@'])?.rsplit_once('@')?;
    let digits = (1..=3).contains(&bytes.len()) && bytes.bytes().all(|byte| byte.is_ascii_digit());
    (digits && is_identifier(stem)).then_some(stem)
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Text of `_<kind><length><checksum>@<text>@`. A length is one digit (1 to 10) or letters that end with `@`; the
/// original took every length for letters and lost short texts.
fn string_literal(decorated: &str) -> String {
    let short = decorated.as_bytes().get(2).is_some_and(u8::is_ascii_digit);
    let text = decorated.splitn(3, '@').collect::<Vec<_>>();
    let text = match (short, text.as_slice()) {
        (true, [_, _, ..]) => decorated.split_once('@').map_or("", |(_, text)| text),
        (false, [_, _, text]) => text,
        _ => "",
    };
    let text = text.strip_suffix('@').unwrap_or(text);
    let mut out = String::from("str:");
    let mut rest = text;
    while let Some(first) = rest.chars().next().filter(|_| out.len() < MAX_LITERAL) {
        let Some(escape) = rest.strip_prefix('?') else {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        };
        rest = match escape.as_bytes() {
            // `?$` and two letters A-P: the halves of a byte.
            [b'$', high @ b'A'..=b'P', low @ b'A'..=b'P', ..] => {
                match (high - b'A') << 4 | (low - b'A') {
                    // NUL: the upper half of a wide character or the end of the text. Carriage return: as the original.
                    0 | b'\r' => {}
                    byte @ 0x20..=0x7e => out.push(char::from(byte)),
                    _ => out.push('.'),
                }
                escape.get(3..).unwrap_or_default()
            }
            [digit @ b'0'..=b'9', ..] => {
                // `?5` (space) and `?6` (newline) are written as the original does.
                let plain = b",/\\:._.\"'-".get(usize::from(digit - b'0')).copied();
                out.push(plain.map_or('.', char::from));
                escape.get(1..).unwrap_or_default()
            }
            // `?a`: a letter with the high bit set.
            [letter, ..] if letter.is_ascii_alphabetic() => {
                out.push('.');
                escape.get(1..).unwrap_or_default()
            }
            _ => {
                out.push('?');
                escape
            }
        };
    }
    out
}

/// Symbols that got the same name keep apart: the lowest address keeps the name, the others get `_1`, `_2`, ... in
/// order of addresses. A symbol that is listed twice is one symbol. Suffixed names never take that of another symbol.
pub(super) fn distinct(symbols: BTreeMap<String, BTreeMap<u64, bool>>) -> Vec<(String, u64, bool)> {
    let taken: BTreeSet<String> = symbols.keys().cloned().collect();
    let mut out = Vec::new();
    for (name, places) in symbols {
        let mut next = 1_u64;
        for (nth, (address, function)) in places.into_iter().enumerate() {
            let mut unique = name.clone();
            while nth > 0 && taken.contains(&unique) {
                unique = format!("{name}_{next}");
                next += 1;
            }
            out.push((unique, address, function));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x86_decoration_is_dropped_on_x86_only() {
        for (decorated, x86, plain) in [
            ("_PsActiveProcessHead", true, "PsActiveProcessHead"),
            ("_NtCreateFile@44", true, "NtCreateFile"),
            ("@ObfDereferenceObject@4", true, "ObfDereferenceObject"),
            ("__C_specific_handler", false, "__C_specific_handler"),
            ("_NtCreateFile@44", false, "_NtCreateFile@44"),
            ("PsActiveProcessHead", false, "PsActiveProcessHead"),
            ("?NulMapping@@3HA", false, "NulMapping"),
            ("??0exception@std@@QAE@XZ", true, "??0exception@std@@QAE@XZ"),
            ("_", true, "_"),
        ] {
            assert_eq!(undecorate(decorated, x86), plain, "{decorated}");
        }
    }

    #[test]
    fn string_literals_become_their_text() {
        for (decorated, text) in [
            ("??_C@_07KOLFKCDI@__cdecl?$AA@", "str:__cdecl"),
            ("??_C@_1BE@EBOGMDOH@?$AAW?$AAe?$AAd?$AAn?$AAe?$AAs?$AAd?$AAa?$AAy?$AA?$AA@", "str:Wednesday"),
            (
                "??_C@_0CL@FGIJHLCE@?$GAmanaged?5vector?5copy?5constructor@",
                "str:`managed_vector_copy_constructor",
            ),
            ("??_C@_05LAPONLG@false?$AA@", "str:false"),
            ("??_C@", "str:"),
            ("??_C@_0?$@??$", "str:"),
        ] {
            assert_eq!(undecorate(decorated, false), text, "{decorated}");
        }
    }

    #[test]
    fn equal_names_are_numbered_by_address_and_take_no_other_name() {
        let symbols = BTreeMap::from([
            ("f".to_owned(), BTreeMap::from([(30, true), (10, false), (20, true)])),
            ("f_1".to_owned(), BTreeMap::from([(5, true)])),
        ]);
        let expected = [("f", 10, false), ("f_2", 20, true), ("f_3", 30, true), ("f_1", 5, true)]
            .map(|(n, a, f)| (n.to_owned(), a, f));
        assert_eq!(distinct(symbols), expected);
    }
}
