//! What the emulator knows of a guest without asking its kernel: the files it booted from, the memory at a physical address,
//! and what its processors' page tables map, as QEMU's own walker wrote it (`dump-guest-memory -p`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::lab::Guest;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Virtual and physical addresses of pages.
pub type Pages = BTreeSet<(u64, u64)>;

/// Runs a program and gives what it printed on both streams.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run, install it: {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok([output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat())
}

impl Guest {
    /// The regular files of the archive it booted from, by absolute path.
    pub fn initramfs(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let command = self.info("command")?;
        let command: Vec<&str> = command.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let file = command.iter().skip_while(|word| **word != "-initrd").nth(1).context("no -initrd")?;
        archive(&std::fs::read(file).with_context(|| format!("cannot read: {file}"))?)
    }

    /// Memory at a physical address, out of the raw dump, which begins where the machine's memory does.
    pub fn physical(&self, address: u64, length: usize) -> Result<Vec<u8>> {
        let place = address.checked_sub(self.ram_start()?).context("below the memory")?;
        let mut file = File::open(self.raw())?;
        file.seek(SeekFrom::Start(place))?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The pages that the tables of its processors map; `None` where QEMU has no walker for the architecture or did not dump them.
    pub fn mapped_pages(&self) -> Result<Option<Pages>> {
        let file = self.raw().with_file_name("mem-paging.elf");
        if !file.is_file() {
            return Ok(None);
        }
        let headers = run("readelf", &["-lW", text(&file)?])?;
        // CR4.LA57: the topmost bit of a virtual address is 56, not 47. QEMU sets all bits above in either half.
        let registers = self.beside("hmp-registers.txt")?;
        let control = registers.split("CR4=").nth(1).and_then(|rest| rest.get(..8)).context("no CR4")?;
        let top = if u64::from_str_radix(control, 16)? >> 12 & 1 == 1 { 56 } else { 47 };
        let mut pages = Pages::new();
        for line in headers.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ["LOAD", _, start, place, _, length, ..] = words.as_slice() else { continue };
            let (start, place, length) = (number(start)?, number(place)?, number(length)?);
            let start = if start >> top & 1 == 0 { start & ((1 << top) - 1) } else { start };
            pages.extend((0..length).step_by(4096).map(|at| (start + at, place + at)));
        }
        ensure!(!pages.is_empty(), "nothing is mapped: {}", file.display());
        Ok(Some(pages))
    }

    /// Start and end of what the first processor's tables map, as the emulator lists it (`info mem`); empty where it cannot.
    pub fn listed_ranges(&self) -> Result<BTreeMap<u64, u64>> {
        let mut ranges = BTreeMap::new();
        for line in self.beside("hmp-mem.txt")?.lines() {
            // 000055d51b2bf000-000055d51b2ca000 000000000000b000 ur-
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            if let Some((Ok(start), Ok(end))) = range.map(|(start, end)| (number(start), number(end))) {
                ranges.insert(start, end);
            }
        }
        Ok(ranges)
    }

    /// Physical addresses of memory, as against devices.
    pub fn memory(&self) -> Result<Vec<RangeInclusive<u64>>> {
        let mut ranges = Vec::new();
        let views = self.beside("hmp-mtree.txt")?;
        let view =
            views.split("FlatView").find(|view| view.contains("AS \"memory\"")).context("no memory")?;
        for line in view.lines() {
            // 0000000000000000-00000000000c2fff (prio 0, ram): pc.ram
            let Some((range, kind)) = line.trim().split_once(" (prio ") else { continue };
            let Some((start, end)) = range.split_once('-') else { continue };
            if kind.contains(", ram)") || kind.contains(", rom)") {
                ranges.push(u64::from_str_radix(start, 16)?..=u64::from_str_radix(end, 16)?);
            }
        }
        Ok(ranges)
    }

    /// The text of a file that the emulator wrote.
    fn beside(&self, name: &str) -> Result<String> {
        let file = self.raw().with_file_name(name);
        std::fs::read_to_string(&file).with_context(|| format!("cannot read: {}", file.display()))
    }
}

/// A hexadecimal number with or without its prefix.
pub fn number(text: &str) -> Result<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).with_context(|| format!("not hexadecimal: {text}"))
}

/// A path as an argument.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str().context("not UTF-8")
}

/// The regular files of cpio archives in the "newc" format, one behind the other
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
fn archive(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    const HEADER: usize = 110;
    let mut files = BTreeMap::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + HEADER) {
        if header.starts_with(&[0; 4]) {
            at += 4; // between two archives
            continue;
        }
        let header = std::str::from_utf8(header).context("not a header")?;
        ensure!(header.starts_with("07070"), "not an archive: {at:#x}");
        let field =
            |index: usize| header.get(6 + 8 * index..14 + 8 * index).context("no field").and_then(number);
        let (mode, size, name_size) = (field(1)?, usize::try_from(field(6)?)?, usize::try_from(field(11)?)?);
        let name = bytes.get(at + HEADER..at + HEADER + name_size).context("cut off")?;
        let name = String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned();
        let start = (at + HEADER + name_size).next_multiple_of(4);
        let Some(content) = bytes.get(start..start + size) else { bail!("cut off: {name}") };
        if mode & 0o170_000 == 0o100_000 {
            files.insert(format!("/{}", name.trim_start_matches("./")), content.to_vec());
        }
        at = (start + size).next_multiple_of(4);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, mode: usize, content: &str) -> String {
        let numbers = [0, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
        let header: String = numbers.iter().map(|number| format!("{number:08x}")).collect();
        let pad =
            |text: String| format!("{text}{}", "\0".repeat(text.len().next_multiple_of(4) - text.len()));
        pad(format!("{}{content}", pad(format!("070701{header}{name}\0"))))
    }

    #[test]
    fn files_of_two_archives_are_read_and_folders_are_not() {
        let bytes = [
            entry("bin", 0o040_755, ""),
            entry("./bin/a", 0o100_755, "first"),
            entry("TRAILER!!!", 0, ""),
            "\0".repeat(12),
            entry("b", 0o100_644, "second"),
            entry("TRAILER!!!", 0, ""),
        ]
        .concat();
        let files = archive(bytes.as_bytes()).unwrap();
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        assert_eq!(files, [("/b", b"second".as_slice()), ("/bin/a", b"first".as_slice())]);
    }
}
