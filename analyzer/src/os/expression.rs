//! Addresses as users write them: `[*](0xADDRESS|module!symbol|symbol)[(+|-)OFFSET]`.
//!
//! Numbers are hexadecimal with `0x`, decimal where all digits are decimal, else hexadecimal: `+5fe` is 0x5fe, `+10`
//! is ten. A leading `*` means the pointer stored at the address.

/// A parsed address expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression<'a> {
    /// Whether the pointer at the address is meant.
    pub deref: bool,
    /// What the offset is added to.
    pub base: Base<'a>,
    /// Added modulo 2^64.
    pub offset: u64,
}

/// The first part of an address expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base<'a> {
    /// A number.
    Address(u64),
    /// A symbol, or a module alone.
    Name {
        /// Module, where given.
        module: Option<&'a str>,
        /// Symbol.
        symbol: &'a str,
    },
}

impl<'a> Expression<'a> {
    /// Parses an expression; the error says what is wrong with it.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let bad = || format!("not an address (use [*](0xADDRESS|module!symbol|symbol)[+OFFSET]): {text}");
        let trimmed = text.trim();
        let (deref, rest) = match trimmed.strip_prefix('*') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, trimmed),
        };
        // The last sign counts, and only with a number behind it: module names may contain dashes.
        let split = rest.rfind(['+', '-']).and_then(|at| {
            let (base, signed) = rest.split_at_checked(at)?;
            let offset = number(signed.get(1..)?.trim())?;
            let offset = if signed.starts_with('-') { offset.wrapping_neg() } else { offset };
            Some((base.trim(), offset))
        });
        let (base, offset) = split.unwrap_or((rest, 0));
        if base.is_empty() || base.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad());
        }
        let base = if base.starts_with(|c: char| c.is_ascii_digit()) {
            Base::Address(number(base).ok_or_else(bad)?)
        } else {
            match base.split_once('!') {
                Some((module, symbol))
                    if !module.is_empty() && !symbol.is_empty() && !symbol.contains('!') =>
                {
                    Base::Name { module: Some(module), symbol }
                }
                Some(_) => return Err(bad()),
                None => Base::Name { module: None, symbol: base },
            }
        };
        Ok(Self { deref, base, offset })
    }

    /// Whether a text is a pattern for several symbols rather than an expression: it has wildcards (`*`, `?`) beyond a
    /// `*` in front, which alone would mean a pointer.
    #[must_use]
    pub fn is_pattern(text: &str) -> bool {
        text.trim().chars().skip(1).any(|c| matches!(c, '*' | '?'))
    }

    /// The address, where the expression is one already.
    #[must_use]
    pub fn literal(&self) -> Option<u64> {
        match self.base {
            Base::Address(address) if !self.deref => Some(address.wrapping_add(self.offset)),
            _ => None,
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let hex = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(digits, 16).ok().filter(|_| plain)
    };
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => hex(digits),
        None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => hex(text),
    }
}

/// Whether `name` matches `pattern`, where `*` stands for any text and `?` for one character.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star stands and how much text it swallowed so far.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, swallowed)) => {
                    p = at + 1;
                    n = swallowed + 1;
                    star = Some((at, n));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name<'a>(module: Option<&'a str>, symbol: &'a str) -> Base<'a> {
        Base::Name { module, symbol }
    }

    #[test]
    fn expressions_are_parsed() {
        let parse = |text| Expression::parse(text).map(|e| (e.deref, e.base, e.offset));
        let minus = |value: u64| value.wrapping_neg();
        for (text, expected) in [
            ("0xffffffff81000000", (false, Base::Address(0xffff_ffff_8100_0000), 0)),
            ("4096", (false, Base::Address(4096), 0)),
            ("0x1000+0x10", (false, Base::Address(0x1000), 0x10)),
            ("init_task", (false, name(None, "init_task"), 0)),
            ("linux!init_task+5fe", (false, name(Some("linux"), "init_task"), 0x5fe)),
            ("linux!init_task+10", (false, name(Some("linux"), "init_task"), 10)),
            ("linux!init_task - 0x10", (false, name(Some("linux"), "init_task"), minus(0x10))),
            ("* ext4!ext4_sops+8", (true, name(Some("ext4"), "ext4_sops"), 8)),
            ("*0x1000", (true, Base::Address(0x1000), 0)),
            ("snd-hda-intel!azx_probe", (false, name(Some("snd-hda-intel"), "azx_probe"), 0)),
            ("f.isra.0+4", (false, name(None, "f.isra.0"), 4)),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in
            ["", " ", "*", "+4", "a!", "!b", "a!b!c", "0x", "12zz", "a b", "0x1_0", "99999999999999999999"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_number_is_a_literal() {
        assert_eq!(Expression::parse("0x10-1").map(|e| e.literal()), Ok(Some(15)));
        assert_eq!(Expression::parse("*0x10").map(|e| e.literal()), Ok(None));
        assert_eq!(Expression::parse("a").map(|e| e.literal()), Ok(None));
    }

    #[test]
    fn a_star_in_front_alone_makes_no_pattern() {
        for text in ["*init_task", "*0x1000+8", "linux!tcp_prot"] {
            assert!(!Expression::is_pattern(text), "{text}");
        }
        for text in ["linux!tcp_*", "*!*", "*tcp*", "tcp?prot", "*!tcp_prot*"] {
            assert!(Expression::is_pattern(text), "{text}");
        }
    }

    #[test]
    fn wildcards_match_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("tcp_*", "tcp_prot", true),
            ("tcp_*", "xtcp_prot", false),
            ("*prot", "tcp_prot", true),
            ("t?p*o?", "tcp_prot", true),
            ("*", "", true),
            ("?", "", false),
            ("", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("Tcp", "tcp", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        // Quadratic at worst, not exponential.
        assert!(!matches(&"a*".repeat(200), &"a".repeat(199)));
    }
}
