//! Building an index from the profiles of a directory. The result depends on the profiles only, not on the number of
//! threads.

use std::collections::{BTreeSet, HashMap};

use profile::names::ProfileName;
use profile::{Document, Kind, Profile};
use rayon::prelude::*;

use super::data::{DataIndex, Point};
use super::spec::{IndexKind, IndexSpec, SymbolData};
use super::structs::{StructIndex, layout_of};
use super::traits::{self, Symbols};
use crate::directory::{Directory, StoreError};
use crate::source;

/// An index, and what the user must know about it.
#[derive(Debug)]
pub struct BuiltIndex {
    /// The index.
    pub document: Document,
    /// Number of profiles in it.
    pub indexed: usize,
    /// Profiles of the folder that are not in it, with the reason, sorted by name.
    pub left_out: Vec<(ProfileName, String)>,
    /// Pairs of profiles of which the index cannot tell the first from the second: whatever the first has, the second
    /// has too, though their symbols differ.
    pub ambiguous: Vec<(ProfileName, ProfileName)>,
}

/// Makes the index that `spec` describes from the profiles of a repository directory. Nothing is written.
pub fn build_index(directory: &Directory, spec: &IndexSpec) -> Result<BuiltIndex, StoreError> {
    let names = directory.names_below(&spec.path)?;
    match &spec.kind {
        IndexKind::Data { base_symbol, symbols } => {
            let (made, left_out) = each(directory, names, |_, profile, _| {
                let points = points(profile, base_symbol.as_deref(), symbols)?;
                Ok((points, fingerprint(profile)))
            });
            let ambiguous = ambiguous(&made);
            let profiles = made.into_iter().map(|(name, (points, _))| (name, points)).collect();
            let index = DataIndex { base_symbol: base_symbol.clone(), profiles, rejected: 0 };
            Ok(BuiltIndex {
                document: index.to_document(),
                indexed: index.profiles.len(),
                left_out,
                ambiguous,
            })
        }
        IndexKind::Struct { class, members } => {
            let (profiles, left_out) = each(directory, names, |_, profile, _| {
                layout_of(profile, members).ok_or("it lacks one of the structs or members")
            });
            let index = StructIndex { class: class.clone(), profiles, rejected: 0 };
            let indexed = index.profiles.len();
            Ok(BuiltIndex { document: index.to_document(), indexed, left_out, ambiguous: Vec::new() })
        }
        IndexKind::Traits { class, base_symbol, min_traits } => {
            let (profiles, mut left_out) = each(directory, names, |name, profile, modified| {
                Symbols::of(name, profile, modified, base_symbol).ok_or("it lacks the base symbol")
            });
            let profiles: Vec<Symbols> = profiles.into_iter().map(|(_, symbols)| symbols).collect();
            let (index, without) = traits::pick(&profiles, class, base_symbol, *min_traits);
            let why = "other profiles have all of its symbols at the same distances";
            left_out.extend(without.into_iter().map(|name| (name, why.to_owned())));
            left_out.sort();
            let indexed = index.profiles.len();
            Ok(BuiltIndex { document: index.to_document(), indexed, left_out, ambiguous: Vec::new() })
        }
    }
}

/// What is made of each profile, in the order of the names; and the profiles of which nothing is made, with the reason.
type Made<T> = (Vec<(ProfileName, T)>, Vec<(ProfileName, String)>);

/// Reads the profiles on all cores. Symlinks, indexes and inventories are passed over in silence.
fn each<T: Send>(
    directory: &Directory,
    names: Vec<ProfileName>,
    one: impl Fn(&ProfileName, &Profile, f64) -> Result<T, &'static str> + Sync,
) -> Made<T> {
    let made: Vec<Option<Result<T, String>>> = names
        .par_iter()
        .map(|name| {
            let read = directory.get(name).and_then(|stored| {
                source::decode(&stored.bytes, directory.limits())
                    .map(|profile| (profile, stored.last_modified))
            });
            match read {
                Ok((profile, modified)) if profile.kind() == Kind::Profile => {
                    Some(one(name, &profile, modified).map_err(str::to_owned))
                }
                Ok(_) => None,
                Err(answer) => Some(Err(answer.to_string())),
            }
        })
        .collect();
    let (mut done, mut left_out) = (Vec::new(), Vec::new());
    for (name, made) in names.into_iter().zip(made) {
        match made {
            Some(Ok(made)) => done.push((name, made)),
            Some(Err(why)) => left_out.push((name, why)),
            None => {}
        }
    }
    (done, left_out)
}

fn points(
    profile: &Profile,
    base_symbol: Option<&str>,
    symbols: &[SymbolData],
) -> Result<Vec<Point>, &'static str> {
    let base = match base_symbol {
        Some(symbol) => profile.symbol(symbol).ok_or("it lacks the base symbol")?,
        None => 0,
    };
    let point = |symbol: &SymbolData| {
        let offset = profile.symbol(&symbol.name)?.wrapping_sub(base).cast_signed();
        Some(Point { offset: offset.wrapping_add(symbol.shift), data: symbol.data.clone() })
    };
    let points: Vec<Point> = symbols.iter().filter_map(point).collect();
    if points.is_empty() { Err("it has none of the symbols") } else { Ok(points) }
}

/// A hash of all symbols: equal for profiles of rebuilds that changed nothing.
fn fingerprint(profile: &Profile) -> String {
    let mut text = String::new();
    for symbol in profile.symbols() {
        text.push_str(&format!("{} {:x}\n", symbol.name, symbol.value));
    }
    source::sha256_hex(text.as_bytes())
}

/// Pairs of profiles where all points of the first are points of the second, and their symbols differ.
fn ambiguous(profiles: &[(ProfileName, (Vec<Point>, String))]) -> Vec<(ProfileName, ProfileName)> {
    let mut holders: HashMap<&Point, BTreeSet<usize>> = HashMap::new();
    for (number, (_, (points, _))) in profiles.iter().enumerate() {
        for point in points {
            holders.entry(point).or_default().insert(number);
        }
    }
    let mut pairs = Vec::new();
    for (number, (name, (points, fingerprint))) in profiles.iter().enumerate() {
        let mut sets: Vec<&BTreeSet<usize>> = points.iter().filter_map(|point| holders.get(point)).collect();
        sets.sort_by_key(|set| set.len());
        let Some((rarest, rest)) = sets.split_first() else { continue };
        for other in rarest.iter().filter(|other| **other != number) {
            let Some((other_name, (_, other_fingerprint))) = profiles.get(*other) else { continue };
            if rest.iter().all(|set| set.contains(other)) && other_fingerprint != fingerprint {
                pairs.push((name.clone(), other_name.clone()));
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    #[test]
    fn contained_point_lists_are_reported_unless_the_symbols_are_equal() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(crate::LAYOUT)).unwrap();
        let directory = Directory::new(folder.path(), Limits::default());
        let put = |name: &str, symbols: &[(&str, u64)]| {
            let constants = symbols.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
            let mut document = Document { constants, ..Document::default() };
            document.set("Type", "Profile");
            directory.put(&ProfileName::new(name).unwrap(), &document).unwrap();
        };
        put("m/a", &[("x", 5), ("z", 1)]);
        put("m/b", &[("x", 5), ("y", 9)]);
        put("m/c", &[("x", 5), ("y", 9)]);
        put("m/none", &[("z", 1)]);
        put("mm/other", &[("x", 5)]);
        directory.put(&ProfileName::new("m/link").unwrap(), &Document::symlink("m/a")).unwrap();
        let spec =
            "path: m\nsymbols:\n - {name: x, data: ['90', CC], shift: -1}\n - {name: y, data: 'str:y'}\n";
        let built = build_index(&directory, &IndexSpec::parse(spec).unwrap()).unwrap();
        let name = |text: &str| ProfileName::new(text).unwrap();
        assert_eq!(built.ambiguous, [(name("m/a"), name("m/b")), (name("m/a"), name("m/c"))]);
        assert_eq!(built.left_out, [(name("m/none"), "it has none of the symbols".to_owned())]);
        let index = &built.document.other["$INDEX"];
        assert_eq!(index["m/b"], serde_json::json!([[4, ["90", "cc"]], [9, ["79"]]]));
        assert_eq!(index.as_object().unwrap().len(), 3);
    }
}
