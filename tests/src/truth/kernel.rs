//! What concerns the kernel as a whole: modules, log, resources, processors, build-id.

use anyhow::{Context as _, Result, bail};

use super::{Truth, fields};

/// A line of `/proc/modules`.
#[derive(Debug, Clone)]
pub struct Module {
    /// Name.
    pub name: String,
    /// Bytes of all its memory.
    pub size: u64,
    /// References.
    pub references: i64,
    /// Modules that need it, comma-separated.
    pub used_by: String,
    /// `Live`, ...
    pub state: String,
    /// First address.
    pub address: u64,
}

/// A line of `/proc/iomem`.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Nesting, from 0.
    pub depth: u64,
    /// First address.
    pub start: u64,
    /// Last address, inclusive.
    pub end: u64,
    /// Name.
    pub name: String,
}

/// A record of `/dev/kmsg`.
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// Sequence number.
    pub sequence: u64,
    /// Microseconds since boot.
    pub microseconds: u64,
    /// syslog facility.
    pub facility: u32,
    /// Severity.
    pub level: u32,
    /// The text.
    pub text: String,
}

/// A processor of `/proc/cpuinfo`: `key : value` lines.
#[derive(Debug, Clone)]
pub struct Processor(Vec<(String, String)>);

impl Processor {
    /// A value; `None` where the kernel does not print the line.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

impl Truth {
    /// Loaded modules.
    pub fn modules(&self) -> Result<Vec<Module>> {
        self.text("proc/modules")?
            .lines()
            .map(|line| module(line).with_context(|| format!("modules: bad line: {line}")))
            .collect()
    }

    /// The tree of physical addresses, depth first.
    pub fn resources(&self) -> Result<Vec<Resource>> {
        self.text("proc/iomem")?
            .lines()
            .map(|line| resource(line).with_context(|| format!("iomem: bad line: {line}")))
            .collect()
    }

    /// The kernel's log.
    pub fn log(&self) -> Result<Vec<LogRecord>> {
        self.text("kmsg")?
            .lines()
            .filter(|line| !line.starts_with(' ')) // continuation lines: the record's dictionary
            .map(|line| log_record(line).with_context(|| format!("kmsg: bad line: {line}")))
            .collect()
    }

    /// GNU build-id of the kernel in hex, from the ELF notes in `/sys/kernel/notes`.
    pub fn build_id(&self) -> Result<String> {
        const NT_GNU_BUILD_ID: u32 = 3;
        let mut rest = self.bytes("sys/kernel/notes")?;
        while let Some((head, tail)) = rest.split_at_checked(12) {
            let word = |at: usize| -> Option<u32> {
                Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?))
            };
            let (Some(name_len), Some(len), Some(kind)) = (word(0), word(4), word(8)) else { break };
            let start = (name_len as usize).next_multiple_of(4);
            let note = tail.get(..name_len as usize).zip(tail.get(start..start + len as usize));
            let (name, content) = note.context("notes are cut off")?;
            if name == b"GNU\0" && kind == NT_GNU_BUILD_ID {
                return Ok(content.iter().map(|byte| format!("{byte:02x}")).collect());
            }
            rest = tail.get(start + (len as usize).next_multiple_of(4)..).unwrap_or_default();
        }
        bail!("no build-id in the kernel's notes")
    }

    /// The processors.
    pub fn processors(&self) -> Result<Vec<Processor>> {
        let text = self.text("proc/cpuinfo")?;
        Ok(text
            .split("\n\n")
            .filter(|block| !block.trim().is_empty())
            .map(|block| {
                Processor(
                    block
                        .lines()
                        .filter_map(|line| line.split_once(':'))
                        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
                        .collect(),
                )
            })
            .collect())
    }
}

/// `name size references dependants state address [taints]`
fn module(line: &str) -> Option<Module> {
    let ([name, size, references, used_by, state, address], _) = fields::<6>(line)?;
    Some(Module {
        name: name.to_owned(),
        size: size.parse().ok()?,
        references: references.parse().ok()?,
        used_by: used_by.trim_end_matches(',').trim_start_matches('-').to_owned(),
        state: state.to_owned(),
        address: u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?,
    })
}

/// `START-END : NAME`, indented by two spaces for each level.
fn resource(line: &str) -> Option<Resource> {
    let (range, name) = line.split_once(" : ")?;
    let (start, end) = range.trim_start().split_once('-')?;
    Some(Resource {
        depth: (range.len() - range.trim_start().len()) as u64 / 2,
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        name: name.to_owned(),
    })
}

/// `priority,sequence,microseconds,flags[,...];text`, the text with `\xNN` escapes (Documentation/ABI/testing/dev-kmsg).
fn log_record(line: &str) -> Option<LogRecord> {
    let (head, text) = line.split_once(';')?;
    let mut head = head.split(',');
    let priority: u32 = head.next()?.parse().ok()?;
    Some(LogRecord {
        sequence: head.next()?.parse().ok()?,
        microseconds: head.next()?.parse().ok()?,
        facility: priority >> 3,
        level: priority & 7,
        text: unescape_hex(text),
    })
}

fn unescape_hex(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = || u8::from_str_radix(std::str::from_utf8(tail.get(1..3)?).ok()?, 16).ok();
        match (first, tail.first(), hex()) {
            (b'\\', Some(b'x'), Some(byte)) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_record_is_taken_apart() {
        let record = log_record(r"11,369,4512436,-;a \x01 byte, \xc3\xbc and \x5c").unwrap();
        assert_eq!((record.facility, record.level, record.microseconds), (1, 3, 4_512_436));
        assert_eq!(record.text, "a \u{1} byte, \u{fc} and \\");
    }

    #[test]
    fn a_module_without_users_has_a_dash() {
        assert_eq!(module("loop 32768 2 - Live 0xffffffffc0a00000").unwrap().used_by, "");
        assert_eq!(module("mbcache 16384 1 ext4, Live 0xffffffffc0a00000 (E)").unwrap().used_by, "ext4");
    }

    #[test]
    fn resources_are_nested_by_indentation() {
        let resource = resource("    fed00000-fed003ff : HPET 0").unwrap();
        assert_eq!((resource.depth, resource.start, resource.end), (2, 0xfed0_0000, 0xfed0_03ff));
    }
}
