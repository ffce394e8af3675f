//! Indexes of traits: symbols whose distance from a base symbol only one profile has.

use std::collections::{BTreeMap, HashMap, HashSet};

use profile::names::ProfileName;
use profile::{Document, Profile};
use serde_json::{Map, Value, json};

use super::{IndexError, decode};

/// Symbols of one profile that are considered as traits: those whose names have the smallest hashes, so that profiles
/// with the same symbols are compared by the same ones. Bounds memory by the number of profiles.
const SAMPLE: usize = 8192;
/// Pairs tried per profile where single symbols do not suffice.
const MAX_PAIRS: usize = 1 << 20;

/// An index of traits.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TraitIndex {
    /// Class recorded for the index: `LinuxSymbolOffsetIndex`.
    pub class: String,
    /// The symbol that distances count from.
    pub base_symbol: String,
    /// The traits of each profile, sorted by name: each a list of symbols that all have to be where it says.
    pub profiles: Vec<(ProfileName, Vec<Trait>)>,
    /// All profiles that were looked at, duplicates included, with the time of their last change.
    pub known: BTreeMap<ProfileName, f64>,
    /// The first profile of each set of symbols, by the hash of the set.
    pub hashes: BTreeMap<String, ProfileName>,
    /// Entries left out because they are damaged.
    pub rejected: usize,
}

/// Symbols and their distances from the base symbol.
pub type Trait = Vec<(String, i64)>;

/// How many traits of a profile hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraitMatch {
    /// The profile.
    pub profile: ProfileName,
    /// Traits that hold.
    pub held: usize,
    /// Traits it has.
    pub of: usize,
}

impl TraitIndex {
    /// Reads an index.
    pub fn read(profile: &Profile) -> Result<Self, IndexError> {
        let other = || IndexError::OtherDocument("an index of traits");
        let mut index: Map<String, Value> = profile.section("$INDEX")?.ok_or_else(other)?;
        let mut part = |name: &str| match index.remove(name) {
            Some(Value::Object(map)) => Some(map),
            _ => None,
        };
        let list = |value: &Value| value.as_array()?.iter().map(one_trait).collect::<Option<Vec<Trait>>>();
        let (profiles, rejected) = decode(&part("$TRAITS").ok_or_else(other)?, list);
        let modified = |value: &Value| value.get("LastModified").map_or(Some(0.0), Value::as_f64);
        let (known, more) = decode(&part("$PROFILES").unwrap_or_default(), modified);
        let hashes = part("$HASHES").unwrap_or_default().into_iter();
        let hashes = hashes.filter_map(|(hash, name)| Some((hash, ProfileName::new(name.as_str()?).ok()?)));
        Ok(Self {
            class: profile.metadata_str("ProfileClass").unwrap_or_default().to_owned(),
            base_symbol: profile.metadata_str("BaseSymbol").unwrap_or_default().to_owned(),
            profiles,
            known: known.into_iter().collect(),
            hashes: hashes.collect(),
            rejected: rejected.saturating_add(more),
        })
    }

    /// The profiles of which at least one trait holds, the best first: a kernel is recognised when there is exactly
    /// one. `symbols` are those of the image with their addresses; a name may stand several times.
    #[must_use]
    pub fn matches<'s>(&self, symbols: impl IntoIterator<Item = (&'s str, u64)>) -> Vec<TraitMatch> {
        let symbols: HashMap<&str, Vec<u64>> =
            symbols.into_iter().fold(HashMap::new(), |mut map, (name, at)| {
                map.entry(name).or_insert_with(Vec::new).push(at);
                map
            });
        let Some(base) = symbols.get(self.base_symbol.as_str()).and_then(|at| at.first()) else {
            return Vec::new();
        };
        let is_there = |(name, offset): &(String, i64)| {
            let wanted = base.wrapping_add(offset.cast_unsigned());
            symbols.get(name.as_str()).is_some_and(|at| at.contains(&wanted))
        };
        let mut found: Vec<TraitMatch> = self
            .profiles
            .iter()
            .map(|(profile, traits)| {
                let held =
                    traits.iter().filter(|parts| !parts.is_empty() && parts.iter().all(is_there)).count();
                TraitMatch { profile: profile.clone(), held, of: traits.len() }
            })
            .filter(|found| found.held > 0)
            .collect();
        found.sort_by(|a, b| b.held.cmp(&a.held).then(a.profile.cmp(&b.profile)));
        found
    }

    /// The index as a document of a repository.
    #[must_use]
    pub fn to_document(&self) -> Document {
        let mut document = Document::default();
        document.set("Type", "Index");
        document.set("ProfileClass", self.class.as_str());
        document.set("BaseSymbol", self.base_symbol.as_str());
        let name = |name: &ProfileName| name.as_str().to_owned();
        let traits = self.profiles.iter().map(|(profile, traits)| (name(profile), json!(traits)));
        let known = self.known.iter().map(|(profile, at)| (name(profile), json!({"LastModified": at})));
        let index = json!({
            "$TRAITS": traits.collect::<Map<_, _>>(),
            "$PROFILES": known.collect::<Map<_, _>>(),
            "$HASHES": self.hashes.iter().map(|(hash, of)| (hash.clone(), json!(of.as_str()))).collect::<Map<_, _>>(),
        });
        document.other.insert("$INDEX".to_owned(), index);
        document
    }
}

fn one_trait(value: &Value) -> Option<Trait> {
    let part = |value: &Value| match value.as_array()?.as_slice() {
        [name, offset] => Some((name.as_str()?.to_owned(), offset.as_i64()?)),
        _ => None,
    };
    value.as_array()?.iter().map(part).collect()
}

/// What building needs of one profile.
pub(super) struct Symbols {
    pub(super) name: ProfileName,
    pub(super) last_modified: f64,
    /// Hash of all symbols and their distances.
    pub(super) hash: String,
    /// The sample: sorted by the hash of the name, then the name.
    sample: Vec<(String, i64)>,
}

impl Symbols {
    /// `None` where the profile lacks the base symbol.
    pub(super) fn of(
        name: &ProfileName,
        profile: &Profile,
        last_modified: f64,
        base_symbol: &str,
    ) -> Option<Self> {
        let base = profile.symbol(base_symbol)?;
        // Clones made by the compiler have a dot in their name and move around; `__irf_end` is a linker's mark.
        let symbols =
            profile.symbols().filter(|symbol| !symbol.name.contains('.') && symbol.name != "__irf_end");
        let mut all: Vec<(&str, i64)> =
            symbols.map(|symbol| (symbol.name, symbol.value.wrapping_sub(base).cast_signed())).collect();
        all.sort_unstable();
        let text: Vec<String> = all.iter().map(|(name, offset)| format!("({name}, {offset})")).collect();
        let hash = crate::source::sha256_hex(text.join("|").as_bytes());
        let mut sample: Vec<(u64, &str, i64)> =
            all.into_iter().map(|(name, at)| (mix(name), name, at)).collect();
        sample.sort_unstable();
        sample.truncate(SAMPLE);
        let sample = sample.into_iter().map(|(_, name, at)| (name.to_owned(), at)).collect();
        Some(Self { name: name.clone(), last_modified, hash, sample })
    }
}

/// A hash of a name that is the same on every machine (FNV-1a).
fn mix(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Picks traits for each of `profiles`, which are sorted by name; also returns profiles that have none.
pub(super) fn pick(
    profiles: &[Symbols],
    class: &str,
    base_symbol: &str,
    min_traits: usize,
) -> (TraitIndex, Vec<ProfileName>) {
    let mut index =
        TraitIndex { class: class.to_owned(), base_symbol: base_symbol.to_owned(), ..TraitIndex::default() };
    let mut distinct: Vec<&Symbols> = Vec::new();
    for profile in profiles {
        index.known.insert(profile.name.clone(), profile.last_modified);
        if !index.hashes.contains_key(&profile.hash) {
            index.hashes.insert(profile.hash.clone(), profile.name.clone());
            distinct.push(profile);
        }
    }
    // Which profiles have a symbol at a distance.
    let mut holders: HashMap<(&str, i64), Vec<usize>> = HashMap::new();
    for (number, profile) in distinct.iter().enumerate() {
        for (name, at) in &profile.sample {
            holders.entry((name, *at)).or_default().push(number);
        }
    }
    let mut without = Vec::new();
    for profile in &distinct {
        let shared = |(name, at): &&(String, i64)| holders.get(&(name.as_str(), *at)).map_or(0, Vec::len);
        let alone = profile.sample.iter().filter(|part| shared(part) == 1).take(min_traits);
        let mut traits: Vec<Trait> = alone.map(|part| vec![part.clone()]).collect();
        if traits.len() < min_traits {
            pairs(profile, &holders, min_traits, &mut traits);
        }
        if traits.is_empty() {
            without.push(profile.name.clone());
        } else {
            index.profiles.push((profile.name.clone(), traits));
        }
    }
    (index, without)
}

/// Adds pairs of symbols that no other profile has both of.
fn pairs<'p: 'h, 'h>(
    profile: &'p Symbols,
    holders: &'h HashMap<(&'p str, i64), Vec<usize>>,
    min_traits: usize,
    traits: &mut Vec<Trait>,
) {
    let of = |part: &'p (String, i64)| -> &'h [usize] {
        holders.get(&(part.0.as_str(), part.1)).map_or(&[], Vec::as_slice)
    };
    let mut parts: Vec<&(String, i64)> = profile.sample.iter().filter(|part| of(part).len() > 1).collect();
    // The rarest symbols make the best pairs; the order among equals is that of the sample.
    parts.sort_by_key(|part| of(part).len());
    let mut tried = 0;
    for (number, first) in parts.iter().enumerate() {
        let others: HashSet<usize> = of(first).iter().copied().collect();
        for second in parts.iter().skip(number + 1) {
            tried += 1;
            if traits.len() >= min_traits || tried > MAX_PAIRS {
                return;
            }
            // Only this profile holds both.
            if of(second).iter().filter(|holder| others.contains(holder)).count() == 1 {
                traits.push(vec![(*first).clone(), (*second).clone()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(name: &str, symbols: &[(&str, u64)]) -> Symbols {
        let constants: Map<String, Value> =
            symbols.iter().map(|(name, at)| ((*name).to_owned(), json!(at))).collect();
        let profile = Profile::parse_text(json!({"$CONSTANTS": constants}).to_string()).unwrap();
        Symbols::of(&ProfileName::new(name).unwrap(), &profile, 7.0, "base").unwrap()
    }

    fn names(matches: &[TraitMatch]) -> Vec<&str> {
        matches.iter().map(|found| found.profile.as_str()).collect()
    }

    #[test]
    fn each_profile_is_recognised_by_its_own_symbols_and_by_no_others() {
        let kernels: [&[(&str, u64)]; 4] = [
            &[("base", 100), ("a", 101), ("b", 102), ("c.isra.0", 7)],
            &[("base", 200), ("a", 201), ("b", 203)],
            // Tells itself apart by a pair only: `a` is that of the first two, `b` that of the last.
            &[("base", 300), ("a", 301), ("b", 309)],
            &[("base", 400), ("a", 405), ("b", 409)],
        ];
        let profiles: Vec<Symbols> =
            kernels.iter().enumerate().map(|(n, list)| symbols(&format!("Linux/{n}"), list)).collect();
        let (index, without) = pick(&profiles, "LinuxSymbolOffsetIndex", "base", 6);
        assert_eq!(without, []);
        assert_eq!(index.profiles[2].1, [[("b".to_owned(), 9), ("a".to_owned(), 1)]]);
        let text = index.to_document().to_canonical_json();
        let again = TraitIndex::read(&Profile::parse_text(text).unwrap()).unwrap();
        assert_eq!(again, index);
        for (n, kernel) in kernels.iter().enumerate() {
            // In memory everything is shifted.
            let image = kernel.iter().map(|(name, at)| (*name, at.wrapping_add(0xffff_ffff_8100_0000)));
            assert_eq!(names(&again.matches(image)), [format!("Linux/{n}")]);
        }
        assert_eq!(again.matches([("a", 1)]), [], "no base symbol");
    }

    #[test]
    fn equal_profiles_are_one_and_contained_ones_have_no_traits() {
        let list = [("base", 1), ("a", 2)];
        let profiles = [
            symbols("L/a", &list),
            symbols("L/b", &list),
            symbols("L/c", &[("base", 1), ("a", 2), ("b", 3)]),
        ];
        let (index, without) = pick(&profiles, "x", "base", 2);
        assert_eq!(index.known.len(), 3);
        assert_eq!(index.hashes.len(), 2);
        assert_eq!(names(&index.matches([("base", 11), ("a", 12), ("b", 13)])), ["L/c"]);
        assert_eq!(without, [ProfileName::new("L/a").unwrap()]);
    }
}
