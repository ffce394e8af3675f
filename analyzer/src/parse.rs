//! Parsing of numbers and patterns typed by the user.

use profile::names::PdbId;
use regex::{Regex, RegexBuilder};

/// An address: `0x` and hex digits, or decimal digits.
pub fn address(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("not an address (use 0x... or decimal digits): {text}"))
}

/// A regular expression that looks anywhere in a text, without regard to case. Its size is bounded.
pub fn regex(text: &str) -> Result<Regex, String> {
    let regex = RegexBuilder::new(text).case_insensitive(true).size_limit(1 << 20).build();
    regex.map_err(|error| error.to_string())
}

/// GUID and age of a debug file, as symbol servers know it: 33 hexadecimal digits or more.
pub fn pdb_id(text: &str) -> Result<PdbId, String> {
    PdbId::from_text(text.trim_end_matches(".gz")).ok_or_else(|| format!("not a GUID with its age: {text}"))
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_are_hex_with_prefix_or_decimal() {
        assert_eq!(address("0xffffffff81000000"), Ok(0xffff_ffff_8100_0000));
        assert_eq!(address("4096"), Ok(4096));
        assert!(address("ffff").is_err());
        assert!(address("0x1_0000_0000_0000_0000").is_err());
        assert!(address("").is_err());
    }
}
