//! A file in pieces: `image.000`, `image.001`, ... (or from `.001` on, or `.aa`, `.ab`, ... as `split` makes).
//!
//! The one format told by name, because pieces have nothing else in common. A set is one when the first piece
//! is opened, the next one exists, and all but the last are of equal size; the piece after the first may not
//! begin like the first does, or they are several images with numbers.

use crate::format::{Layer, Opened, Refused};
use crate::join::JoinSpace;
use crate::{AddressSpace, Beside, Limits};
use std::sync::Arc;

/// Most pieces of a set.
const MAX_PIECES: u64 = 100_000;

/// The extension `steps` pieces behind a first one; `None` when `first` cannot begin a set.
fn extension(first: &str, steps: u64) -> Option<String> {
    if first.len() >= 2 && first.bytes().all(|byte| byte.is_ascii_digit()) {
        let start = first.parse::<u64>().ok().filter(|start| *start <= 1)?;
        let number = start.checked_add(steps)?;
        return Some(format!("{number:0width$}", width = first.len()));
    }
    if first != "aa" && first != "aaa" {
        return None;
    }
    let mut letters = Vec::new();
    let mut left = steps;
    for _ in 0..first.len() {
        letters.push(b'a'.wrapping_add(u8::try_from(left % 26).ok()?));
        left /= 26;
    }
    letters.reverse();
    (left == 0).then(|| String::from_utf8(letters).ok())?
}

/// The piece `steps` behind the first.
fn piece(beside: &Beside, steps: u64, limits: &Limits) -> Option<Arc<dyn AddressSpace>> {
    let (_, first) = beside.name()?;
    beside.with_extension(&extension(first, steps)?, limits)
}

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    let second = piece(layer.beside, 1, layer.limits).ok_or("not the first of numbered pieces")?;
    let mut start = [0; 8];
    let same = second.read_at(0, &mut start).is_ok() && layer.head.starts_with(&start);
    if same && start.iter().any(|byte| *byte != start[0]) {
        return Err("the next file with a number begins alike: an image of its own");
    }
    if second.end() > layer.base.end() || second.end() == 0 {
        return Err("the next file with a number is longer: an image of its own");
    }
    Ok(())
}

pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let size = layer.base.end();
    let mut pieces = vec![Arc::clone(layer.base)];
    let mut warnings = Vec::new();
    for steps in 1..MAX_PIECES {
        let Some(next) = piece(layer.beside, steps, layer.limits) else { break };
        if pieces.last().is_some_and(|last| last.end() != size) {
            warnings
                .push(format!("piece {steps} is shorter than the first but not the last: left out after it"));
            break;
        }
        pieces.push(next);
    }
    Ok(Opened::new(Arc::new(JoinSpace::new("pieces", pieces))).warnings(warnings))
}

#[cfg(test)]
mod tests {
    use super::extension;

    #[test]
    fn extensions_count_on_in_their_own_style() {
        let next = |first, steps| extension(first, steps).unwrap_or_default();
        assert_eq!(
            (next("000", 1), next("001", 9), next("01", 99)),
            ("001".into(), "010".into(), "100".into())
        );
        assert_eq!(
            (next("aa", 1), next("aa", 27), next("aaa", 677)),
            ("ab".into(), "bb".into(), "bab".into())
        );
        assert_eq!((next("002", 1), next("aa", 676), next("raw", 1), next("1", 1)), Default::default());
    }
}
