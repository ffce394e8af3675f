//! Parsing of numbers typed by the user.

/// An address: `0x` and hex digits, or decimal digits.
pub fn address(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("not an address (use 0x... or decimal digits): {text}"))
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
