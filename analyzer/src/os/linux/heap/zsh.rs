//! The history of zsh: `histent`s of Src/zsh.h, each in a chunk of its own, in a ring.

use object::{Absent, Read};

use super::{Heap, Kind};
use crate::table::{Time, text_of};

/// Longest command.
const MAX_COMMAND: usize = 64 << 10;
/// `Meta` of Src/zsh.h: the byte that follows is mixed with 32.
const META: u8 = 0x83;

/// A command that was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Address of its `histent`.
    pub addr: u64,
    /// Its number, as `history` shows it.
    pub number: u64,
    /// When it was started.
    pub started: Time,
    /// When it ended; not applicable while it runs.
    pub ended: Read<Time>,
    /// The command.
    pub command: Read<String>,
}

/// The commands of a heap, in the order of their numbers.
#[must_use]
pub fn history(heap: &Heap) -> Vec<Line> {
    let mut lines: Vec<Line> = heap
        .chunks
        .iter()
        .filter(|chunk| chunk.kind == Kind::Allocated)
        .filter(|chunk| (size(heap.width)..size(heap.width) + 16).contains(&chunk.usable))
        .filter_map(|chunk| line(heap, chunk.data).ok().flatten())
        .collect();
    lines.sort_by_key(|line| (line.number, line.addr));
    lines
}

/// Bytes of a `histent`.
fn size(width: u64) -> u64 {
    if width == 8 { 88 } else { 48 }
}

fn line(heap: &Heap, addr: u64) -> Read<Option<Line>> {
    // A hash node (link, name, flags), then the neighbours in the ring, a text, two times, words, their number, and the line's.
    let field = |index: u64| heap.word(addr.wrapping_add(index * heap.width));
    let (up, down) = (field(3)?, field(4)?);
    let linked = |from: u64, index: u64| heap.word(from.wrapping_add(index * heap.width)) == Ok(addr);
    if !linked(up, 4) || !linked(down, 3) || up == down && up == addr {
        return Ok(None);
    }
    let (name, started, ended) = (field(1)?, field(6)?, field(7)?);
    let low = field(10)?;
    let number = if heap.width == 4 { low | field(11)? << 32 } else { low };
    if name == 0 || i64::try_from(number).is_err() || number == 0 {
        return Ok(None);
    }
    let time = |seconds: u64| Time(i128::from(seconds) * 1_000_000_000);
    let text = memory::AddressSpace::read_cstr(&*heap.space, name, MAX_COMMAND);
    let command = text.map(|text| plain(&text)).map_err(|fault| Absent::Unreadable { addr: name, fault });
    let ended = if ended == 0 { Err(Absent::NotApplicable("still running")) } else { Ok(time(ended)) };
    Ok(Some(Line { addr, number, started: time(started), ended, command }))
}

/// Text as it was typed.
fn plain(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match (byte, bytes.as_slice()) {
            (META, [next, ..]) => {
                out.push(next ^ 32);
                bytes.next();
            }
            _ => out.push(byte),
        }
    }
    text_of(&out)
}
