//! Control characters made visible: text of an image must not steer the terminal or reorder what is read.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal or a viewer may act on the character instead of showing it: C0, DEL, C1, and what changes the
/// direction or the line of text (Unicode 16.0, UAX #9 and the line and paragraph separators).
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with every unsafe character as an escape: `\n`, `\r`, `\t`, `\xNN` below U+0080, `\u{NNNN}` above.
/// Nothing else changes, backslashes neither.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().saturating_add(8));
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if !is_unsafe(c) => out.push(c),
            // Writing to a string cannot fail.
            c if c.is_ascii() => drop(write!(out, "\\x{:02x}", u32::from(c))),
            c => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_become_visible() {
        assert_eq!(escape("\x1b[2J\x07evil\x7f"), "\\x1b[2J\\x07evil\\x7f");
        assert_eq!(escape("\u{9b}31m"), "\\u{9b}31m");
    }

    #[test]
    fn a_name_cannot_fake_a_second_row() {
        assert_eq!(escape("a\nb\rc\td"), "a\\nb\\rc\\td");
        assert_eq!(escape("a\u{2028}b\u{2029}"), "a\\u{2028}b\\u{2029}");
    }

    #[test]
    fn text_direction_cannot_be_changed() {
        assert_eq!(
            escape("exe\u{202e}txt.\u{2066}\u{200f}\u{61c}"),
            "exe\\u{202e}txt.\\u{2066}\\u{200f}\\u{61c}"
        );
    }

    #[test]
    fn ordinary_text_is_not_copied() {
        assert!(matches!(escape("C:\\Temp — naïve 名前"), Cow::Borrowed(_)));
    }
}
