//! A symbol server that has a PDB of every GUID: one real file, with the GUID asked for put into it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Random;

/// Name of the PDB.
pub const PDB: &str = "omap_stretched";

/// GUID of the real file, as `llvm-pdbutil dump --summary` prints it.
const GUID: [u8; 16] =
    [0x53, 0x3c, 0xda, 0xab, 0x07, 0xd8, 0x26, 0x43, 0xaa, 0x40, 0xf4, 0x1d, 0xd5, 0x38, 0x24, 0x57];

/// The symbol server.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it fails: status 500, resets, half bodies.
    pub fails: Arc<AtomicBool>,
    /// Number of requests it failed.
    pub failed: Arc<AtomicU64>,
}

impl Upstream {
    /// Starts it on a free port of the loopback; it ends with the program.
    pub fn start(pdb: Vec<u8>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (fails, failed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (pdb, flag, count) = (Arc::new(pdb), Arc::clone(&fails), Arc::clone(&failed));
        pdb.windows(16).position(|window| window == GUID).context("not the PDB whose GUID is known")?;
        std::thread::spawn(move || {
            for (number, stream) in (0..).zip(listener.incoming().flatten()) {
                let (pdb, flag, count) = (Arc::clone(&pdb), Arc::clone(&flag), Arc::clone(&count));
                std::thread::spawn(move || answer(&stream, &pdb, &flag, &count, Random::new(number)));
            }
        });
        Ok(Self { address, fails, failed })
    }
}

fn answer(
    stream: &TcpStream,
    pdb: &[u8],
    fails: &AtomicBool,
    failed: &AtomicU64,
    mut random: Random,
) -> Option<()> {
    let mut lines = BufReader::new(stream);
    loop {
        let mut first = String::new();
        lines.read_line(&mut first).ok().filter(|read| *read > 0)?;
        let mut line = String::new();
        while lines.read_line(&mut line).ok()? > 2 {
            line.clear();
        }
        let fault = if fails.load(Ordering::Relaxed) { random.below(4) } else { 3 };
        failed.fetch_add(u64::from(fault < 3), Ordering::Relaxed);
        let mut out = stream;
        let path = first.split(' ').nth(1)?;
        let body =
            path.split('/').nth(3).filter(|_| path.ends_with(".pdb")).and_then(|id| with_guid(pdb, id));
        match (fault, body) {
            (0, _) => {
                out.write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").ok()?;
            }
            // Closed without a word.
            (1, _) => return None,
            (_, None) => {
                out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok()?;
            }
            (fault, Some(body)) => {
                write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
                let (first, second) = body.split_at(body.len() / 2);
                out.write_all(first).ok()?;
                if fault == 2 {
                    return None;
                }
                std::thread::sleep(Duration::from_millis(random.below(40)));
                out.write_all(second).ok()?;
            }
        }
    }
}

/// The PDB with another GUID; `id` is GUID and age in hex.
fn with_guid(pdb: &[u8], id: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(id.get(at * 2..at * 2 + 2)?, 16).ok();
    // The first three fields of a GUID are numbers, stored with the lowest byte first.
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let guid: Vec<u8> = order.into_iter().map(byte).collect::<Option<_>>()?;
    let mut pdb = pdb.to_vec();
    let mut start = 0;
    while let Some(at) = pdb.get(start..)?.windows(16).position(|window| window == GUID) {
        pdb.get_mut(start + at..start + at + 16)?.copy_from_slice(&guid);
        start += at + 16;
    }
    Some(pdb)
}
