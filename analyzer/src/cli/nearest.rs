//! The names a user may have meant.

/// Most suggestions.
const MAX: usize = 3;

/// The candidates nearest to a mistyped name, best first: those that begin with it, and those within a third of its
/// length in edits.
#[must_use]
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let typed: Vec<char> = typed.chars().take(64).flat_map(char::to_lowercase).collect();
    let allowed = typed.len().div_ceil(3);
    let mut found: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let name: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
            let distance =
                if typed.len() >= 3 && name.starts_with(&typed) { 0 } else { distance(&typed, &name) };
            (distance <= allowed).then_some((distance, candidate))
        })
        .collect();
    found.sort_unstable();
    // Several systems may have a command of one name.
    found.dedup();
    found.into_iter().take(MAX).map(|(_, candidate)| candidate).collect()
}

/// Edits from one text to the other: insert, delete, replace, swap of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&last, j) + usize::from(x != y);
            let mut best = replaced.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_edits() {
        let distance =
            |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(distance("pslist", "pslist"), 0);
        assert_eq!(distance("plsist", "pslist"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn typing_errors_find_the_name() {
        let names = ["pslist", "psaux", "pstree", "lsmod", "netstat"];
        assert_eq!(nearest("plist", names), ["pslist"]);
        assert_eq!(nearest("PSLIST", names), ["pslist"]);
        assert_eq!(nearest("net", names), ["netstat"]);
        assert_eq!(nearest("ps", names), Vec::<&str>::new());
        assert_eq!(nearest("frobnicate", names), Vec::<&str>::new());
    }
}
