//! How a body becomes an answer: conditions (RFC 9110, 13), ranges (14), encodings (12.5.3), and refusals.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use crate::blob::{Blob, Form, Lifetime, digest, header, hex};
use crate::files::Opened;

/// Bytes of a file read at a time.
const CHUNK: usize = 1 << 18;

/// What every handler returns.
pub(crate) type Answer = Response<Body>;

/// A body, or the part of it, or the news that the client's copy is current.
pub(crate) fn blob(blob: &Arc<Blob>, request: &HeaderMap) -> Answer {
    let validators = Validators { etag: &blob.etag, last_modified: blob.last_modified };
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = blob.headers.clone();
    match validators.decide(request, blob.bytes.len() as u64) {
        Decision::Current => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            // A cache that updates its copy by a 304 must not learn a type of the empty body.
            response.headers_mut().remove(CONTENT_TYPE);
        }
        Decision::Whole => *response.body_mut() = Body::from(blob.bytes.clone()),
        Decision::Part { start, end } => {
            let range =
                usize::try_from(start).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
            // `decide` keeps the range inside the body.
            let part =
                if range.end <= blob.bytes.len() { blob.bytes.slice(range) } else { blob.bytes.clone() };
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            response.headers_mut().insert(CONTENT_RANGE, content_range(start, end, blob.bytes.len() as u64));
            *response.body_mut() = Body::from(part);
        }
        Decision::Unsatisfiable => return unsatisfiable(blob.bytes.len() as u64),
    }
    // For the connection, which may have a shorter way to send it.
    response.extensions_mut().insert(Arc::clone(blob));
    response
}

/// A file, read while it is sent, or the part of it, or the news that the client's copy is current.
pub(crate) fn file(opened: Opened, media_type: &'static str, request: &HeaderMap) -> Answer {
    let Opened { mut file, stamp, hash } = opened;
    let etag = header(&format!("\"{}\"", hex(&hash)));
    let validators = Validators { etag: &etag, last_modified: stamp.time() };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(LAST_MODIFIED, header(&httpdate::fmt_http_date(stamp.time())));
    headers.insert(CACHE_CONTROL, Lifetime::Forever.header());
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(HeaderName::from_static("repr-digest"), header(&digest(&hash)));
    let decision = validators.decide(request, stamp.len);
    let (status, start, end) = match decision {
        Decision::Current => (StatusCode::NOT_MODIFIED, 0, 0),
        Decision::Whole => (StatusCode::OK, 0, stamp.len),
        Decision::Part { start, end } => (StatusCode::PARTIAL_CONTENT, start, end),
        Decision::Unsatisfiable => return unsatisfiable(stamp.len),
    };
    headers.insert(ETAG, etag);
    *response.status_mut() = status;
    if status == StatusCode::NOT_MODIFIED {
        return response;
    }
    if io::Seek::seek(&mut file, io::SeekFrom::Start(start)).is_err() {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "the file cannot be read now");
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(end - start));
    if status == StatusCode::PARTIAL_CONTENT {
        headers.insert(CONTENT_RANGE, content_range(start, end, stamp.len));
    }
    // A file that shrinks meanwhile ends the connection early, which the client notices by the length.
    let part = tokio::fs::File::from_std(file).take(end - start);
    *response.body_mut() = Body::from_stream(ReaderStream::with_capacity(part, CHUNK));
    response
}

/// What a request's conditions and ranges are compared with.
pub(crate) struct Validators<'a> {
    pub(crate) etag: &'a HeaderValue,
    pub(crate) last_modified: SystemTime,
}

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// 304: the client's copy is current.
    Current,
    /// 200.
    Whole,
    /// 206: the bytes from `start` up to, not including, `end`; never empty, always inside the body.
    Part { start: u64, end: u64 },
    /// 416.
    Unsatisfiable,
}

impl Validators<'_> {
    /// What to send of a body of `len` bytes.
    pub(crate) fn decide(&self, request: &HeaderMap, len: u64) -> Decision {
        if self.is_current(request) {
            return Decision::Current;
        }
        match request.get(RANGE) {
            Some(range) if self.range_applies(request) => parse_range(range, len),
            _ => Decision::Whole,
        }
    }

    /// `If-None-Match` decides where it is sent, else `If-Modified-Since`.
    fn is_current(&self, request: &HeaderMap) -> bool {
        if request.contains_key(IF_NONE_MATCH) {
            let etag = self.etag.as_bytes();
            return request.get_all(IF_NONE_MATCH).iter().any(|list| {
                list.as_bytes()
                    .split(|byte| *byte == b',')
                    .map(<[u8]>::trim_ascii)
                    .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag)
            });
        }
        date(request, &IF_MODIFIED_SINCE).is_some_and(|since| whole_seconds(self.last_modified) <= since)
    }

    /// `If-Range` with anything but this very body's tag or date voids the range.
    fn range_applies(&self, request: &HeaderMap) -> bool {
        match request.get(IF_RANGE) {
            None => true,
            Some(tag) if tag.as_bytes().starts_with(b"\"") => tag == self.etag,
            Some(_) => date(request, &IF_RANGE).is_some_and(|date| whole_seconds(self.last_modified) == date),
        }
    }
}

fn date(request: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(request.get(name)?.to_str().ok()?).ok()
}

/// Dates in headers have whole seconds.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// One range of bytes. Several at once, other units and nonsense are answered by the whole, as RFC 9110 allows.
pub(crate) fn parse_range(range: &HeaderValue, len: u64) -> Decision {
    let parse = || {
        let spec = range.to_str().ok()?.strip_prefix("bytes=")?.trim();
        let (first, last) = spec.split_once('-')?;
        if first.is_empty() {
            let suffix: u64 = last.parse().ok()?;
            let part = Decision::Part { start: len.saturating_sub(suffix), end: len };
            return Some(if suffix == 0 || len == 0 { Decision::Unsatisfiable } else { part });
        }
        let start: u64 = first.parse().ok()?;
        let end = if last.is_empty() { len } else { last.parse::<u64>().ok()?.checked_add(1)?.min(len) };
        if start >= len {
            return Some(Decision::Unsatisfiable);
        }
        (start < end).then_some(Decision::Part { start, end })
    };
    parse().unwrap_or(Decision::Whole)
}

/// `Content-Range` of a part.
pub(crate) fn content_range(start: u64, end: u64, len: u64) -> HeaderValue {
    header(&format!("bytes {start}-{}/{len}", end.saturating_sub(1)))
}

/// 416 with the length there is.
pub(crate) fn unsatisfiable(len: u64) -> Answer {
    let mut response = refusal(StatusCode::RANGE_NOT_SATISFIABLE, "the range starts behind the end");
    response.headers_mut().insert(CONTENT_RANGE, header(&format!("bytes */{len}")));
    response
}

/// The form of a document without `.gz` that a client likes best. Gzip wins ties because it is stored that way; a
/// client that says nothing gets plain text.
pub(crate) fn negotiate(request: &HeaderMap) -> Form {
    let mut best = (Form::Plain, 0.0);
    let mut identity = None;
    let mut any = None;
    let lists = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for item in lists.flat_map(|list| list.split(',')) {
        let (coding, parameters) = item.split_once(';').unwrap_or((item, ""));
        let quality = parameters.trim().strip_prefix("q=").map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
        let form = match coding.trim() {
            "gzip" | "x-gzip" => Form::GzipEncoded,
            "zstd" => Form::ZstdEncoded,
            "identity" => {
                identity = Some(quality);
                continue;
            }
            "*" => {
                any = Some(quality);
                continue;
            }
            _ => continue,
        };
        if quality > best.1 || (quality == best.1 && quality > 0.0 && form == Form::GzipEncoded) {
            best = (form, quality);
        }
    }
    match (best, identity, any) {
        ((Form::Plain, _), Some(identity), Some(any)) if any > identity => Form::GzipEncoded,
        ((form, quality), Some(identity), _) if identity <= quality => form,
        ((form, _), None, _) => form,
        _ => Form::Plain,
    }
}

/// An error as JSON: `{"error": "..."}`.
pub(crate) fn refusal(status: StatusCode, error: &str) -> Answer {
    document(status, &json!({ "error": error }))
}

/// An error that ends by itself: `Retry-After` says when to ask again.
pub(crate) fn later(status: StatusCode, error: &str, after: Duration) -> Answer {
    let mut response = refusal(status, error);
    let seconds = after.as_secs().max(1);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// A small JSON document that no one may keep.
pub(crate) fn document(status: StatusCode, value: &Value) -> Answer {
    let mut text = value.to_string();
    text.push('\n');
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    *response.body_mut() = Body::from(text);
    response
}
