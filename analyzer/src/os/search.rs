//! Searching memory for patterns: physical memory, the kernel's, or that of processes, whatever the system.
//!
//! All patterns are regular expressions over bytes, each scanned for once, on all cores. What stands across pages that are not
//! neighbours in an address space is found only in that address space.

use std::sync::Arc;

use memory::{AddressSpace, Fault, Gaps, Piece, Run, scan};
use regex::bytes::{Regex, RegexBuilder};

use super::address_space::SpaceName;
use super::system::Kernel;
use super::{linux, windows};
use crate::error::Error;
use crate::session::Session;
use crate::table::ObjRef;

/// Most hits in one address space.
const MAX_HITS: usize = 1 << 20;
/// How often the memory of a machine may be in one address space: the kernel maps all of it, and parts of it again.
const MAX_FOLD: u64 = 8;
/// Largest compiled pattern, in bytes.
const MAX_PATTERN: usize = 16 << 20;
/// Bytes of a wildcard `*` at most.
const MAX_GAP: usize = 255;

/// What is searched, for commands to flatten into theirs.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SearchArgs {
    /// Search this address space: K (kernel), P (physical memory) or pid@N [default: P]
    #[arg(long, value_name = "SPACE")]
    address_space: Vec<SpaceName>,
    /// Search physical memory
    #[arg(long)]
    scan_physical: bool,
    /// Search the kernel's memory
    #[arg(long)]
    scan_kernel: bool,
    /// Search the memory of all processes
    #[arg(long)]
    scan_process_memory: bool,
    /// Search the memory of processes with this id
    #[arg(long = "pid", value_name = "PID")]
    pids: Vec<u32>,
    /// Search the memory of processes whose name matches this regular expression
    #[arg(long, value_name = "REGEX")]
    proc_regex: Option<String>,
    /// Where to start
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address, default_value = "0")]
    start: u64,
    /// Where to stop
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address)]
    end: Option<u64>,
}

/// An address space to search.
pub struct Region {
    /// The process it belongs to.
    pub owner: Option<ObjRef>,
    /// `P`, `K` or `pid@N`.
    pub name: String,
    /// Its bytes, limited to what is searched.
    pub space: Arc<dyn AddressSpace>,
}

/// A place where a pattern matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// Its address.
    pub address: u64,
    /// Number of bytes that match.
    pub len: usize,
    /// Number of the pattern.
    pub pattern: usize,
}

/// A process, its id and its memory.
type Searched = (ObjRef, u64, Arc<dyn AddressSpace>);

/// A part of an address space, which may not be more than a multiple of the memory there is.
struct Part {
    space: Arc<dyn AddressSpace>,
    start: u64,
    end: u64,
    most: u64,
}

impl AddressSpace for Part {
    fn name(&self) -> String {
        self.space.name()
    }

    fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.space.read_at(addr, buf)
    }

    fn translate(&self, addr: u64) -> Result<u64, Fault> {
        self.space.translate(addr)
    }

    fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_> {
        let mut left = self.most;
        let runs = self.space.runs(start.max(self.start), end.min(self.end));
        Box::new(runs.map_while(move |run| {
            let len = run.len.min(left);
            left -= len;
            (len > 0).then_some(Run { len, ..run })
        }))
    }

    fn end(&self) -> u64 {
        self.space.end().min(self.end)
    }

    fn bits(&self) -> u8 {
        self.space.bits()
    }

    fn base(&self) -> Option<&dyn AddressSpace> {
        self.space.base()
    }

    fn borrow(&self, addr: u64, len: usize) -> Option<&[u8]> {
        self.space.borrow(addr, len)
    }
}

/// Part of an address space.
#[must_use]
pub fn within(space: Arc<dyn AddressSpace>, start: u64, end: u64) -> Arc<dyn AddressSpace> {
    Arc::new(Part { space, start, end, most: u64::MAX })
}

impl SearchArgs {
    /// The address spaces to search, physical memory where none is asked for.
    pub fn regions(&self, session: &Session) -> Result<Vec<Region>, Error> {
        let physical = &session.image()?.space;
        let total = physical.runs(0, u64::MAX).map(|run| run.len).fold(0, u64::saturating_add);
        let part = |space, start: u64, end: u64| -> Arc<dyn AddressSpace> {
            let (start, end) = (start.max(self.start), end.min(self.end.unwrap_or(u64::MAX)));
            Arc::new(Part { space, start, end, most: total.saturating_mul(MAX_FOLD) })
        };
        let mut names = self.address_space.clone();
        if self.scan_kernel {
            names.push(SpaceName::Kernel);
        }
        let processes = self.scan_process_memory || !self.pids.is_empty() || self.proc_regex.is_some();
        if self.scan_physical || names.is_empty() && !processes {
            names.insert(0, SpaceName::Physical);
        }
        let mut regions = Vec::new();
        for name in names {
            let first = if name == SpaceName::Kernel { user_end(&Kernel::of(session)?) } else { 0 };
            let space = part(name.open(session)?, first, u64::MAX);
            regions.push(Region { owner: None, name: name.to_string(), space });
        }
        if processes {
            let kernel = Kernel::of(session)?;
            let end = user_end(&kernel);
            for (owner, pid, space) in self.processes(session, &kernel)? {
                let name = format!("pid@{pid}");
                regions.push(Region { owner: Some(owner), name, space: part(space, 0, end) });
            }
        }
        Ok(regions)
    }

    /// The memory of the selected processes that have any.
    fn processes(&self, session: &Session, kernel: &Kernel) -> Result<Vec<Searched>, Error> {
        let mut found: Vec<Searched> = Vec::new();
        match kernel {
            Kernel::Linux(kernel) => {
                let pids = self.pids.iter().filter_map(|pid| i32::try_from(*pid).ok()).collect();
                let filter =
                    linux::ProcessFilter { pids, proc_regex: self.proc_regex.clone(), ..Default::default() };
                for task in filter.tasks(session, kernel)? {
                    let Some(space) = linux::mm::space_of(&session.notes, kernel, &task) else { continue };
                    let pid = task.pid().ok().and_then(|pid| u64::try_from(pid).ok()).unwrap_or(0);
                    found.push((task.obj_ref(), pid, space));
                }
            }
            Kernel::Windows(kernel) => {
                let pids = self.pids.iter().map(|pid| u64::from(*pid)).collect();
                let filter = windows::ProcessFilter {
                    pids,
                    proc_regex: self.proc_regex.clone(),
                    ..Default::default()
                };
                for process in filter.processes(session, kernel)? {
                    if let Some(space) = process.noted_space(&session.notes, kernel) {
                        found.push((process.obj_ref(), process.pid().unwrap_or(0), Arc::new(space)));
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Where the kernel's part of an address space begins.
fn user_end(kernel: &Kernel) -> u64 {
    match kernel {
        Kernel::Linux(kernel) => kernel.user_end(),
        Kernel::Windows(kernel) => kernel.user_end(),
    }
}

/// Patterns, compiled.
pub struct Patterns {
    patterns: Vec<Regex>,
    /// Longest match that is found wherever it stands, in bytes.
    longest: usize,
}

impl Patterns {
    /// Words, each found as it is.
    pub fn words(words: &[String]) -> Result<Self, Error> {
        let longest = words.iter().map(String::len).max().unwrap_or(0);
        Self::new(words.iter().map(|word| regex::escape(word)), longest)
    }

    /// Regular expressions over bytes; matches of up to `longest` bytes are found wherever they stand.
    pub fn expressions(expressions: &[String], longest: usize) -> Result<Self, Error> {
        Self::new(expressions.iter().cloned(), longest)
    }

    /// Signatures: hexadecimal digits, `??` for any byte, `*` for any number of bytes up to 255.
    pub fn signatures(signatures: &[String]) -> Result<Self, Error> {
        let mut longest = 0;
        let mut expressions = Vec::new();
        for signature in signatures {
            let (expression, len) = signature_expression(signature).ok_or_else(|| {
                Error::usage(format!("not a signature: {signature}")).with_hint(
                    "a signature is hexadecimal digits, ?? for any byte and * for any up to 255 bytes",
                )
            })?;
            longest = longest.max(len);
            expressions.push(expression);
        }
        Self::new(expressions.into_iter(), longest)
    }

    fn new(expressions: impl Iterator<Item = String>, longest: usize) -> Result<Self, Error> {
        let compile = |text: String| {
            let built = RegexBuilder::new(&text)
                .unicode(false)
                .dot_matches_new_line(true)
                .size_limit(MAX_PATTERN)
                .dfa_size_limit(MAX_PATTERN)
                .build();
            let regex = built.map_err(|error| Error::usage(format!("bad pattern: {error}")))?;
            match regex.is_match(b"") {
                true => Err(Error::usage(format!("a pattern that matches nothing at all: {text}"))),
                false => Ok(regex),
            }
        };
        Ok(Self { patterns: expressions.map(compile).collect::<Result<_, _>>()?, longest })
    }

    /// All places in a region, ascending by address; what could not be read is noted.
    pub fn find(&self, session: &Session, region: &Region) -> Vec<Hit> {
        let overlap = self.longest.saturating_sub(1);
        let (mut hits, gaps) = scan(&*region.space, memory::CHUNK, overlap, |piece: Piece<'_>| {
            let mut hits = Vec::new();
            for (pattern, regex) in self.patterns.iter().enumerate() {
                let found = regex.find_iter(piece.bytes).take_while(|found| found.start() < piece.own);
                hits.extend(found.take(MAX_HITS).map(|found| Hit {
                    address: piece.addr.wrapping_add(found.start() as u64),
                    len: found.len(),
                    pattern,
                }));
            }
            hits.sort_unstable_by_key(|hit| (hit.address, hit.pattern));
            hits
        });
        let name = &region.name;
        if let Gaps { missing, first: Some((address, fault)) } = gaps {
            session
                .notes
                .partial(format!("{missing} bytes of {name} cannot be read, first at {address:#x}: {fault}"));
        }
        if hits.len() > MAX_HITS {
            session.notes.partial(format!("only the first {MAX_HITS} hits in {name} are shown"));
            hits.truncate(MAX_HITS);
        }
        hits
    }
}

/// A signature as an expression, and the length of its longest match.
fn signature_expression(signature: &str) -> Option<(String, usize)> {
    let mut expression = String::new();
    let (mut len, mut fixed) = (0usize, 0usize);
    let mut rest = signature.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'*', tail) => {
                expression.push_str(&format!(".{{0,{MAX_GAP}}}?"));
                len = len.checked_add(MAX_GAP)?;
                tail
            }
            (b'?', [b'?', tail @ ..]) => {
                expression.push('.');
                len = len.checked_add(1)?;
                tail
            }
            (high, [low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                expression.push_str(&format!("\\x{:02x}", digit(high)? << 4 | digit(low)?));
                (len, fixed) = (len.checked_add(1)?, fixed + 1);
                tail
            }
            _ => return None,
        };
    }
    (fixed > 0).then_some((expression, len))
}

#[cfg(test)]
mod tests {
    use memory::FileSpace;
    use proptest::prelude::*;

    use super::*;
    use crate::session::Config;

    fn region(bytes: Vec<u8>) -> Region {
        Region { owner: None, name: "P".to_owned(), space: Arc::new(FileSpace::from_vec(bytes)) }
    }

    fn found(patterns: &Patterns, bytes: &[u8]) -> Vec<(u64, usize, usize)> {
        let session = Session::new(Config::default());
        let hits = patterns.find(&session, &region(bytes.to_vec()));
        hits.into_iter().map(|hit| (hit.address, hit.len, hit.pattern)).collect()
    }

    #[test]
    fn signatures_have_digits_and_two_wildcards() {
        let patterns = Patterns::signatures(&["4142*45".to_owned(), "42??44".to_owned()]).unwrap();
        assert_eq!(found(&patterns, b"..ABCDE.AB\nE"), [(2, 5, 0), (3, 3, 1), (8, 4, 0)]);
        for bad in ["", "4", "4x", "*", "41?", "41 42"] {
            assert!(Patterns::signatures(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_no_expressions_and_bytes_need_not_be_text() {
        let words = Patterns::words(&["a.c".to_owned()]).unwrap();
        assert_eq!(found(&words, b"abc\xffa.c"), [(4, 3, 0)]);
        let expressions = Patterns::expressions(&[r"a.c\xff".to_owned()], 8).unwrap();
        assert_eq!(found(&expressions, b"abc\xffa.c"), [(0, 4, 0)]);
        assert!(Patterns::expressions(&["a*".to_owned()], 8).is_err());
    }

    proptest! {
        #[test]
        fn words_across_pieces_are_found_where_a_plain_search_finds_them(at in 0usize..3_000_000) {
            let mut bytes = vec![0; 3_000_010];
            bytes[at..at + 6].copy_from_slice(b"needle");
            let words = Patterns::words(&["needle".to_owned()]).unwrap();
            prop_assert_eq!(found(&words, &bytes), [(at as u64, 6, 0)]);
        }
    }
}
