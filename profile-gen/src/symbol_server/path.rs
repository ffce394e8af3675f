//! Symbol paths in the syntax of `_NT_SYMBOL_PATH`.
//!
//! ```text
//! path     = element *( ";" element )
//! element  = "srv*" store *( "*" store )         left to right; what is found is copied to all stores left of it
//!          | "symsrv*" dll "*" store *( "*" store )
//!          | "cache*" directory                   in front of every element to its right
//!          | directory | URL
//! ```
//! An empty store is the default one: `srv**URL`, `cache*`; a lone `srv*` is the default store in front of Microsoft's
//! server. Truth: Microsoft's documentation of symbol paths and of `SymSrv`.

use std::path::{Path, PathBuf};

use transport::{Url, plain};

/// Microsoft's public symbol server.
pub const MICROSOFT: &str = "https://msdl.microsoft.com/download/symbols";
/// Most elements of a path, and most stores of an element.
const MAX_ELEMENTS: usize = 64;

/// What stands for the parts of a symbol path that are left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Defaults<'a> {
    /// The store that `cache*`, `srv**URL` and a lone `srv*` mean; without it they mean none.
    pub store: Option<&'a Path>,
    /// What `~/` stands for.
    pub home: Option<&'a Path>,
}

/// Where symbols are looked for, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SymbolPath {
    pub(super) chains: Vec<Vec<Place>>,
}

/// One store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A directory in the layout of symbol stores.
    Store(PathBuf),
    /// A directory that may hold files directly, too.
    Folder(PathBuf),
    /// An http(s) server.
    Server(Box<Url>),
    /// What cannot be used on this machine, and why.
    Unusable { text: String, reason: &'static str },
}

impl SymbolPath {
    /// Reads a symbol path. What cannot be used answers so when it is asked: one bad element spoils no other.
    #[must_use]
    pub fn parse(text: &str, defaults: &Defaults<'_>) -> Self {
        let default_store = || defaults.store.map(|path| Place::Store(path.to_owned()));
        let mut path = Self::default();
        let mut caches: Vec<Place> = Vec::new();
        for (index, element) in text.split(';').map(str::trim).filter(|text| !text.is_empty()).enumerate() {
            if index == MAX_ELEMENTS {
                let reason = "a symbol path has at most 64 elements";
                path.chains.push(vec![Place::Unusable { text: plain(element), reason }]);
                break;
            }
            let (kind, rest) = element.split_once('*').unwrap_or(("", element));
            let mut chain = caches.clone();
            match kind.to_ascii_lowercase().as_str() {
                "" => chain.push(place(element, defaults, Place::Folder)),
                "cache" => {
                    let named = rest.split('*').next().filter(|text| !text.is_empty());
                    let named = named.map(|text| place(text, defaults, Place::Store));
                    caches.extend(named.or_else(default_store));
                    continue;
                }
                "srv" => chain.extend(stores(rest, defaults)),
                "symsrv" => {
                    chain.extend(stores(rest.split_once('*').map_or("", |(_, rest)| rest), defaults));
                }
                _ => {
                    let reason = "unknown kind of element; known are srv*, symsrv* and cache*";
                    chain = vec![Place::Unusable { text: plain(element), reason }];
                }
            }
            path.chains.push(chain);
        }
        // A path of caches only: they may hold the file.
        if path.chains.is_empty() && !caches.is_empty() {
            path.chains.push(caches);
        }
        path
    }

    /// Microsoft's public server behind the default store.
    #[must_use]
    pub fn microsoft(defaults: &Defaults<'_>) -> Self {
        Self::parse("srv*", defaults)
    }

    /// Whether it names no store at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }
}

/// The stores of a `srv*` element.
fn stores(text: &str, defaults: &Defaults<'_>) -> Vec<Place> {
    let default_store = || defaults.store.map(|path| Place::Store(path.to_owned()));
    if text.is_empty() {
        return default_store().into_iter().chain([place(MICROSOFT, defaults, Place::Store)]).collect();
    }
    let text = text.strip_suffix('*').unwrap_or(text);
    let stores = text.split('*').take(MAX_ELEMENTS);
    stores
        .filter_map(|text| match text.trim() {
            "" => default_store(),
            text => Some(place(text, defaults, Place::Store)),
        })
        .collect()
}

fn place(text: &str, defaults: &Defaults<'_>, directory: fn(PathBuf) -> Place) -> Place {
    let unusable = |reason| Place::Unusable { text: plain(text), reason };
    if let Some((scheme, _)) = text.split_once("://") {
        return match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => match Url::parse(text) {
                Ok(url) => Place::Server(Box::new(url)),
                Err(_) => unusable("not a URL"),
            },
            _ => unusable("only http and https URLs can be asked"),
        };
    }
    if cfg!(not(windows)) {
        let bytes = text.as_bytes();
        if text.starts_with("\\\\") {
            return unusable("UNC paths need Windows; mount the share and name the mount point");
        }
        if matches!(bytes, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic()) {
            return unusable("a path of Windows, and this is another system");
        }
    }
    directory(match (text.strip_prefix("~/"), defaults.home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<Vec<Place>> {
        let defaults = Defaults { store: Some(Path::new("/default")), home: Some(Path::new("/home/me")) };
        SymbolPath::parse(text, &defaults).chains
    }

    fn store(path: &str) -> Place {
        Place::Store(path.into())
    }

    fn folder(path: &str) -> Place {
        Place::Folder(path.into())
    }

    fn server(url: &str) -> Place {
        Place::Server(Box::new(Url::parse(url).unwrap()))
    }

    #[test]
    fn the_forms_of_the_documentation() {
        assert_eq!(parse("srv*/sym*https://a/s"), [[store("/sym"), server("https://a/s")]]);
        assert_eq!(parse("SRV*https://a/s"), [[server("https://a/s")]]);
        assert_eq!(parse("srv**https://a"), [[store("/default"), server("https://a")]]);
        assert_eq!(parse("srv*"), [[store("/default"), server(MICROSOFT)]]);
        assert_eq!(parse("symsrv*symsrv.dll*/sym*https://a"), [[store("/sym"), server("https://a")]]);
        assert_eq!(
            parse("srv*/1*/2*https://a; /plain ;https://b"),
            [
                vec![store("/1"), store("/2"), server("https://a")],
                vec![folder("/plain")],
                vec![server("https://b")]
            ]
        );
        assert_eq!(
            parse("/before;cache*/c;srv*https://a;/after"),
            [
                vec![folder("/before")],
                vec![store("/c"), server("https://a")],
                vec![store("/c"), folder("/after")]
            ]
        );
        assert_eq!(parse("cache*;srv*https://a"), [[store("/default"), server("https://a")]]);
        assert_eq!(parse("cache*/c"), [[store("/c")]]);
        assert_eq!(parse("srv*~/sym*https://a"), [[store("/home/me/sym"), server("https://a")]]);
        assert_eq!(parse(";; ;"), Vec::<Vec<Place>>::new());
    }

    #[test]
    fn what_cannot_be_used_says_so_and_spoils_nothing() {
        let chains = parse("ftp://a;what*/x;srv*http://;srv*/ok*https://a");
        for chain in chains.iter().take(3) {
            assert!(matches!(chain.as_slice(), [Place::Unusable { .. }]), "{chain:?}");
        }
        assert_eq!(chains[3], [store("/ok"), server("https://a")]);
        assert_eq!(parse(&"/a;".repeat(1000)).len(), MAX_ELEMENTS + 1);
    }

    #[cfg(not(windows))]
    #[test]
    fn paths_of_windows_are_not_taken_for_files_of_the_current_directory() {
        for text in ["\\\\server\\share", "C:\\symbols", "srv*c:/symbols"] {
            assert!(matches!(&parse(text)[0][0], Place::Unusable { .. }), "{text}");
        }
    }
}
