//! YARA rules over memory, by the library `yara-x`.
//!
//! A rule is decided for each block: memory whose pages follow each other, with small holes as zeros, in pieces of 16 MiB. Pieces
//! overlap by 1 MiB, so only what a rule wants further apart than that can be missed.

use std::path::PathBuf;

use super::search::Region;
use crate::error::Error;
use crate::session::Session;

/// Which rules, for commands to flatten into theirs.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RuleArgs {
    /// Text to look for, as it is
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["binary_string", "yara_file", "yara_expression"])]
    pub string: Vec<String>,
    /// Bytes to look for: what stands between the braces of a YARA string, such as 4d 5a ?? 00
    #[arg(long, value_name = "HEX")]
    pub binary_string: Vec<String>,
    /// File with rules
    #[arg(long, value_name = "FILE")]
    pub yara_file: Vec<PathBuf>,
    /// Rules as text
    #[arg(long, value_name = "RULES")]
    pub yara_expression: Vec<String>,
    /// Most hits that are shown
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub hits: usize,
    /// Bytes shown from a hit on
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub context: u16,
    /// Bytes shown before a hit
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub pre_context: u16,
}

/// A place where a rule matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Its address; the start of the block for a rule without strings.
    pub address: u64,
    /// Name of the rule.
    pub rule: String,
    /// Name of the string; empty for a rule without strings.
    pub pattern: String,
    /// Bytes that match.
    pub len: usize,
}

impl RuleArgs {
    /// Hits in the regions, at most as many as wanted: calls `visit` with each.
    pub fn each_hit(
        &self,
        session: &Session,
        regions: &[Region],
        mut visit: impl FnMut(&Region, &Hit) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let rules = engine::Rules::new(&self.sources()?)?;
        let mut left = self.hits;
        for region in regions {
            let found = rules.find(session, region, left);
            for hit in found.iter().take(left) {
                visit(region, hit)?;
            }
            let more = found.len() > left;
            left = left.saturating_sub(found.len());
            if more || left == 0 {
                let shown = self.hits;
                session.notes.info(format!("only the first {shown} hits are shown, --hits asks for more"));
                break;
            }
        }
        Ok(())
    }

    /// All rules as text.
    fn sources(&self) -> Result<Vec<String>, Error> {
        let mut sources = Vec::new();
        for (number, text) in self.string.iter().enumerate() {
            let escaped: String = text.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
            sources.push(format!("rule string_{number} {{ strings: $a = \"{escaped}\" condition: $a }}"));
        }
        for (number, text) in self.binary_string.iter().enumerate() {
            let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
            if !inner.chars().all(|c| c.is_ascii_hexdigit() || " ?~[]-()|".contains(c)) {
                return Err(Error::usage(format!("not bytes of a YARA string: {text}")));
            }
            sources
                .push(format!("rule binary_string_{number} {{ strings: $a = {{ {inner} }} condition: $a }}"));
        }
        for file in &self.yara_file {
            let shown = file.display();
            let text = std::fs::read(file)
                .map_err(|error| Error::usage(format!("cannot read rules: {shown}: {error}")))?;
            let text =
                String::from_utf8(text).map_err(|_| Error::usage(format!("rules are not UTF-8: {shown}")))?;
            sources.push(text);
        }
        sources.extend(self.yara_expression.iter().cloned());
        Ok(sources)
    }
}

/// The library.
#[cfg(feature = "yara")]
mod engine {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use memory::AddressSpace;
    use rayon::prelude::*;
    use yara_x::{Compiler, Scanner};

    use super::{Error, Hit, Region, Session};

    /// Bytes of a block, and those that the next one has too.
    const BLOCK: u64 = 16 << 20;
    const OVERLAP: u64 = 1 << 20;
    /// Holes up to this size do not end a block.
    const MAX_HOLE: u64 = 64 << 10;
    /// Longest time for one block.
    const TIMEOUT: Duration = Duration::from_secs(60);

    /// Rules, compiled.
    pub(super) struct Rules(yara_x::Rules);

    impl Rules {
        /// Compiles rules. They cannot include files.
        pub(super) fn new(sources: &[String]) -> Result<Self, Error> {
            let mut compiler = Compiler::new();
            compiler.enable_includes(false);
            for source in sources {
                let bad = |error: yara_x::errors::CompileError| Error::usage(format!("bad rules: {error}"));
                compiler.add_source(source.as_str()).map_err(bad)?;
            }
            Ok(Self(compiler.build()))
        }

        /// Places in a region, ascending by address; about `most` of each string of a block. What could not be scanned is noted.
        pub(super) fn find(&self, session: &Session, region: &Region, most: usize) -> Vec<Hit> {
            let space = &*region.space;
            let scanned: Vec<(Vec<Hit>, Option<String>)> = blocks(space)
                .into_par_iter()
                .map_init(
                    || {
                        let mut scanner = Scanner::new(&self.0);
                        scanner.set_timeout(TIMEOUT).max_matches_per_pattern(most.saturating_add(1));
                        (scanner, Vec::new())
                    },
                    |(scanner, buffer), (start, len)| {
                        buffer.resize(usize::try_from(len).unwrap_or(0), 0);
                        space.read_padded(start, buffer);
                        match scanner.scan(buffer) {
                            Ok(results) => (hits(&results, start), None),
                            Err(error) => {
                                (Vec::new(), Some(format!("block at {start:#x} of {}: {error}", region.name)))
                            }
                        }
                    },
                )
                .collect();
            let mut found = BTreeSet::new();
            for (hits, failure) in scanned {
                found.extend(hits);
                if let Some(failure) = failure {
                    session.notes.partial(failure);
                }
            }
            found.into_iter().collect()
        }
    }

    fn hits(results: &yara_x::ScanResults<'_, '_>, start: u64) -> Vec<Hit> {
        let mut hits = Vec::new();
        for rule in results.matching_rules() {
            let before = hits.len();
            for pattern in rule.patterns() {
                hits.extend(pattern.matches().map(|hit| Hit {
                    address: start.wrapping_add(hit.range().start as u64),
                    rule: rule.identifier().to_owned(),
                    pattern: pattern.identifier().to_owned(),
                    len: hit.range().len(),
                }));
            }
            if hits.len() == before {
                let rule = rule.identifier().to_owned();
                hits.push(Hit { address: start, rule, pattern: String::new(), len: 0 });
            }
        }
        hits
    }

    /// Blocks of memory: where they begin, and their length.
    fn blocks(space: &dyn AddressSpace) -> Vec<(u64, u64)> {
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for run in space.runs(0, u64::MAX) {
            let end = run.start.saturating_add(run.len);
            match spans.last_mut() {
                Some((_, last)) if run.start.saturating_sub(*last) <= MAX_HOLE => *last = end,
                _ => spans.push((run.start, end)),
            }
        }
        let mut blocks = Vec::new();
        for (start, end) in spans {
            let mut at = start;
            while at < end {
                blocks.push((at, end.saturating_sub(at).min(BLOCK + OVERLAP)));
                at = at.saturating_add(BLOCK);
            }
        }
        blocks
    }
}

/// Without the library.
#[cfg(not(feature = "yara"))]
mod engine {
    use super::{Error, Hit, Region, Session};

    /// Nothing.
    pub(super) struct Rules;

    impl Rules {
        /// Tells how to get a program that has the library.
        pub(super) fn new(_sources: &[String]) -> Result<Self, Error> {
            let error = Error::usage("this program was built without YARA");
            Err(error.with_hint("build it with: cargo build --release --bin rekal --features analyzer/yara"))
        }

        /// Nothing is found.
        pub(super) fn find(&self, _session: &Session, _region: &Region, _most: usize) -> Vec<Hit> {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use memory::{FileSpace, Overlap, Run, RunSpace};

    use super::*;
    use crate::session::Config;

    fn found(args: &RuleArgs, region: Region) -> Vec<(u64, String, String)> {
        let session = Session::new(Config::default());
        let mut hits = Vec::new();
        let run = args.each_hit(&session, &[region], |_, hit| {
            hits.push((hit.address, hit.rule.clone(), hit.pattern.clone()));
            Ok(())
        });
        match run {
            Ok(()) => hits,
            Err(error) => vec![(0, error.to_string(), String::new())],
        }
    }

    fn region() -> Region {
        // A word across two pages that are neighbours by address only, and bytes behind a hole.
        let mut bytes = vec![0; 0x3000];
        bytes[0xffd..0x1003].copy_from_slice(b"needle");
        bytes[0x2800..0x2803].copy_from_slice(b"A\0C");
        let runs = [(0x1000, 0), (0x2000, 0x1000), (0x9000, 0x2000)].map(|(start, target)| Run {
            start,
            len: 0x1000,
            target,
        });
        let space =
            RunSpace::new("test", Arc::new(FileSpace::from_vec(bytes)), runs.to_vec(), Overlap::FirstWins);
        Region { owner: None, name: "P".to_owned(), space: Arc::new(space) }
    }

    #[test]
    fn rules_match_across_pages_and_small_holes() {
        let rule = r#"rule both { strings: $n = "needle" $h = { 41 ?? 43 } condition: all of them }"#;
        let args = RuleArgs { yara_expression: vec![rule.to_owned()], hits: 10, ..RuleArgs::default() };
        let hits = found(&args, region());
        let expected = [(0x1ffd, "both", "$n"), (0x9800, "both", "$h")]
            .map(|(at, rule, pattern)| (at, rule.to_owned(), pattern.to_owned()));
        match cfg!(feature = "yara") {
            true => assert_eq!(hits, expected),
            false => assert!(hits[0].1.contains("without YARA"), "{hits:?}"),
        }
    }

    #[test]
    fn texts_and_bytes_become_rules_and_cannot_escape_them() {
        let args = RuleArgs { binary_string: vec!["41 } condition: true".to_owned()], ..RuleArgs::default() };
        assert!(args.sources().is_err());
        let args = RuleArgs { string: vec!["\" or true".to_owned()], ..RuleArgs::default() };
        assert_eq!(
            args.sources().unwrap(),
            [r#"rule string_0 { strings: $a = "\x22\x20\x6f\x72\x20\x74\x72\x75\x65" condition: $a }"#]
        );
    }
}
