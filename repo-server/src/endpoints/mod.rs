//! What each route answers; one file per concern.

pub(crate) mod build;
pub(crate) mod inventory;
pub(crate) mod lookup;
pub(crate) mod ops;
pub(crate) mod page;
pub(crate) mod profiles;
pub(crate) mod symbols;
pub(crate) mod upload;

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The part of a request's path behind a prefix, decoded; `None` where it is no text.
fn rest_of_path<'a>(path: &'a str, prefix: &str) -> Option<Cow<'a, str>> {
    let rest = path.strip_prefix(prefix)?;
    if rest.contains('%') { percent_decode_str(rest).decode_utf8().ok() } else { Some(Cow::Borrowed(rest)) }
}
