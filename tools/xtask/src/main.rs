//! Repository chores. `cargo xtask tidy` checks the rules of ARCHITECTURE.md that the compiler cannot.

mod tidy;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

fn main() -> anyhow::Result<()> {
    let root = workspace_root()?;
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy::run(&root),
        other => bail!("unknown task {:?}; tasks: tidy", other.unwrap_or_default()),
    }
}

fn workspace_root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(Path::to_path_buf).context("the workspace root is two levels up")
}
