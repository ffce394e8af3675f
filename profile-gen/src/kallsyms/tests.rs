//! Tables as `scripts/kallsyms.c` writes them, in every layout, whole and damaged.
//!
//! The encoder below is written from the kernel's generator and shares nothing with the decoder. Truth of the decoder
//! as a whole are the guests: their kallsyms from memory are compared with the kernel's System.map.

use std::collections::BTreeMap;

use super::*;

/// Order and form of the parts.
#[derive(Clone, Copy, Debug)]
struct Form {
    width: usize,
    marker: usize,
    values: Kind,
    /// Values stand behind the tokens, as since v6.6.
    behind: bool,
    /// `kallsyms_seqs_of_names` is there, as since v6.2.
    seqs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Absolute,
    Relative,
    PerCpu,
}

const BASE: u64 = 0xffff_ffff_8b00_0000;

/// Symbols with values in order; the first ones are per-CPU offsets.
fn symbols(count: usize, base: u64) -> Vec<(u64, String)> {
    let kinds = ['T', 't', 'D', 'd', 'r', 'B'];
    (0..count)
        .map(|n| {
            let kind = kinds[n % kinds.len()];
            // Long names compress to more than 127 codes.
            let tail = if n % 701 == 700 { "_very_long_generated_name".repeat(12) } else { String::new() };
            (base + 16 * n as u64, format!("{kind}sym_{n}_of_{}{tail}", n % 37))
        })
        .collect()
}

/// One token per byte value: values that occur stand for themselves, some others for frequent pairs.
fn tokens(symbols: &[(u64, String)]) -> Vec<String> {
    let used: Vec<bool> = (0..=255u8)
        .map(|byte| byte.is_ascii_digit() || symbols.iter().any(|(_, name)| name.as_bytes().contains(&byte)))
        .collect();
    let mut pairs: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, name) in symbols {
        for at in 0..name.len() - 1 {
            *pairs.entry(&name[at..at + 2]).or_default() += 1;
        }
    }
    let mut frequent: Vec<_> = pairs.into_iter().collect();
    frequent.sort_by_key(|(pair, count)| (std::cmp::Reverse(*count), *pair));
    let mut frequent = frequent.into_iter();
    (0..=255u8)
        .map(|byte| {
            if used[usize::from(byte)] {
                char::from(byte).to_string()
            } else {
                frequent.next().map(|(pair, _)| pair.to_owned()).unwrap_or_default()
            }
        })
        .collect()
}

fn compress(name: &str, tokens: &[String]) -> Vec<u8> {
    let mut codes = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let pair = tokens.iter().position(|token| token.len() == 2 && rest.starts_with(token.as_str()));
        let code = pair.unwrap_or(usize::from(rest.as_bytes()[0]));
        codes.push(u8::try_from(code).unwrap());
        rest = &rest[tokens[code].len()..];
    }
    codes
}

/// The table and the place of the digits in it.
fn encode(symbols: &[(u64, String)], form: Form) -> (Vec<u8>, usize) {
    let tokens = tokens(symbols);
    let mut out = vec![0xcc; 4096];
    let align = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(form.width), 0);
    let word = |out: &mut Vec<u8>, value: u64| out.extend(&value.to_le_bytes()[..form.width]);
    let base = symbols.iter().map(|(address, _)| *address).find(|a| *a >= BASE & mask(form)).unwrap();
    let values = |out: &mut Vec<u8>| {
        for (address, _) in symbols {
            match form.values {
                Kind::Absolute => word(out, *address),
                Kind::Relative => out.extend(u32::try_from(address - base).unwrap().to_le_bytes()),
                Kind::PerCpu if *address < base => {
                    out.extend(u32::try_from(*address).unwrap().to_le_bytes());
                }
                Kind::PerCpu => out.extend((-1 - i32::try_from(address - base).unwrap()).to_le_bytes()),
            }
        }
        align(out);
        if form.values != Kind::Absolute {
            word(out, base);
        }
    };
    if !form.behind {
        values(&mut out);
    }
    word(&mut out, symbols.len() as u64);
    let start = out.len();
    let mut markers = Vec::new();
    for (n, (_, name)) in symbols.iter().enumerate() {
        if n % 256 == 0 {
            markers.push(out.len() - start);
        }
        let codes = compress(name, &tokens);
        if codes.len() > 127 {
            out.push(0x80 | u8::try_from(codes.len() & 0x7f).unwrap());
            out.push(u8::try_from(codes.len() >> 7).unwrap());
        } else {
            out.push(u8::try_from(codes.len()).unwrap());
        }
        out.extend(codes);
    }
    align(&mut out);
    for marker in markers {
        out.extend(&(marker as u64).to_le_bytes()[..form.marker]);
    }
    align(&mut out);
    if form.seqs && !form.behind {
        out.extend((0..symbols.len()).flat_map(sequence));
        align(&mut out);
    }
    let table = out.len();
    let mut index = Vec::new();
    for token in &tokens {
        index.push(u16::try_from(out.len() - table).unwrap());
        out.extend(token.as_bytes());
        out.push(0);
    }
    let hit = table + usize::from(index[usize::from(b'0')]);
    align(&mut out);
    out.extend(index.iter().flat_map(|offset| offset.to_le_bytes()));
    align(&mut out);
    if form.behind {
        values(&mut out);
        out.extend((0..symbols.len()).flat_map(sequence));
    }
    out.resize(out.len() + 4096, 0xcc);
    (out, hit)
}

/// Three bytes of a number, the highest first.
fn sequence(number: usize) -> [u8; 3] {
    let [.., a, b, c] = u32::try_from(number).unwrap().to_be_bytes();
    [a, b, c]
}

fn mask(form: Form) -> u64 {
    if form.width == 4 { 0xffff_ffff } else { u64::MAX }
}

fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for (width, markers) in [(8, &[8, 4][..]), (4, &[4])] {
        for &marker in markers {
            for values in [Kind::Absolute, Kind::Relative, Kind::PerCpu] {
                for (behind, seqs) in [(false, false), (false, true), (true, true)] {
                    forms.push(Form { width, marker, values, behind, seqs });
                }
            }
        }
    }
    forms
}

fn sample(form: Form, count: usize) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    if form.values == Kind::PerCpu {
        all = symbols(40, 0);
    }
    all.extend(symbols(count, BASE & mask(form)));
    all
}

fn expected(symbols: &[(u64, String)]) -> Vec<KernelSymbol> {
    let of = |(address, name): &(u64, String)| KernelSymbol {
        address: *address,
        kind: name.as_bytes()[0],
        name: name[1..].to_owned(),
    };
    symbols.iter().map(of).collect()
}

#[test]
fn every_layout_gives_the_symbols_back() {
    for form in forms() {
        let symbols = sample(form, 3000);
        let (bytes, hit) = encode(&symbols, form);
        assert!(bytes[hit..].starts_with(DIGITS));
        let decoded = decode(Memory { bytes: &bytes, missing: &[] }, hit)
            .unwrap_or_else(|error| panic!("{form:?}: {error}"));
        assert_eq!((decoded.lost, decoded.width), (0, form.width), "{form:?}");
        assert!(decoded.symbols == expected(&symbols), "{form:?}: {}", decoded.values);
    }
}

#[test]
fn what_is_missing_is_counted_and_the_rest_is_right() {
    for form in forms() {
        let symbols = sample(form, 6000);
        let (mut bytes, hit) = encode(&symbols, form);
        let expected = expected(&symbols);
        // A page in the middle of the names or values, zeroed as dumps do.
        for at in (8192..hit - 4096).step_by(4096 * 5) {
            let saved = bytes[at..at + 4096].to_vec();
            bytes[at..at + 4096].fill(0);
            let missing = std::iter::once(at..at + 4096).collect::<Vec<_>>();
            if let Ok(decoded) = decode(Memory { bytes: &bytes, missing: &missing }, hit) {
                assert_eq!(decoded.symbols.len() + decoded.lost, symbols.len(), "{form:?} {at:#x}");
                let mut left = expected.iter();
                assert!(
                    decoded.symbols.iter().all(|symbol| left.any(|other| other == symbol)),
                    "{form:?} {at:#x}: a symbol that does not exist"
                );
            }
            bytes[at..at + 4096].copy_from_slice(&saved);
        }
    }
}

#[test]
fn digits_without_a_table_and_damage_are_refused() {
    let form = Form { width: 8, marker: 4, values: Kind::Relative, behind: true, seqs: true };
    let symbols = sample(form, 2000);
    let (bytes, hit) = encode(&symbols, form);
    let of = |bytes: &[u8]| decode(Memory { bytes, missing: &[] }, hit).map(|found| found.symbols.len());
    assert_eq!(of(DIGITS), Err(KallsymsError::Tokens));
    assert_eq!(of(&bytes[..hit + 30]), Err(KallsymsError::Tokens));
    let mut without = bytes.clone();
    without[..4200].fill(0);
    assert_eq!(of(&without), Err(KallsymsError::Names));
    let tail = bytes.len() - 4096 - symbols.len() * 7 - 8;
    assert_eq!(of(&bytes[..tail]), Err(KallsymsError::Values));
}

#[test]
fn ten_thousand_damaged_tables_neither_panic_nor_invent_symbols_without_end() {
    let form = Form { width: 8, marker: 4, values: Kind::PerCpu, behind: false, seqs: true };
    let symbols = sample(form, 1100);
    let (bytes, hit) = encode(&symbols, form);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let mut damaged = bytes.clone();
    for _ in 0..10_000 {
        let places: Vec<usize> = (0..=next(6)).map(|_| next(bytes.len())).collect();
        for &at in &places {
            damaged[at] = u8::try_from(next(256)).unwrap();
        }
        if let Ok(decoded) = decode(Memory { bytes: &damaged, missing: &[] }, hit) {
            assert!(decoded.symbols.len() <= COUNTS.end);
        }
        for &at in &places {
            damaged[at] = bytes[at];
        }
    }
}
