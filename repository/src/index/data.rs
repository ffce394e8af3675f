//! Indexes of data: bytes at offsets of a module that tell its builds apart.

use profile::names::ProfileName;
use profile::{Document, Profile};
use serde_json::{Value, json};

use super::{IndexError, decode, entries};

/// Longest byte string of a point.
const MAX_DATA: usize = 4096;

/// An index of data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataIndex {
    /// The symbol that offsets count from; without one they count from the module's base.
    pub base_symbol: Option<String>,
    /// The points of each profile, sorted by name.
    pub profiles: Vec<(ProfileName, Vec<Point>)>,
    /// Entries left out because they are damaged.
    pub rejected: usize,
}

/// A place in a module and what may stand there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Point {
    /// Distance from the base in bytes; negative before it.
    pub offset: i64,
    /// Byte strings of which one stands there.
    pub data: Vec<Vec<u8>>,
}

/// How well a profile fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataMatch {
    /// The profile.
    pub profile: ProfileName,
    /// Points whose data stands there.
    pub matched: usize,
    /// Points where something else stands.
    pub unmatched: usize,
    /// Points that cannot be read; they count for nothing.
    pub unreadable: usize,
}

impl DataMatch {
    /// The part of the readable points that match, from 0 to 1.
    #[must_use]
    pub fn score(&self) -> f64 {
        let readable = self.matched.saturating_add(self.unmatched);
        #[expect(clippy::cast_precision_loss, reason = "numbers of points are small")]
        if readable == 0 { 0.0 } else { self.matched as f64 / readable as f64 }
    }

    /// Whether nothing speaks against it.
    #[must_use]
    pub fn is_perfect(&self) -> bool {
        self.matched > 0 && self.unmatched == 0
    }
}

impl DataIndex {
    /// Reads an index, in either form of its points: a list of alternatives, or, in old files, a single one.
    pub fn read(profile: &Profile) -> Result<Self, IndexError> {
        let entries = entries(profile, "an index of data")?;
        if entries.keys().any(|key| key.starts_with('$')) {
            return Err(IndexError::OtherDocument("an index of data"));
        }
        let points = |value: &Value| value.as_array()?.iter().map(point).collect::<Option<Vec<Point>>>();
        let (profiles, rejected) = decode(&entries, points);
        let base_symbol = profile.metadata_str("BaseSymbol").map(str::to_owned);
        Ok(Self { base_symbol, profiles, rejected })
    }

    /// The profiles that match at `minimal` points or more, best first. `read` fills a buffer from a distance to the
    /// base and says whether it could.
    pub fn matches(&self, minimal: usize, mut read: impl FnMut(i64, &mut [u8]) -> bool) -> Vec<DataMatch> {
        let mut found = Vec::new();
        for (profile, points) in &self.profiles {
            let (mut matched, mut unmatched, mut unreadable) = (0, 0, 0);
            for point in points {
                match point.holds(&mut read) {
                    Some(true) => matched += 1,
                    Some(false) => unmatched += 1,
                    None => unreadable += 1,
                }
            }
            if matched >= minimal.max(1) {
                found.push(DataMatch { profile: profile.clone(), matched, unmatched, unreadable });
            }
        }
        // By score, then by evidence: m/(m+u) > n/(n+v) where m*v > n*u.
        found.sort_by(|a, b| {
            let (left, right) =
                (a.matched.saturating_mul(b.unmatched), b.matched.saturating_mul(a.unmatched));
            right.cmp(&left).then(b.matched.cmp(&a.matched)).then(a.profile.cmp(&b.profile))
        });
        found
    }

    /// The index as a document of a repository.
    #[must_use]
    pub fn to_document(&self) -> Document {
        let mut document = Document::default();
        document.set("Type", "Profile");
        document.set("ProfileClass", "Index");
        document.set("BaseSymbol", self.base_symbol.clone());
        let offsets = || self.profiles.iter().flat_map(|(_, points)| points).map(|point| point.offset);
        document.set("MinOffset", offsets().min());
        document.set("MaxOffset", offsets().max().map(|offset| offset.saturating_add(1)));
        let entry = |(name, points): &(ProfileName, Vec<Point>)| {
            let points = points.iter().map(|point| {
                let data: Vec<String> = point.data.iter().map(|bytes| to_hex(bytes)).collect();
                json!([point.offset, data])
            });
            (name.as_str().to_owned(), Value::from(points.collect::<Vec<_>>()))
        };
        let index = self.profiles.iter().map(entry).collect::<serde_json::Map<_, _>>();
        document.other.insert("$INDEX".to_owned(), index.into());
        document
    }
}

impl Point {
    /// Whether one of the alternatives stands there; `None` where it cannot be read.
    fn holds(&self, read: &mut impl FnMut(i64, &mut [u8]) -> bool) -> Option<bool> {
        let mut readable = false;
        for data in &self.data {
            let mut bytes = vec![0; data.len()];
            if read(self.offset, &mut bytes) {
                readable = true;
                if bytes == *data {
                    return Some(true);
                }
            }
        }
        readable.then_some(false)
    }
}

fn point(value: &Value) -> Option<Point> {
    let [offset, data] = value.as_array()?.as_slice() else { return None };
    let bytes = |value: &Value| from_hex(value.as_str()?);
    let data = match data {
        Value::Array(alternatives) => alternatives.iter().map(bytes).collect::<Option<Vec<_>>>()?,
        one => vec![bytes(one)?],
    };
    Some(Point { offset: offset.as_i64()?, data }).filter(|point| !point.data.is_empty())
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(high << 4 | low),
        _ => None,
    });
    let bytes = bytes.collect::<Option<Vec<u8>>>()?;
    (!bytes.is_empty() && bytes.len() <= MAX_DATA).then_some(bytes)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(text: &str) -> DataIndex {
        DataIndex::read(&Profile::parse_text(text.to_owned()).unwrap()).unwrap()
    }

    #[test]
    fn perfect_matches_come_first_and_holes_count_for_nothing() {
        let index = index(
            r#"{"$INDEX": {"m/perfect": [[0, "61"], [100, ["62"]]], "m/best": [[0, ["7a", "61"]], [1, ["62"]]],
                "m/half": [[0, ["61"]], [1, ["7a"]]], "m/none": [[0, ["7a"]]], "m/hole": [[100, ["61"]]]}}"#,
        );
        let memory = b"ab";
        let matches = index.matches(1, |offset, buf| {
            let at = usize::try_from(offset).unwrap();
            let bytes = memory.get(at..at + buf.len());
            bytes.inspect(|bytes| buf.copy_from_slice(bytes)).is_some()
        });
        let names: Vec<&str> = matches.iter().map(|found| found.profile.as_str()).collect();
        assert_eq!(names, ["m/best", "m/perfect", "m/half"]);
        assert_eq!(matches.iter().map(DataMatch::score).collect::<Vec<_>>(), [1.0, 1.0, 0.5]);
        assert_eq!(matches[1].unreadable, 1);
        assert_eq!(index.matches(2, |_, _| false), []);
    }

    #[test]
    fn damaged_entries_are_counted() {
        let index =
            index(r#"{"$INDEX": {"../x": [], "a": 7, "b": [[1]], "c": [[1, "6"]], "d": [[1, "61"]]}}"#);
        assert_eq!((index.profiles.len(), index.rejected), (1, 4));
        let again = index.to_document().to_canonical_json();
        let again = DataIndex::read(&Profile::parse_text(again).unwrap()).unwrap();
        assert_eq!((again.profiles, again.base_symbol), (index.profiles, None));
    }
}
