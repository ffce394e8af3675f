//! What strangers write into requests, as the server reads it. Public for fuzz targets and tests of properties.

use axum::http::header::ACCEPT_ENCODING;
use axum::http::{HeaderMap, HeaderValue};
use profile::names::ProfileName;

use crate::answer::{self, Decision};
use crate::blob::Form;
use crate::endpoints::{lookup, profiles};

/// What a `Range` header asks of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Everything: the header is not understood.
    Whole,
    /// The bytes from the first number up to, not including, the second.
    Part(u64, u64),
    /// Nothing that is there.
    Unsatisfiable,
}

/// A `Range` header for a body of `len` bytes; `None` where the bytes cannot be a header's value.
#[must_use]
pub fn range(header: &[u8], len: u64) -> Option<Range> {
    let decision = answer::parse_range(&HeaderValue::from_bytes(header).ok()?, len);
    Some(match decision {
        Decision::Part { start, end } => Range::Part(start, end),
        Decision::Unsatisfiable => Range::Unsatisfiable,
        Decision::Whole | Decision::Current => Range::Whole,
    })
}

/// The encoding that is chosen for an `Accept-Encoding` header; `None` where the bytes cannot be a header's value.
#[must_use]
pub fn encoding(header: &[u8]) -> Option<&'static str> {
    let mut request = HeaderMap::new();
    request.insert(ACCEPT_ENCODING, HeaderValue::from_bytes(header).ok()?);
    Some(match answer::negotiate(&request) {
        Form::GzipEncoded => "gzip",
        Form::ZstdEncoded => "zstd",
        Form::Plain | Form::GzipFile => "identity",
    })
}

/// The questions of a query of `/lookup`, each with its kind, in the order of their strength; or why there are none.
pub fn lookup(query: &str) -> Result<Vec<(&'static str, String)>, String> {
    lookup::questions_of(query)
}

/// The document a path of a URL asks for.
#[must_use]
pub fn name(path: &str) -> Option<ProfileName> {
    profiles::name_of(path)
}
