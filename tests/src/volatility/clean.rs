//! What makes two texts the same where Volatility and `rekal` write the same thing in different ways.

pub(super) fn plain(text: &str) -> String {
    text.trim().to_owned()
}

pub(super) fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

/// Volatility prints the low 48 bits of an address.
pub(super) fn address(text: &str) -> String {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_or_else(|_| text.to_owned(), |number| format!("{:#x}", number & 0xffff_ffff_ffff))
}

pub(super) fn zero_address(text: &str) -> String {
    address(&zero(text))
}

/// Volatility has 0 for what does not apply.
pub(super) fn zero(text: &str) -> String {
    if text.is_empty() { "0".to_owned() } else { text.to_owned() }
}

/// To the microsecond, as Volatility rounds: its clock is a double, which has 22 bits for the fraction of a second of our days.
pub(super) fn time(text: &str) -> String {
    let text = text.trim_end_matches('Z').trim_end_matches("+00:00");
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let Ok(nanoseconds) = format!("{fraction:0<9.9}").parse::<u64>() else { return text.to_owned() };
    let binary = ((nanoseconds << 22) + 500_000_000) / 1_000_000_000;
    let microseconds = (binary * 1_000_000 + (1 << 21)) >> 22;
    if seconds.is_empty() { String::new() } else { format!("{seconds}.{:06}", microseconds.min(999_999)) }
}

/// A name without the module before it.
pub(super) fn symbol(text: &str) -> String {
    text.split_once('!').map_or(text, |(_, name)| name).to_owned()
}

/// A name without the module before it and the distance behind it.
pub(super) fn function(text: &str) -> String {
    let name = symbol(text);
    name.split_once('+').map_or(name.clone(), |(name, _)| name.to_owned())
}

/// The kernel itself has a name of its own in both.
pub(super) fn kernel(text: &str) -> String {
    if text == "__kernel__" || text == "kernel" { "linux".to_owned() } else { text.to_owned() }
}

pub(super) fn table(text: &str) -> String {
    match text {
        "sys_call_table" => "64bit",
        "ia32_sys_call_table" => "32bit",
        other => other,
    }
    .to_owned()
}

pub(super) fn base_name(text: &str) -> String {
    text.rsplit('/').next().unwrap_or_default().to_owned()
}

/// `POST_ROUTING` is `postrouting`.
pub(super) fn hook(text: &str) -> String {
    text.to_ascii_lowercase().replace(['_', ' '], "")
}

/// Volatility writes `0x` before the hexadecimal values of the note, which has none.
pub(super) fn digits(text: &str) -> String {
    text.trim_start_matches("0x").to_owned()
}

/// Volatility writes where a symbolic link leads behind its name.
pub(super) fn no_target(text: &str) -> String {
    text.split_once(" -> ").map_or(text, |(name, _)| name).to_owned()
}

/// Names that are listed in any order.
pub(super) fn set(text: &str) -> String {
    let mut names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.join(",")
}

/// Volatility lists names, we print bits: all, none, or some can be told alike.
pub(super) fn capabilities(text: &str) -> String {
    match text {
        "" | "0x0" => "none",
        "all" | "0x1ffffffffff" | "0xffffffffff" => "all",
        _ => "some",
    }
    .to_owned()
}

/// Levels by the names that `dmesg` gives them.
pub(super) fn level(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    if text == "warning" { "warn".to_owned() } else { text }
}

/// `Task(1)` is `T1`, `CPU(0)` is `C0`.
pub(super) fn caller(text: &str) -> String {
    text.replace("Task(", "T").replace("CPU(", "C").replace(')', "")
}

/// `rw-p` without the last letter: Volatility does not say whether an area is shared.
pub(super) fn rights(text: &str) -> String {
    text.get(..3).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_the_same_become_one() {
        assert_eq!(address("281473160579472"), address("0xffffffff93c00990"));
        assert_eq!(time("2024-05-06T07:08:11.143046+00:00"), time("2024-05-06T07:08:11.143046231Z"));
        assert_eq!(time("2024-05-06T07:08:21+00:00"), time("2024-05-06T07:08:21Z"));
        assert_eq!(function("linux!__schedule+0x34d"), "__schedule");
        assert_eq!(set("LOWER_UP,UP"), set("UP, LOWER_UP"));
        assert_eq!(caller("Task(1)"), "T1");
    }
}
