//! What `llvm-readobj` prints, as a tree.

use std::path::Path;
use std::process::Command;

/// A block `Name { ... }` or `Name [ ... ]`.
#[derive(Debug, Default)]
pub(crate) struct Block {
    name: String,
    fields: Vec<(String, String)>,
    blocks: Vec<Block>,
}

impl Block {
    /// All blocks of a name, at any depth, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&Self> {
        let mut found = Vec::new();
        for block in &self.blocks {
            if block.name == name {
                found.push(block);
            }
            found.extend(block.all(name));
        }
        found
    }

    pub(crate) fn one(&self, name: &str) -> &Self {
        self.all(name).first().unwrap_or_else(|| panic!("no block {name}"))
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.texts(key).next().unwrap_or_else(|| panic!("no {key} in {}", self.name))
    }

    pub(crate) fn texts(&self, key: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A number: decimal, hexadecimal with `0x`, or a name with its number in parentheses.
    pub(crate) fn number(&self, key: &str) -> u64 {
        let text = self.text(key);
        let text = text.split_once('(').map_or(text, |(_, number)| number.trim_end_matches(')'));
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.unwrap_or_else(|_| panic!("no number: {key}: {text}"))
    }

    /// The number behind a list of flags: `Characteristics [ (0x22)`.
    pub(crate) fn flags(&self, key: &str) -> u64 {
        let block = self.blocks.iter().find(|block| block.name == key).expect("flags");
        block.number("flags")
    }
}

/// Runs `llvm-readobj`; `None`, with a message, where it is not installed.
pub(crate) fn readobj(path: &Path) -> Option<Block> {
    let options =
        ["--file-headers", "--sections", "--coff-exports", "--coff-imports", "--coff-debug-directory"];
    let output = match Command::new("llvm-readobj").args(options).arg(path).output() {
        Ok(output) => output,
        Err(error) => {
            crate::fixture::skipped(&format!("llvm-readobj: {error}"));
            return None;
        }
    };
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    let mut open = vec![Block::default()];
    for line in String::from_utf8_lossy(&output.stdout).lines().map(str::trim) {
        let opens = line.split_once(['{', '[']).filter(|(_, rest)| rest.is_empty() || rest.starts_with(" ("));
        if let Some((name, flags)) = opens {
            let mut block = Block { name: name.trim().to_owned(), ..Block::default() };
            if !flags.is_empty() {
                block.fields.push(("flags".to_owned(), flags.trim().to_owned()));
            }
            open.push(block);
        } else if line == "}" || line == "]" {
            let closed = open.pop().expect("an open block");
            open.last_mut().expect("the root").blocks.push(closed);
        } else if let Some((key, value)) = line.split_once(':') {
            let field = (key.trim().to_owned(), value.trim().to_owned());
            open.last_mut().expect("the root").fields.push(field);
        }
    }
    open.pop()
}
