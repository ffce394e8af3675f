//! Memory and profiles for the unit tests of this crate.

use std::sync::Arc;

use memory::{FileSpace, Overlap, Run, RunSpace};
use profile::Profile;

use crate::{DataModel, Overlay, Target, Types};

/// A profile of the given `$STRUCTS` and `$CONSTANTS`, both JSON objects.
pub(crate) fn types(structs: &str, constants: &str, overlay: Overlay) -> Arc<Types> {
    let text =
        format!(r#"{{"$METADATA": {{"arch": "AMD64"}}, "$STRUCTS": {structs}, "$CONSTANTS": {constants}}}"#);
    let profile = Profile::parse_text(text).expect("a test profile is well formed");
    Arc::new(Types::new(Arc::new(profile), DataModel::Lp64, overlay))
}

/// Memory that holds the words at their addresses; every page without a word is missing.
pub(crate) fn target(types: Arc<Types>, words: &[(u64, u64)]) -> Target {
    const PAGE: u64 = 4096;
    let end = words.iter().map(|(addr, _)| addr / PAGE * PAGE + PAGE).max().unwrap_or(PAGE);
    let mut bytes = vec![0u8; usize::try_from(end).expect("test memory is small")];
    let mut pages: Vec<u64> = Vec::new();
    for &(addr, word) in words {
        let at = usize::try_from(addr).expect("test memory is small");
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        pages.push(addr / PAGE * PAGE);
    }
    pages.sort_unstable();
    pages.dedup();
    let runs = pages.into_iter().map(|page| Run { start: page, len: PAGE, target: page }).collect();
    let space = RunSpace::new("test", Arc::new(FileSpace::from_vec(bytes)), runs, Overlap::FirstWins);
    Target::new(types, Arc::new(space), 0, u64::MAX)
}
