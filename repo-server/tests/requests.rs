//! What must hold of the headers, queries and paths of any request, honest or not.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use profile::names::ProfileName;
use proptest::prelude::*;
use repo_server::requests::{Range, encoding, lookup, name, range};

/// Text of the pieces such headers have, in any order, with some noise.
fn pieces(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![4 => prop::sample::select(pieces).prop_map(str::to_owned), 1 => "[ -~]{0,3}"];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// The quality a header gives a coding by its name, by RFC 9110, 12.5.3: the first that names it.
fn accepts(header: &str, coding: &str) -> bool {
    header.split(',').any(|item| {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let quality = parameters.trim().strip_prefix("q=").map_or(Ok(1.0), |q| q.trim().parse::<f64>());
        (name.trim().strip_prefix("x-").unwrap_or(name.trim()) == coding || name.trim() == "*")
            && quality.is_ok_and(|quality| quality > 0.0)
    })
}

/// Percent-encodes some bytes of a text.
fn encoded(text: &str, which: &[bool]) -> String {
    let escape = |(at, byte): (usize, u8)| {
        let plain = byte.is_ascii_alphanumeric() || byte == b'/' || byte == b'.' || byte == b'_';
        if plain && !which[at % which.len()] { char::from(byte).to_string() } else { format!("%{byte:02x}") }
    };
    text.bytes().enumerate().map(escape).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(10_000) })]

    #[test]
    fn a_part_lies_inside_the_body(
        header in pieces(&["bytes", "=", "-", ",", "0", "7", "99", "18446744073709551615", " "]),
        len in prop_oneof![0..20_u64, any::<u64>()],
    ) {
        if let Some(Range::Part(start, end)) = range(header.as_bytes(), len) {
            prop_assert!(start < end && end <= len, "{header:?} of {len}: {start}..{end}");
        }
    }

    #[test]
    fn an_honest_range_is_what_it_says(first in 0..40_u64, last in 0..40_u64, len in 0..30_u64) {
        let bytes: Vec<u64> = (0..len).filter(|at| (first..=last).contains(at)).collect();
        let expected = match (bytes.first(), bytes.last()) {
            _ if last < first && first < len => Range::Whole,
            (Some(first), Some(last)) => Range::Part(*first, *last + 1),
            _ => Range::Unsatisfiable,
        };
        prop_assert_eq!(range(format!("bytes={first}-{last}").as_bytes(), len), Some(expected));
        let suffix = len.saturating_sub(last);
        let expected = if last == 0 || len == 0 { Range::Unsatisfiable } else { Range::Part(suffix, len) };
        prop_assert_eq!(range(format!("bytes=-{last}").as_bytes(), len), Some(expected));
    }

    #[test]
    fn no_encoding_is_used_that_was_not_accepted(
        header in pieces(&["gzip", "zstd", "identity", "*", "br", ";q=", "0", "1", "0.5", ",", ", ", "x-gzip"]),
    ) {
        if let Some(chosen @ ("gzip" | "zstd")) = encoding(header.as_bytes()) {
            prop_assert!(accepts(&header, chosen), "{header:?}: {chosen}");
        }
    }

    #[test]
    fn questions_are_bounded_and_in_the_spelling_of_the_index(
        query in pieces(&["guid=", "age=", "pdb=", "build_id=", "banner=", "release=", "&", "F8E2A8B5C9B74BF4A6E4A48F18009994",
            "%7B", "%00", "%ff", "a", "9", "..%2f"]),
    ) {
        if let Ok(questions) = lookup(&query) {
            prop_assert!(!questions.is_empty() && questions.len() <= 9);
            for (by, value) in questions {
                prop_assert!(value.len() <= 4096, "{by}: {value:?}");
                if by == "guid" {
                    prop_assert!(value.len() >= 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit()));
                }
            }
        }
    }

    #[test]
    fn no_path_leads_out_of_the_tree(
        path in pieces(&["/", "//", "v1.0/", "..", "%2e", "%2F", "%5c", "%00", "%", "a", "Linux", ".gz", "%c0%ae", "\\", ":"]),
    ) {
        for path in [path.clone(), format!("/v1.0/{path}")] {
            if let Some(name) = name(&path) {
                let parts: Vec<&str> = name.as_str().split('/').collect();
                prop_assert!(parts.iter().all(|part| !part.is_empty() && *part != "." && *part != ".."), "{path}: {name}");
                prop_assert!(!name.as_str().contains(['\\', '\0']), "{path}: {name}");
            }
        }
    }

    #[test]
    fn every_name_is_found_however_it_is_escaped(
        parts in prop::collection::vec("[A-Za-z0-9][A-Za-z0-9_. +é-]{0,8}[a-z0-9]", 1..4),
        which in prop::collection::vec(any::<bool>(), 1..8),
        slash in any::<bool>(),
    ) {
        let wanted = ProfileName::new(&parts.join("/"));
        prop_assume!(wanted.as_ref().is_ok_and(|name| name.as_str() == parts.join("/")));
        let wanted = wanted.expect("a name");
        let base = if slash { "//v1.0/" } else { "/v1.0/" };
        for end in ["", ".gz"] {
            let path = format!("{base}{}{end}", encoded(wanted.as_str(), &which));
            prop_assert_eq!(name(&path), Some(wanted.clone()), "{}", path);
        }
    }
}
