//! The kernel's log in its three forms: the ring of descriptors (v5.10), variable-length records (v3.5 to v5.9), and
//! plain text before. Presence of `prb`, then of `log_first_idx`, decides.
//!
//! ```text
//! descriptors  [ id|state, begin, next ]  index = id mod 2^count_bits      ┐ printk_ringbuffer,
//! infos        [ seq, time, level, ... ]  same index                       │ kernel/printk/printk_ringbuffer.c
//! text ring    ... id text.. | id text ... begin, next: positions mod 2^size_bits; a block that does not fit before
//!              the end starts at 0 instead                                 ┘
//! ```

use object::walk::MAX_NODES;
use object::{Absent, Ptr, Read, Target, Text, Uint, layout};

use crate::error::Error;
use crate::notes::Notes;
use crate::table::text_of;

/// Longest message: lengths have 16 bits.
const MAX_TEXT: usize = 1 << 16;

/// Largest text log: the buffer is at most 2 GiB (`LOG_BUF_LEN_MAX`, kernel/printk/printk.c), but plain logs, from
/// before that limit, never grew so large in practice.
const MAX_PLAIN: u64 = 64 << 20;

/// Largest plausible number of bits of a ring of descriptors or text.
const MAX_BITS: u32 = 40;

layout! {
    /// `printk_ringbuffer` (kernel/printk/printk_ringbuffer.h).
    struct Ring / RingLayout = "printk_ringbuffer" {
        count_bits: u32 = "desc_ring.count_bits",
        descriptors: Ptr = "desc_ring.descs",
        infos: Ptr = "desc_ring.infos",
        /// Newest descriptor.
        head_id: Uint = "desc_ring.head_id.counter",
        /// Oldest descriptor.
        tail_id: Uint = "desc_ring.tail_id.counter",
        size_bits: u32 = "text_data_ring.size_bits",
        data: Ptr = "text_data_ring.data",
    }

    struct Descriptor / DescriptorLayout = "prb_desc" {
        state: Uint = "state_var.counter",
        begin: Uint = "text_blk_lpos.begin",
        next: Uint = "text_blk_lpos.next",
    }

    /// `printk_info`: what a record has besides its text.
    struct Info / InfoLayout = "printk_info" {
        timestamp: u64 = "ts_nsec",
        text_len: u16 = "text_len",
        facility: Uint = "facility",
        level: Uint = "level",
        caller: u32 = "caller_id",
        subsystem: Text = "dev_info.subsystem",
        device: Text = "dev_info.device",
    }

    /// `printk_log`: head of a record of v3.5 to v5.9 (kernel/printk/printk.c); `log` before Linux commit
    /// 62e32ac3505a (v3.11). The text follows.
    struct Log / LogLayout = "printk_log" {
        timestamp: u64 = "ts_nsec",
        len: u16 = "len",
        text_len: u16 = "text_len",
        facility: Uint = "facility",
        level: Uint = "level",
        caller: u32 = "caller_id",
    }

    struct OldLog / OldLogLayout = "log" {
        timestamp: u64 = "ts_nsec",
        len: u16 = "len",
        text_len: u16 = "text_len",
        facility: Uint = "facility",
        level: Uint = "level",
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds since boot by the scheduler's clock.
    pub timestamp: Read<u64>,
    /// Who logs: 0 is the kernel (`LOG_KERN`), the rest as in syslog(3).
    pub facility: Read<u64>,
    /// Severity: 0 (emergency) to 7 (debug).
    pub level: Read<u64>,
    /// Thread id, or with the high bit set the CPU, that logged.
    pub caller: Read<u32>,
    /// Device the message is about: subsystem and name.
    pub device: Read<String>,
    /// The text; may have several lines.
    pub text: Read<String>,
}

/// All records, oldest first.
pub fn records(notes: &Notes, target: &Target) -> Result<Vec<Record>, Error> {
    if let Ok(prb) = target.symbol("prb") {
        // A pointer: the kernel moves from a static to a larger ring at boot.
        return ring(notes, target, target.read_ptr(prb)?);
    }
    if let Ok(first) = target.symbol("log_first_idx") {
        return variable(notes, target, first);
    }
    if target.symbol("log_end").is_ok() {
        return plain(notes, target);
    }
    // What every kernel of today has.
    target.symbol("prb")?;
    Ok(Vec::new())
}

/// States of a descriptor (`enum desc_state`).
const COMMITTED: u64 = 1;
const FINALIZED: u64 = 2;
const REUSABLE: u64 = 3;

/// Numbers of a ring that reading a record needs.
struct Geometry {
    /// Bytes of a `long`.
    word: u64,
    /// Mask of a descriptor's id; the two bits above are its state.
    id_mask: u64,
    size_bits: u32,
    data: u64,
}

/// Records of a `printk_ringbuffer`: every descriptor from tail to head.
fn ring(notes: &Notes, target: &Target, addr: u64) -> Result<Vec<Record>, Error> {
    let ring = Ring::at(target, addr);
    let (count_bits, size_bits) = (ring.count_bits()?, ring.size_bits()?);
    if count_bits > MAX_BITS || size_bits > MAX_BITS {
        return Err(Error::damaged(format!(
            "printk ring buffer has implausible sizes: 2^{count_bits} records, 2^{size_bits} bytes"
        )));
    }
    let word = u64::from(target.types().model().pointer_size());
    let id_mask = u64::MAX >> (64 - word * 8) >> 2;
    let Ptr(data) = ring.data()?;
    let geometry = Geometry { word, id_mask, size_bits, data };
    let (Ptr(descriptors), Ptr(infos)) = (ring.descriptors()?, ring.infos()?);
    let (descriptor_size, info_size) =
        (target.types().struct_size("prb_desc")?, target.types().struct_size("printk_info")?);

    let count = 1u64 << count_bits;
    let (Uint(head), Uint(tail)) = (ring.head_id()?, ring.tail_id()?);
    let mut span = (head.wrapping_sub(tail) & id_mask).saturating_add(1);
    if span > count {
        notes.partial(format!(
            "printk ring buffer: its tail is {span} records behind its head, more than it holds"
        ));
        span = count;
    }
    if span > MAX_NODES as u64 {
        notes.partial(format!(
            "printk ring buffer was cut off: only the newest {MAX_NODES} of {span} records are shown"
        ));
        span = MAX_NODES as u64;
    }
    let mut records = Vec::new();
    let (mut damaged, mut first) = (0u64, None);
    for back in (0..span).rev() {
        let id = head.wrapping_sub(back) & id_mask;
        let index = id & (count - 1);
        let descriptor =
            Descriptor::at(target, descriptors.wrapping_add(index.wrapping_mul(descriptor_size)));
        match descriptor.state() {
            Ok(Uint(state)) if state & id_mask == id => {
                let state = state >> (word * 8 - 2) & 3;
                if state == COMMITTED || state == FINALIZED {
                    let info = Info::at(target, infos.wrapping_add(index.wrapping_mul(info_size)));
                    records.push(ring_record(&geometry, id, &descriptor, &info));
                } else if state != REUSABLE {
                    notes.info("printk ring buffer: a record was being written and is left out");
                }
            }
            Ok(_) => damaged = damaged.saturating_add(1),
            Err(why) => {
                damaged = damaged.saturating_add(1);
                first.get_or_insert(why);
            }
        }
    }
    if damaged > 0 {
        let why = first.map_or_else(|| "they hold other records".to_owned(), |why| why.to_string());
        notes.partial(format!("printk ring buffer: {damaged} of {span} descriptors are lost: {why}"));
    }
    Ok(records)
}

fn ring_record(geometry: &Geometry, id: u64, descriptor: &Descriptor<'_>, info: &Info<'_>) -> Record {
    let device = info.subsystem().and_then(|Text(subsystem)| {
        if subsystem.is_empty() {
            return Err(Absent::NotApplicable("not about a device"));
        }
        let Text(device) = info.device()?;
        Ok(format!("{} {}", text_of(&subsystem), text_of(&device)))
    });
    Record {
        timestamp: info.timestamp(),
        facility: info.facility().map(|Uint(facility)| facility),
        level: info.level().map(|Uint(level)| level),
        caller: info.caller(),
        device,
        text: ring_text(geometry, id, descriptor, info),
    }
}

/// Text of a record: `get_data()` and `copy_data()` of kernel/printk/printk_ringbuffer.c.
fn ring_text(geometry: &Geometry, id: u64, descriptor: &Descriptor<'_>, info: &Info<'_>) -> Read<String> {
    /// Position of a record without text (`NO_LPOS`, later `EMPTY_LINE_LPOS`); any other odd position is a record whose
    /// text found no room (`FAILED_LPOS`).
    const NO_TEXT: u64 = 3;
    let (Uint(begin), Uint(next)) = (descriptor.begin()?, descriptor.next()?);
    if begin & 1 == 1 && next & 1 == 1 {
        return match (begin, next) {
            (NO_TEXT, NO_TEXT) => Ok(String::new()),
            _ => Err(Absent::NotApplicable("the kernel had no room for the text")),
        };
    }
    let Geometry { word, size_bits, data, .. } = *geometry;
    let size = 1u64 << size_bits;
    let (index, next_index) = (begin & (size - 1), next & (size - 1));
    let (wrap, next_wrap) = (begin >> size_bits, next >> size_bits);
    // A block that ends just at the end of the ring counts as wrapped only in old kernels, which never make one.
    let (block, len) = if wrap == next_wrap && begin < next {
        (index, next.wrapping_sub(begin))
    } else if next_wrap == wrap.wrapping_add(1) & (u64::MAX >> (64 - word * 8) >> size_bits) {
        if next_index == 0 { (index, size - index) } else { (0, next_index) }
    } else {
        return Err(Absent::Malformed("positions of the text"));
    };
    let target = descriptor.target();
    let block = data.wrapping_add(block);
    let owner = target.read_ptr(block)?;
    let room = len.checked_sub(word).ok_or(Absent::Malformed("length of the text"))?;
    if owner & geometry.id_mask != id {
        return Err(Absent::Malformed("text belongs to another record"));
    }
    let len = u64::from(info.text_len()?).min(room);
    target.read_bytes(block.wrapping_add(word), len, MAX_TEXT).map(|bytes| text_of(&bytes))
}

/// Records of v3.5 to v5.9: from `log_first_idx` to `log_next_idx`; a record of length 0 says to go on at the start of
/// the buffer (`log_next()` of kernel/printk/printk.c).
fn variable(notes: &Notes, target: &Target, first: u64) -> Result<Vec<Record>, Error> {
    let types = target.types();
    let structure = if types.has_field("printk_log", "text_len") { "printk_log" } else { "log" };
    let head = types.struct_size(structure)?;
    let buffer = target.read_ptr(target.symbol("log_buf")?)?;
    let size = u64::from(target.read_u32(target.symbol("log_buf_len")?)?);
    let end = u64::from(target.read_u32(target.symbol("log_next_idx")?)?);
    let mut index = u64::from(target.read_u32(first)?);
    let mut records = Vec::new();
    let mut wrapped = false;
    while index != end {
        if records.len() >= MAX_NODES {
            notes.partial(format!("printk log was cut off after {MAX_NODES} records"));
            break;
        }
        let addr = buffer.wrapping_add(index);
        let (record, len, text_len) = variable_record(target, structure, addr);
        let len = match len {
            Ok(0) if !wrapped => {
                wrapped = true;
                index = 0;
                continue;
            }
            Ok(len) if u64::from(len) >= head && index.saturating_add(u64::from(len)) <= size => {
                u64::from(len)
            }
            other => {
                let why = other.err().unwrap_or(Absent::Malformed("length of a record"));
                notes.partial(format!("printk log is broken at offset {index:#x}: {why}"));
                break;
            }
        };
        let text = text_len.and_then(|text_len| {
            let text_len = u64::from(text_len).min(len - head);
            target.read_bytes(addr.wrapping_add(head), text_len, MAX_TEXT).map(|bytes| text_of(&bytes))
        });
        records.push(Record { text, ..record });
        index = index.saturating_add(len);
        // Behind the end without a wrap there is nothing; a second round would never end.
        if wrapped && index > end {
            notes.partial(format!("printk log runs past its end at offset {index:#x}"));
            break;
        }
    }
    Ok(records)
}

/// Head of a record, its length and the length of its text.
fn variable_record(target: &Target, structure: &str, addr: u64) -> (Record, Read<u16>, Read<u16>) {
    let record = |timestamp, facility: Read<Uint>, level: Read<Uint>, caller| Record {
        timestamp,
        facility: facility.map(|Uint(facility)| facility),
        level: level.map(|Uint(level)| level),
        caller,
        device: Err(Absent::NotApplicable("this kernel keeps it as text")),
        text: Err(Absent::Malformed("not read yet")),
    };
    if structure == "printk_log" {
        let log = Log::at(target, addr);
        let caller = match log.caller() {
            Err(Absent::NoProfile(_)) => Err(Absent::NotApplicable("this kernel does not keep it")),
            caller => caller,
        };
        return (record(log.timestamp(), log.facility(), log.level(), caller), log.len(), log.text_len());
    }
    let log = OldLog::at(target, addr);
    let caller = Err(Absent::NotApplicable("this kernel does not keep it"));
    (record(log.timestamp(), log.facility(), log.level(), caller), log.len(), log.text_len())
}

/// The plain log before v3.5: `log_buf_len` characters, of which the last written is before `log_end`.
fn plain(notes: &Notes, target: &Target) -> Result<Vec<Record>, Error> {
    let buffer = target.read_ptr(target.symbol("log_buf")?)?;
    let size = u64::from(target.read_u32(target.symbol("log_buf_len")?)?);
    let end = u64::from(target.read_u32(target.symbol("log_end")?)?);
    if !size.is_power_of_two() || size > MAX_PLAIN {
        return Err(Error::damaged(format!("log buffer has an implausible size: {size}")));
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| Absent::Malformed("size of the log"))?];
    let gaps = target.space().read_padded(buffer, &mut bytes);
    if gaps.missing > 0 {
        notes.partial(format!("log buffer: {} of {size} bytes cannot be read", gaps.missing));
    }
    // The counter may have gone around the buffer, and itself around 2^32.
    let written = target.symbol("logged_chars").ok().map(|symbol| target.read_u32(symbol)).transpose()?;
    let total = written.map_or(end, u64::from).min(size);
    let turn = usize::try_from(end % size).map_err(|_| Absent::Malformed("end of the log"))?;
    bytes.rotate_left(turn);
    let skip = usize::try_from(size - total).map_err(|_| Absent::Malformed("size of the log"))?;
    let text = bytes.get(skip..).unwrap_or_default();
    Ok(text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(plain_record).collect())
}

/// A line `<6>[   12.345678] text`; what is missing is absent.
fn plain_record(line: &[u8]) -> Record {
    let line = text_of(line);
    let prefix = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let (priority, rest) = match prefix.map(|(number, rest)| (number.parse::<u64>(), rest)) {
        Some((Ok(number), rest)) => (Ok(number), rest),
        _ => (Err(Absent::NotApplicable("the line has none")), line.as_str()),
    };
    let stamp = rest.strip_prefix('[').and_then(|inside| {
        let (stamp, text) = inside.split_once("] ")?;
        let (seconds, micros) = stamp.trim_start().split_once('.')?;
        let (seconds, micros): (u64, u64) = (seconds.parse().ok()?, micros.parse().ok()?);
        Some((seconds.checked_mul(1_000_000_000)?.checked_add(micros.checked_mul(1000)?)?, text))
    });
    let (timestamp, text) = match stamp {
        Some((stamp, text)) => (Ok(stamp), text),
        None => (Err(Absent::NotApplicable("the line has none")), rest),
    };
    let none = Absent::NotApplicable("this kernel does not keep it");
    Record {
        timestamp,
        facility: priority.clone().map(|priority| priority >> 3),
        level: priority.map(|priority| priority & 7),
        caller: Err(none.clone()),
        device: Err(none),
        text: Ok(text.to_owned()),
    }
}

/// Name of a level (include/linux/kern_levels.h).
#[must_use]
pub fn level_name(level: u64) -> Option<&'static str> {
    const NAMES: [&str; 8] = ["EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO", "DEBUG"];
    NAMES.get(usize::try_from(level).ok()?).copied()
}

/// Name of a syslog facility (RFC 3164 4.1.1, as util-linux dmesg prints them); the number where it has none.
#[must_use]
pub fn facility_name(facility: u64) -> String {
    const NAMES: [&str; 12] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    ];
    match facility {
        16..=23 => format!("local{}", facility - 16),
        _ => {
            let name = usize::try_from(facility).ok().and_then(|facility| NAMES.get(facility));
            name.map_or_else(|| facility.to_string(), |name| (*name).to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
