//! Checks on the source tree, each naming the file and line that breaks a rule.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Most lines of a file before its tests.
const MAX_LINES: usize = 600;

/// Text that belongs to some machine, not to the project.
const FOREIGN: &[&str] = &["/work/", "/root/", "registry+https", "crates.io/api"];

/// Imports that point the wrong way inside `analyzer/src`: files below the first may not name the second.
const FORBIDDEN_EDGES: &[(&str, &str)] = &[
    ("plugins/", "crate::plugins::"),
    ("plugins/", "crate::render"),
    ("plugins/", "crate::cli"),
    ("os/", "crate::plugins"),
    ("os/", "crate::render"),
    ("os/", "crate::cli"),
    ("pe/", "crate::os"),
    ("pe/", "crate::session"),
    ("pe/", "crate::plugins"),
    ("render/", "crate::os"),
    ("render/", "crate::session"),
    ("render/", "crate::plugins"),
];

/// Runs every check and fails if any found something.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for path in sources(root)? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        check_file(&name, &text, &mut found);
    }
    for line in &found {
        #[expect(clippy::print_stdout, reason = "the findings are this program's output")]
        {
            println!("{line}");
        }
    }
    if found.is_empty() { Ok(()) } else { bail!("{} findings", found.len()) }
}

fn check_file(name: &str, text: &str, found: &mut Vec<String>) {
    if name.ends_with(".rs") {
        let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        let is_test = name.starts_with("tests/") || name.contains("/tests/") || name.ends_with("tests.rs");
        if code > MAX_LINES && !is_test {
            found.push(format!("{name}: {code} lines before its tests; split it (limit {MAX_LINES})"));
        }
        if !text.trim_start().starts_with("//!") && !is_test {
            found.push(format!("{name}: no module documentation"));
        }
        check_edges(name, text, found);
        check_ignored(name, text, found);
    }
    let checks_itself = name == "tools/xtask/src/tidy.rs";
    for (number, line) in text.lines().enumerate().filter(|_| !checks_itself) {
        if let Some(foreign) = FOREIGN.iter().find(|foreign| line.contains(**foreign)) {
            found.push(format!("{name}:{}: names {foreign:?}, which is not the project's", number + 1));
        }
    }
}

fn check_edges(name: &str, text: &str, found: &mut Vec<String>) {
    let Some(inside) = name.strip_prefix("analyzer/src/") else { return };
    // plugins/mod.rs is the table of all plugins, and its siblings' common module is no plugin.
    if inside == "plugins/mod.rs" {
        return;
    }
    for (below, import) in FORBIDDEN_EDGES.iter().filter(|(below, _)| inside.starts_with(below)) {
        for (number, line) in text.lines().enumerate() {
            if line.contains(import) && !line.trim_start().starts_with("//") {
                found.push(format!("{name}:{}: {below} may not use {import}", number + 1));
            }
        }
    }
}

fn check_ignored(name: &str, text: &str, found: &mut Vec<String>) {
    for (number, line) in text.lines().enumerate() {
        let bare = concat!("#[", "ignore]");
        if line.contains(bare) {
            found.push(format!(
                "{name}:{}: an ignored test needs a reason and a command that runs it",
                number + 1
            ));
        }
    }
}

/// Every tracked kind of text file, sorted, without build output.
fn sources(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut pending = vec![root.to_path_buf()];
    let mut files = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in
            fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?
        {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                if name != "target" && name != ".git" && name != "corpus" {
                    pending.push(path);
                }
            } else if matches!(
                path.extension().and_then(|e| e.to_str()),
                Some("rs" | "toml" | "md" | "sh" | "py")
            ) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        check_file(name, text, &mut found);
        found
    }

    #[test]
    fn wrong_edges_and_missing_docs_are_found() {
        assert_eq!(
            findings("analyzer/src/os/linux/x.rs", "//! Doc.\nuse crate::session::Session;\n"),
            Vec::<String>::new()
        );
        assert_eq!(
            findings("analyzer/src/os/linux/x.rs", "//! Doc.\nuse crate::plugins::linux::pslist;\n").len(),
            1
        );
        assert_eq!(findings("analyzer/src/render/x.rs", "//! Doc.\nuse crate::session::Session;\n").len(), 1);
        assert_eq!(findings("profile-gen/src/x.rs", "fn main() {}\n").len(), 1);
    }

    #[test]
    fn long_files_are_found_but_their_tests_do_not_count() {
        let code = format!("//! Doc.\n{}", "// line\n".repeat(700));
        assert_eq!(findings("profile-gen/src/x.rs", &code).len(), 1);
        let tests = format!("//! Doc.\n#[cfg(test)]\n{}", "// line\n".repeat(700));
        assert_eq!(findings("profile-gen/src/x.rs", &tests), Vec::<String>::new());
    }
}
