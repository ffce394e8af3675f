//! Rows are streamed: a million of them take no more memory than a thousand. One test, so that it has its process for
//! itself.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use analyzer::render::{Colours, Format, Table};
use analyzer::table::{Column, Kind, Value};

/// Counts bytes and forgets them.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU64>);

impl Write for Counting {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(buf.len() as u64, Ordering::Relaxed);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Most memory this process ever had resident, in KiB (`proc(5)`).
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_million_rows_take_constant_memory_in_every_format() {
    let columns = &[
        Column { name: "offset", kind: Kind::Addr, doc: "Where." },
        Column { name: "text", kind: Kind::Text, doc: "What." },
    ];
    let before = peak_kib();
    for &format in Format::ALL {
        let out = Counting::default();
        let mut renderer = format.renderer(Box::new(out.clone()), Colours::Off);
        renderer.begin(&Table { plugin: "scan", columns }).unwrap();
        for n in 0..1_000_000 {
            renderer
                .row(0, &[Value::Addr(n), Value::Text("thirty-two bytes of text in here".into())])
                .unwrap();
        }
        renderer.end(&[], true).unwrap();
        assert!(out.0.load(Ordering::Relaxed) > 35_000_000, "{}", format.name());
    }
    let grown = peak_kib() - before;
    assert!(grown < 4096, "{grown} KiB more for 6 times 40 MB of output");
}
