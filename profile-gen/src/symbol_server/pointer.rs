//! `file.ptr`: a store's word about where a file really is, or why it is not to be had.

use transport::{Url, plain};

/// Largest pointer file in bytes.
pub(super) const MAX_POINTER: u64 = 4096;

/// What a pointer file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pointer {
    /// The file is at this URL.
    Url(Box<Url>),
    /// The file is at this path.
    Path(String),
    /// The file is not given away, for this reason.
    Message(String),
    /// It is no pointer but a web page.
    Markup,
}

impl Pointer {
    /// Reads `PATH:<path or URL>` or `MSG:<text>`; without either word the text is a path. `None` where there is none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
        let line =
            text.lines().map(|line| line.trim_matches(['\0', ' ', '\t'])).find(|line| !line.is_empty())?;
        if let Some(message) = after(line, "MSG:") {
            return Some(Self::Message(plain(message)));
        }
        if line.starts_with('<') {
            return Some(Self::Markup);
        }
        let target = after(line, "PATH:").unwrap_or(line);
        if target.is_empty() || target.chars().any(char::is_control) {
            return None;
        }
        match Url::parse(target) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Some(Self::Url(Box::new(url))),
            _ => Some(Self::Path(target.to_owned())),
        }
    }
}

fn after<'t>(line: &'t str, word: &str) -> Option<&'t str> {
    let (head, rest) = line.split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word).then(|| rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_urls_and_messages() {
        let path = |text: &str| Some(Pointer::Path(text.to_owned()));
        assert_eq!(Pointer::parse(b"PATH:\\\\server\\share\\a.pdb\r\n"), path("\\\\server\\share\\a.pdb"));
        assert_eq!(Pointer::parse(b"path: /srv/a.pdb"), path("/srv/a.pdb"));
        assert_eq!(Pointer::parse(b"\\\\old\\form\\a.pdb"), path("\\\\old\\form\\a.pdb"));
        assert_eq!(
            Pointer::parse(b"\xef\xbb\xbfPATH:https://h/a.pdb"),
            Some(Pointer::Url(Box::new(Url::parse("https://h/a.pdb").unwrap())))
        );
        assert_eq!(Pointer::parse(b"MSG: gone\n"), Some(Pointer::Message("gone".to_owned())));
        assert_eq!(Pointer::parse(b" <!doctype html>"), Some(Pointer::Markup));
        assert_eq!(Pointer::parse(b"PATH:\n"), None);
        assert_eq!(Pointer::parse(b"\0\0"), None);
        assert_eq!(Pointer::parse(b"PATH:/a\x1b[2J"), None);
    }
}
