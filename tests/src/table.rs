//! Records by key, and their differences.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What identifies a row, and the cells to compare, as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Identity, e.g. `pid 1 fd 3`. Several records may share it.
    pub key: String,
    /// Column and value. The truth's record decides which columns are compared.
    pub cells: BTreeMap<&'static str, String>,
}

impl Record {
    /// A record without cells yet.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), cells: BTreeMap::new() }
    }

    /// Adds a cell.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over numbers and text alike")]
    pub fn cell(mut self, column: &'static str, value: impl ToString) -> Self {
        self.cells.insert(column, value.to_string());
        self
    }
}

/// Outcome of one comparison.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// Rows that the truth calls for.
    pub rows: usize,
    /// Cells compared in the rows that both have.
    pub cells: usize,
    /// One line for each row or cell that differs.
    pub differences: Vec<String>,
}

impl Comparison {
    /// Compares every record of the truth with the record of the same key that was found. Records that share a key are
    /// paired so that equal ones meet; what is left over is missing or unexpected.
    #[must_use]
    pub fn of(truth: Vec<Record>, found: Vec<Record>) -> Self {
        Self::with("the truth", truth, found)
    }

    /// The same with what somebody else found, who stands in the lines as `whose`.
    #[must_use]
    pub fn with(whose: &str, truth: Vec<Record>, found: Vec<Record>) -> Self {
        let mut outcome = Self { rows: truth.len(), ..Self::default() };
        let mut found_by_key: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for record in found {
            found_by_key.entry(record.key.clone()).or_default().push(record);
        }
        for wanted in truth {
            let candidates = found_by_key.entry(wanted.key.clone()).or_default();
            let best = candidates
                .iter()
                .enumerate()
                .min_by_key(|(_, candidate)| differing(&wanted, candidate).count())
                .map(|(index, _)| index);
            let Some(best) = best else {
                outcome.differences.push(format!("missing: {}", show(&wanted)));
                continue;
            };
            let candidate = candidates.swap_remove(best);
            outcome.cells += wanted.cells.len();
            for (column, value) in differing(&wanted, &candidate) {
                let other = candidate.cells.get(column).map_or("no such column", String::as_str);
                outcome
                    .differences
                    .push(format!("{}: {column}: {whose} {value:?}, rekal {other:?}", wanted.key));
            }
        }
        for extra in found_by_key.into_values().flatten() {
            outcome.differences.push(format!("not in {whose}: {}", show(&extra)));
        }
        outcome
    }
}

fn differing<'a>(
    wanted: &'a Record,
    found: &'a Record,
) -> impl Iterator<Item = (&'static str, &'a String)> + 'a {
    wanted
        .cells
        .iter()
        .filter(|(column, value)| found.cells.get(*column) != Some(value))
        .map(|(column, value)| (*column, value))
}

fn show(record: &Record) -> String {
    let mut text = record.key.clone();
    for (column, value) in &record.cells {
        // Writing to a String cannot fail.
        let _ = write!(text, " {column}={value:?}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_tables_have_no_difference() {
        let rows =
            vec![Record::new("pid 1").cell("comm", "init"), Record::new("pid 2").cell("comm", "kthreadd")];
        let outcome = Comparison::of(rows.clone(), rows);
        assert_eq!((outcome.rows, outcome.cells, outcome.differences.len()), (2, 2, 0));
    }

    #[test]
    fn every_kind_of_difference_is_reported() {
        let truth = vec![Record::new("pid 1").cell("comm", "init"), Record::new("pid 2").cell("comm", "x")];
        let found = vec![Record::new("pid 1").cell("comm", "evil"), Record::new("pid 3").cell("comm", "y")];
        let outcome = Comparison::of(truth, found);
        assert_eq!(
            outcome.differences,
            [
                r#"pid 1: comm: the truth "init", rekal "evil""#,
                r#"missing: pid 2 comm="x""#,
                r#"not in the truth: pid 3 comm="y""#
            ]
        );
    }

    #[test]
    fn records_that_share_a_key_are_paired_by_content() {
        let a = Record::new("lo").cell("ip", "127.0.0.1");
        let b = Record::new("lo").cell("ip", "127.0.0.2");
        assert!(Comparison::of(vec![a.clone(), b.clone()], vec![b, a]).differences.is_empty());
    }

    #[test]
    fn only_columns_of_the_truth_are_compared() {
        let truth = vec![Record::new("1").cell("path", "socket:[3]")];
        let found = vec![Record::new("1").cell("path", "socket:[3]").cell("size", 0)];
        assert!(Comparison::of(truth, found).differences.is_empty());
    }
}
