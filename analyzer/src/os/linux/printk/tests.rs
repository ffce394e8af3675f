use super::super::testkit::{Memory, texts};
use super::*;

/// `printk_ringbuffer` of v5.10 and later, as pahole shows it.
const RING: &str = r#"{
    "printk_ringbuffer": [80, {"desc_ring": [0, ["prb_desc_ring"]], "text_data_ring": [40, ["prb_data_ring"]]}],
    "prb_desc_ring": [40, {"count_bits": [0, ["unsigned int"]], "descs": [8, ["Pointer"]],
        "infos": [16, ["Pointer"]], "head_id": [24, ["atomic64_t"]], "tail_id": [32, ["atomic64_t"]]}],
    "prb_data_ring": [32, {"size_bits": [0, ["unsigned int"]], "data": [8, ["Pointer"]]}],
    "prb_desc": [24, {"state_var": [0, ["atomic64_t"]], "text_blk_lpos": [8, ["prb_data_blk_lpos"]]}],
    "prb_data_blk_lpos": [16, {"begin": [0, ["unsigned long"]], "next": [8, ["unsigned long"]]}],
    "atomic64_t": [8, {"counter": [0, ["long long"]]}],
    "printk_info": [88, {"seq": [0, ["unsigned long long"]], "ts_nsec": [8, ["unsigned long long"]],
        "text_len": [16, ["unsigned short"]], "facility": [18, ["unsigned char"]],
        "flags": [19, ["BitField", {"start_bit": 0, "end_bit": 5, "target": "unsigned char"}]],
        "level": [19, ["BitField", {"start_bit": 5, "end_bit": 8, "target": "unsigned char"}]],
        "caller_id": [20, ["unsigned int"]], "dev_info": [24, ["dev_printk_info"]]}],
    "dev_printk_info": [64, {"subsystem": [0, ["Array", {"count": 16, "target": "char"}]],
        "device": [16, ["Array", {"count": 48, "target": "char"}]]}]}"#;

const DESCRIPTORS: u64 = 0x2000;
const INFOS: u64 = 0x3000;
const TEXT: u64 = 0x4000;
const FINAL: u64 = FINALIZED << 62;

/// A ring of 4 descriptors and 64 bytes of text, holding the ids `tail..=head`.
fn ring_of(tail: u64, head: u64) -> Memory {
    let mut memory = Memory::default();
    memory.word(0x1000, 0x1100);
    memory.words(0x1100, &[2, DESCRIPTORS, INFOS, head, tail, 6, TEXT]);
    memory
}

/// A record: state bits, id, text positions; its time is its id in microseconds, its level 6.
fn put(memory: &mut Memory, state: u64, id: u64, (begin, next): (u64, u64), text_len: u16) {
    let (descriptor, info) = (DESCRIPTORS + id % 4 * 24, INFOS + id % 4 * 88);
    memory.words(descriptor, &[state | id, begin, next]);
    memory
        .words(info, &[id, id * 1000])
        .bytes(info + 16, &text_len.to_le_bytes())
        .bytes(info + 18, &[1, 6 << 5]);
    memory.half(info + 20, 0x8000_0003);
}

/// A block of text at an offset of the ring.
fn block(memory: &mut Memory, offset: u64, id: u64, text: &[u8]) {
    memory.word(TEXT + offset, id).bytes(TEXT + offset + 8, text);
}

fn read(memory: &Memory) -> (Vec<Record>, Vec<String>) {
    let notes = Notes::default();
    let target = memory.target(RING, &[("prb", 0x1000)]);
    let records = records(&notes, &target).expect("ring");
    (records, texts(&notes))
}

fn text_of_all(records: &[Record]) -> Vec<Read<&str>> {
    records.iter().map(|record| record.text.as_deref().map_err(Clone::clone)).collect()
}

#[test]
fn records_come_oldest_first_with_a_text_that_wraps_around() {
    let mut memory = ring_of(5, 7);
    // Positions count on over the turns of the ring; 64 bytes each. Id 6 does not fit before the end: it starts at 0.
    put(&mut memory, FINAL, 5, (64 + 24, 64 + 40), 5);
    block(&mut memory, 24, 5, b"first");
    put(&mut memory, FINAL, 6, (64 + 40, 128 + 24), 11);
    block(&mut memory, 0, 6, b"two\nlines!!");
    put(&mut memory, COMMITTED << 62, 7, (128 + 24, 128 + 24 + 16), 4);
    block(&mut memory, 24, 7, b"last");
    // The last record overwrote the block of the first.
    let (records, notes) = read(&memory);
    assert_eq!(
        text_of_all(&records),
        [Err(Absent::Malformed("text belongs to another record")), Ok("two\nlines!!"), Ok("last")]
    );
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(
        records[1],
        Record {
            timestamp: Ok(6000),
            facility: Ok(1),
            level: Ok(6),
            caller: Ok(0x8000_0003),
            device: Err(Absent::NotApplicable("not about a device")),
            text: Ok("two\nlines!!".to_owned()),
        }
    );
}

#[test]
fn a_block_that_ends_with_the_ring_is_no_wrapped_one() {
    let mut memory = ring_of(5, 5);
    put(&mut memory, FINAL, 5, (40, 64), 3);
    block(&mut memory, 40, 5, b"end");
    assert_eq!(text_of_all(&read(&memory).0), [Ok("end")]);
}

#[test]
fn records_without_text_are_empty_or_say_that_it_is_lost() {
    let mut memory = ring_of(4, 6);
    put(&mut memory, FINAL, 4, (3, 3), 0);
    put(&mut memory, FINAL, 5, (1, 1), 9);
    put(&mut memory, FINAL, 6, (8, 4096), 9);
    memory.word(TEXT, 0);
    assert_eq!(
        text_of_all(&read(&memory).0),
        [
            Ok(""),
            Err(Absent::NotApplicable("the kernel had no room for the text")),
            Err(Absent::Malformed("positions of the text"))
        ]
    );
}

#[test]
fn the_length_of_a_text_is_limited_by_its_block() {
    let mut memory = ring_of(5, 5);
    put(&mut memory, FINAL, 5, (0, 16), u16::MAX);
    block(&mut memory, 0, 5, b"12345678 not mine");
    assert_eq!(text_of_all(&read(&memory).0), [Ok("12345678")]);
}

#[test]
fn reusable_descriptors_are_skipped_and_foreign_ones_reported() {
    let mut memory = ring_of(4, 7);
    put(&mut memory, REUSABLE << 62, 4, (0, 16), 1);
    put(&mut memory, FINAL, 9, (0, 16), 1);
    put(&mut memory, 0, 6, (0, 16), 1);
    put(&mut memory, FINAL, 7, (16, 32), 1);
    block(&mut memory, 16, 7, b"x");
    let (records, notes) = read(&memory);
    assert_eq!(text_of_all(&records), [Ok("x")]);
    assert_eq!(
        notes,
        [
            "printk ring buffer: a record was being written and is left out",
            "printk ring buffer: 1 of 4 descriptors are lost: they hold other records"
        ]
    );
}

#[test]
fn hostile_sizes_and_ids_end() {
    let mut memory = ring_of(0, u64::MAX);
    memory.words(DESCRIPTORS, &[0; 12]);
    let (records, notes) = read(&memory);
    assert_eq!(records, []);
    assert_eq!(
        notes[0],
        "printk ring buffer: its tail is 4611686018427387904 records behind its head, more than it holds"
    );
    memory.words(0x1100, &[63]);
    let target = memory.target(RING, &[("prb", 0x1000)]);
    let error = records_error(&target);
    assert_eq!(error, "printk ring buffer has implausible sizes: 2^63 records, 2^6 bytes");
}

fn records_error(target: &Target) -> String {
    records(&Notes::default(), target).expect_err("refused").to_string()
}

#[test]
fn a_ring_of_missing_memory_is_reported() {
    let (records, notes) = read(&ring_of(0, 3));
    assert_eq!(records, []);
    assert!(
        notes[0].starts_with("printk ring buffer: 4 of 4 descriptors are lost: unreadable at 0x2000"),
        "{notes:?}"
    );
}

/// `printk_log` of v3.11 to v5.9.
const RECORDS: &str = r#"{"printk_log": [16, {"ts_nsec": [0, ["unsigned long long"]], "len": [8, ["unsigned short"]],
    "text_len": [10, ["unsigned short"]], "facility": [14, ["unsigned char"]],
    "level": [15, ["BitField", {"start_bit": 5, "end_bit": 8, "target": "unsigned char"}]]}]}"#;
const RECORD_SYMBOLS: [(&str, u64); 4] =
    [("log_buf", 0x1000), ("log_buf_len", 0x1008), ("log_first_idx", 0x1010), ("log_next_idx", 0x1018)];

/// A buffer of 128 bytes at 0x2000 with its first and next index.
fn buffer(first: u32, next: u32) -> Memory {
    let mut memory = Memory::default();
    memory.word(0x1000, 0x2000).half(0x1008, 128).half(0x1010, first).half(0x1018, next);
    memory.words(0x2000, &[0; 16]);
    memory
}

fn log(memory: &mut Memory, offset: u64, len: u16, text: &[u8]) {
    let text_len = u16::try_from(text.len()).expect("short");
    memory.word(0x2000 + offset, offset).bytes(0x2008 + offset, &len.to_le_bytes());
    memory.bytes(0x200a + offset, &text_len.to_le_bytes()).bytes(0x200e + offset, &[0, 4 << 5]);
    memory.bytes(0x2010 + offset, text);
}

fn logged(memory: &Memory) -> (Vec<String>, Vec<String>) {
    let notes = Notes::default();
    let records = records(&notes, &memory.target(RECORDS, &RECORD_SYMBOLS)).expect("log");
    (records.into_iter().map(|record| record.text.expect("text")).collect(), texts(&notes))
}

#[test]
fn old_records_go_on_at_the_start_behind_a_record_of_length_0() {
    let mut memory = buffer(64, 32);
    log(&mut memory, 64, 24, b"older");
    log(&mut memory, 0, 32, b"newer");
    assert_eq!(logged(&memory), (vec!["older".to_owned(), "newer".to_owned()], vec![]));
}

#[test]
fn old_records_of_hostile_length_end_the_log() {
    let mut memory = buffer(0, 96);
    log(&mut memory, 0, 8, b"");
    assert_eq!(logged(&memory).1, ["printk log is broken at offset 0x0: malformed: length of a record"]);
    log(&mut memory, 0, 32, b"good");
    log(&mut memory, 32, 4096, b"bad");
    assert_eq!(
        logged(&memory),
        (
            vec!["good".to_owned()],
            vec!["printk log is broken at offset 0x20: malformed: length of a record".into()]
        )
    );
    // Nothing but empty records: around once, then the end.
    let (texts, notes) = logged(&buffer(8, 96));
    assert_eq!((texts.len(), notes.len()), (0, 1));
}

#[test]
fn plain_text_starts_behind_its_end_once_it_went_around() {
    let symbols =
        [("log_buf", 0x1000), ("log_buf_len", 0x1008), ("log_end", 0x1010), ("logged_chars", 0x1018)];
    let mut memory = Memory::default();
    memory.word(0x1000, 0x2000).half(0x1008, 64).half(0x1010, 64 + 14).half(0x1018, 64);
    // 14 characters of the second turn, then the rest of the first.
    memory.bytes(0x2000, b"89] tail\nlast\nX\n<12>no time\n<6>[    1.000123] one\n<4>[    2.0004");
    let records = records(&Notes::default(), &memory.target("{}", &symbols)).expect("log");
    let short: Vec<_> = records
        .iter()
        .map(|r| (r.facility.clone().ok(), r.level.clone().ok(), r.timestamp.clone().ok(), r.text.clone()))
        .collect();
    assert_eq!(
        short,
        [
            (None, None, None, Ok("X".to_owned())),
            (Some(1), Some(4), None, Ok("no time".to_owned())),
            (Some(0), Some(6), Some(1_000_123_000), Ok("one".to_owned())),
            (Some(0), Some(4), Some(2_000_489_000), Ok("tail".to_owned())),
            (None, None, None, Ok("last".to_owned())),
        ]
    );
}

#[test]
fn a_profile_without_log_says_what_is_missing() {
    assert_eq!(records_error(&Memory::default().target("{}", &[])), "profile lacks symbol: prb");
}
