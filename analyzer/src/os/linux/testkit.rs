//! Memory and profiles for the unit tests of this folder: what is written is there, every other page is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use memory::{FileSpace, Overlap, Run, RunSpace};
use object::{DataModel, Target, Types};
use profile::Profile;

use crate::notes::{Note, Notes};

const PAGE: u64 = 4096;

/// Sparse memory under construction.
#[derive(Default)]
pub(super) struct Memory(BTreeMap<u64, Vec<u8>>);

impl Memory {
    /// Bytes at an address.
    pub(super) fn bytes(&mut self, addr: u64, bytes: &[u8]) -> &mut Self {
        for (addr, &byte) in (addr..).zip(bytes) {
            let page = self.0.entry(addr / PAGE).or_insert_with(|| vec![0; 4096]);
            page[usize::try_from(addr % PAGE).expect("offset in a page")] = byte;
        }
        self
    }

    /// A 64-bit word at an address.
    pub(super) fn word(&mut self, addr: u64, value: u64) -> &mut Self {
        self.bytes(addr, &value.to_le_bytes())
    }

    /// A 32-bit word at an address.
    pub(super) fn half(&mut self, addr: u64, value: u32) -> &mut Self {
        self.bytes(addr, &value.to_le_bytes())
    }

    /// Words that follow each other.
    pub(super) fn words(&mut self, addr: u64, values: &[u64]) -> &mut Self {
        for (index, &value) in values.iter().enumerate() {
            self.word(addr + 8 * index as u64, value);
        }
        self
    }

    /// The memory under a 64-bit profile of these structs (the JSON of `$STRUCTS`) and symbols.
    pub(super) fn target(&self, structs: &str, symbols: &[(&str, u64)]) -> Target {
        let symbols: Vec<String> = symbols.iter().map(|(name, value)| format!("{name:?}: {value}")).collect();
        let text = format!(
            r#"{{"$METADATA": {{"arch": "AMD64"}}, "$STRUCTS": {structs}, "$CONSTANTS": {{{}}}}}"#,
            symbols.join(", ")
        );
        let profile = Profile::parse_text(text).expect("a test profile is well formed");
        let types = Types::new(Arc::new(profile), DataModel::Lp64, &[]);
        let file: Vec<u8> = self.0.values().flatten().copied().collect();
        let runs = self.0.keys().zip(0u64..).map(|(page, at)| Run {
            start: page * PAGE,
            len: PAGE,
            target: at * PAGE,
        });
        let space =
            RunSpace::new("test", Arc::new(FileSpace::from_vec(file)), runs.collect(), Overlap::FirstWins);
        Target::new(Arc::new(types), Arc::new(space), 0, u64::MAX)
    }
}

/// Text of the notes so far, emptying them.
pub(super) fn texts(notes: &Notes) -> Vec<String> {
    notes.take().into_iter().map(|Note { text, .. }| text).collect()
}
