//! One cell as one line of text: what text, wide, csv and test have in common.

use std::fmt::Write as _;

use crate::render::escape::escape;
use crate::table::{Kind, Time, Value};

/// What stands for an absent value.
pub const ABSENT: &str = "-";

/// How much of a value a cell shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For people: times to the second, bytes as hex dump with characters.
    Short,
    /// Everything, in a form that programs can take apart.
    Full,
}

/// The value on one line, free of control characters.
#[must_use]
pub fn text(value: &Value, style: Style) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, value, style);
    out
}

fn write(out: &mut String, value: &Value, style: Style) -> std::fmt::Result {
    match value {
        Value::Absent(_) => out.push_str(ABSENT),
        Value::Bool(value) => write!(out, "{value}")?,
        Value::Uint(value) | Value::Size(value) => write!(out, "{value}")?,
        Value::Int(value) => write!(out, "{value}")?,
        Value::Addr(value) => write!(out, "{value:#x}")?,
        Value::Time(time) => match (style, rfc3339(*time)) {
            (_, None) => write!(out, "{} ns since 1970", time.0)?,
            (Style::Full, Some(text)) => out.push_str(&text),
            (Style::Short, Some(text)) => {
                // `2024-05-01T10:00:00.25Z` to `2024-05-01 10:00:00Z`, as Rekall shows times.
                let seconds = text.split(['.', 'Z']).next().unwrap_or_default();
                out.push_str(&seconds.replacen('T', " ", 1));
                out.push('Z');
            }
        },
        Value::Text(text) => out.push_str(&escape(text)),
        Value::Bytes(bytes) if style == Style::Full => write_hex(out, bytes)?,
        Value::Bytes(bytes) => write_dump(out, bytes)?,
        Value::Object(object) => {
            write!(out, "{:#x}", object.addr)?;
            for (_, tag) in &object.tags {
                out.push(' ');
                write(out, tag, style)?;
            }
        }
        Value::List(values) => {
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write(out, value, style)?;
            }
        }
    }
    Ok(())
}

/// Lower-case hex digits, two per byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().saturating_mul(2));
    let _ = write_hex(&mut out, bytes);
    out
}

fn write_hex(out: &mut String, bytes: &[u8]) -> std::fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// `7f 45 4c 46  .ELF`
fn write_dump(out: &mut String, bytes: &[u8]) -> std::fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x} "))?;
    if !bytes.is_empty() {
        out.push(' ');
    }
    out.extend(bytes.iter().map(|&byte| if matches!(byte, 0x20..=0x7e) { char::from(byte) } else { '.' }));
    Ok(())
}

/// RFC 3339 in UTC, with a fraction only where it is not zero. `None` outside the years -9999 to 9999.
#[must_use]
pub fn rfc3339(time: Time) -> Option<String> {
    jiff::Timestamp::from_nanosecond(time.0).ok().map(|timestamp| timestamp.to_string())
}

/// What stands before the first cell of a row of a tree: a dot per level and a blank, nothing for depth 0.
#[must_use]
pub fn dots(depth: u16) -> String {
    if depth == 0 { String::new() } else { format!("{} ", ".".repeat(depth.into())) }
}

/// Whether cells of the kind stand at the right of their column.
#[must_use]
pub fn is_right_aligned(kind: Kind) -> bool {
    matches!(kind, Kind::Int | Kind::Size | Kind::Addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::ObjRef;
    use object::Absent;

    fn short(value: &Value) -> String {
        text(value, Style::Short)
    }

    #[test]
    fn times_are_rfc3339_and_people_see_seconds() {
        let time = Time(1_714_557_600_250_000_000);
        assert_eq!(rfc3339(time).as_deref(), Some("2024-05-01T10:00:00.25Z"));
        assert_eq!(rfc3339(Time(0)).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(short(&Value::Time(time)), "2024-05-01 10:00:00Z");
        assert_eq!(short(&Value::Time(Time(0))), "1970-01-01 00:00:00Z");
        assert_eq!(text(&Value::Time(time), Style::Full), "2024-05-01T10:00:00.25Z");
    }

    #[test]
    fn a_time_out_of_range_keeps_its_number() {
        assert_eq!(rfc3339(Time(i128::MAX)), None);
        assert_eq!(short(&Value::Time(Time(i128::MAX))), format!("{} ns since 1970", i128::MAX));
    }

    #[test]
    fn objects_show_address_and_tags() {
        let object = ObjRef {
            type_name: "task_struct",
            addr: 0xffff_8880_0000_1000,
            tags: vec![("pid", Value::Uint(1)), ("name", Value::Text("in\x1bit".into()))],
        };
        assert_eq!(short(&Value::Object(Box::new(object))), "0xffff888000001000 1 in\\x1bit");
    }

    #[test]
    fn bytes_are_a_dump_for_people_and_hex_for_programs() {
        let value = Value::Bytes(b"\x7fELF".to_vec());
        assert_eq!(short(&value), "7f 45 4c 46  .ELF");
        assert_eq!(text(&value, Style::Full), "7f454c46");
        assert_eq!(short(&Value::Bytes(Vec::new())), "");
    }

    #[test]
    fn lists_show_every_element() {
        let list =
            Value::List(vec![Value::Int(-1), Value::Absent(Absent::Malformed("x")), Value::Bool(true)]);
        assert_eq!(short(&list), "-1, -, true");
    }
}
