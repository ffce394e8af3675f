//! A repository server under load while everything around it fails, and what it must never do: lose what it acknowledged,
//! serve half of something, or die.
//!
//! - [`upstream`] is a symbol server that gives any GUID asked for, and fails on request.
//! - [`server`] runs the built `repo-server` and makes its disk full or read-only.
//! - [`load`] sends, reads and has built, and remembers what was acknowledged.
//! - [`http`] makes one request.

pub mod http;
pub mod load;
pub mod server;
pub mod upstream;

/// Random numbers that are the same for the same seed (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next one.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }
}
