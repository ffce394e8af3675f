//! Bytes ready to send: a document in one form, with the headers that never change for it.

use std::fs::File;
use std::time::SystemTime;

use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, LAST_MODIFIED, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::blobs::Stamp;
use crate::outlet::Shadow;

/// How the bytes of a document are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// `<name>.gz`: a gzip file, whatever is stored.
    GzipFile,
    /// `<name>`: JSON text.
    Plain,
    /// `<name>` with `Content-Encoding: gzip`.
    GzipEncoded,
    /// `<name>` with `Content-Encoding: zstd`.
    ZstdEncoded,
}

impl Form {
    /// Every form, for those who forget them all.
    pub(crate) const ALL: [Self; 4] = [Self::GzipFile, Self::Plain, Self::GzipEncoded, Self::ZstdEncoded];

    fn media_type(self) -> &'static str {
        if self == Self::GzipFile { "application/gzip" } else { "application/json" }
    }

    fn encoding(self) -> Option<&'static str> {
        match self {
            Self::GzipFile | Self::Plain => None,
            Self::GzipEncoded => Some("gzip"),
            Self::ZstdEncoded => Some("zstd"),
        }
    }
}

/// How long a client may use its copy without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// The name says the content: a GUID or a build-id.
    Forever,
    /// Human names and symlinks, which may point elsewhere tomorrow.
    Minutes,
    /// What changes with every profile added.
    Seconds,
}

impl Lifetime {
    /// By the name of a document.
    pub(crate) fn of(name: &str) -> Self {
        let mut parts = name.rsplit('/').skip(1);
        if matches!(parts.next(), Some("GUID" | "BuildID")) { Self::Forever } else { Self::Minutes }
    }

    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Forever => "public, max-age=31536000, immutable",
            Self::Minutes => "public, max-age=60, stale-while-revalidate=600",
            Self::Seconds => "public, max-age=5, stale-while-revalidate=60",
        })
    }
}

/// SHA-256 of a body.
pub(crate) type Hash = [u8; 32];

/// A body with its headers.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) bytes: Bytes,
    /// Strong entity tag with its quotes: the SHA-256 of the body in lower-case hex.
    pub(crate) etag: HeaderValue,
    pub(crate) last_modified: SystemTime,
    /// Everything but `Content-Length`, in the order it is sent.
    pub(crate) headers: HeaderMap,
    /// The file with the same bytes, where there is one that is worth being sent instead.
    pub(crate) shadow: Option<Shadow>,
}

impl Blob {
    /// Makes a body ready; `hash` spares hashing it where it is known already.
    pub(crate) fn new(
        bytes: impl Into<Bytes>,
        form: Form,
        lifetime: Lifetime,
        last_modified: SystemTime,
        hash: Option<Hash>,
    ) -> Self {
        let bytes = bytes.into();
        let hash = hash.unwrap_or_else(|| Sha256::digest(&bytes).into());
        let etag = header(&format!("\"{}\"", hex(&hash)));
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
        headers.insert(ETAG, etag.clone());
        headers.insert(LAST_MODIFIED, header(&httpdate::fmt_http_date(last_modified)));
        headers.insert(CACHE_CONTROL, lifetime.header());
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(HeaderName::from_static("repr-digest"), header(&digest(&hash)));
        if form != Form::GzipFile {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        if let Some(encoding) = form.encoding() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        Self { bytes, etag, last_modified, headers, shadow: None }
    }

    /// The same, read from a file in this state.
    pub(crate) fn of_file(mut self, stamp: Stamp, open: impl FnOnce() -> Option<File>) -> Self {
        self.shadow = Shadow::new(&self.bytes, stamp, open);
        self
    }

    /// About what it takes in memory, in bytes.
    pub(crate) fn weight(&self) -> u64 {
        self.bytes.len() as u64 + 1024
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hash as RFC 9530 wants it in `Repr-Digest`.
pub(crate) fn digest(hash: &Hash) -> String {
    format!("sha-256=:{}:", STANDARD.encode(hash))
}

/// Text that is known to be visible ASCII as a header's value.
pub(crate) fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
