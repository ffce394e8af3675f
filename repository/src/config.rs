//! What a search path is made of, and the bounds on what repositories may make us do.

use std::path::PathBuf;
use std::time::Duration;

/// The repositories to search and how.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Directories, zip archives and http(s) URLs, in order of search. One that ends in `#minisign=KEY` gives only
    /// documents that are signed by this public key (base64, `RW...`).
    pub entries: Vec<String>,
    /// Where fetched profiles are kept, and where [`SearchPath::store`](crate::SearchPath::store) writes when no
    /// entry is a writable directory. Created when first needed; absent means nothing is kept.
    pub cache_dir: Option<PathBuf>,
    /// The entries are only read: what is stored goes to the cache directory.
    pub read_only: bool,
    /// Use only what is on this machine: URLs are answered from the cache and no socket is opened.
    pub offline: bool,
    /// Bounds on sizes, counts and times.
    pub limits: Limits,
}

/// Bounds on what a repository may cost. Every repository is untrusted.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest profile as JSON text, in bytes after decompression.
    pub max_text: usize,
    /// Largest HTTP body in bytes as transferred (the original's bound for any object).
    pub max_body: usize,
    /// Largest inventory as JSON text, in bytes after decompression.
    pub max_inventory: usize,
    /// Most files and directories looked at when a tree is listed, and most members of an archive.
    pub max_tree: usize,
    /// Most profiles opened to learn what an inventory does not tell.
    pub max_reads: usize,
    /// Longest chain of symlink documents.
    pub max_symlinks: usize,
    /// Longest chain of HTTP redirects.
    pub max_redirects: usize,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest silence of a server while it answers.
    pub read_timeout: Duration,
    /// Longest time for one HTTP exchange as a whole.
    pub total_timeout: Duration,
    /// Longest wait for a server that makes a missing profile.
    pub build_timeout: Duration,
    /// How often a document is asked for whose transfer breaks off or whose server is busy.
    pub attempts: u32,
}

impl Default for Limits {
    /// 256 MiB of text, 100 MB bodies, 32 MiB inventories, 200,000 files, 8 symlinks, 5 redirects, 10 s, 2 attempts.
    fn default() -> Self {
        Self {
            max_text: 256 << 20,
            max_body: 100_000_000,
            max_inventory: 32 << 20,
            max_tree: 200_000,
            max_reads: 512,
            max_symlinks: 8,
            max_redirects: 5,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(300),
            build_timeout: Duration::from_secs(180),
            attempts: 2,
        }
    }
}

impl Limits {
    /// The bounds on one profile document.
    #[must_use]
    pub fn profile(&self) -> profile::Limits {
        profile::Limits { max_text: self.max_text }
    }
}
