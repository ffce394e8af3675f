//! Every route, and how a stored document becomes an HTTP answer.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::get;

use crate::store::{Blob, Form, Miss, Store};

/// Longest time one answer may take to prepare.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The server of the repository at `root`.
///
/// | route | answer |
/// |---|---|
/// | `/v1.0/inventory.gz`, `/v1.0/inventory` | what the repository holds now |
/// | `/v1.0/<name>.gz` | the document, always gzip bytes, whatever `Content-Encoding` a client would like |
/// | `/v1.0/<name>` | the document as plain JSON |
/// | `/healthz` | `ok` |
///
/// GET and HEAD; anything else is 405. A name that is unknown, malformed or leads out of the root is 404.
/// Original clients with a trailing slash in their base URL ask for `//v1.0/...`.
pub fn app(root: &Path) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/v1.0/{*name}", get(document))
        .route("//v1.0/{*name}", get(document))
        .with_state(Arc::new(Store::open(root)))
}

async fn document(
    State(store): State<Arc<Store>>,
    UrlPath(path): UrlPath<String>,
    request: HeaderMap,
) -> Response<Body> {
    let read = tokio::task::spawn_blocking(move || match path.strip_suffix(".gz") {
        Some(name) => store.get(name, Form::Gzip),
        None => store.get(&path, Form::Plain),
    });
    match tokio::time::timeout(TIME_LIMIT, read).await {
        Ok(Ok(Ok(blob))) => respond(blob, &request),
        Ok(Ok(Err(Miss::NotFound))) => text(StatusCode::NOT_FOUND, "no such profile\n"),
        Ok(Ok(Err(Miss::Damaged(reason)))) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, &format!("the stored profile is damaged: {reason}\n"))
        }
        Ok(Err(_)) => text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n"),
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "took too long\n"),
    }
}

fn respond(blob: Blob, request: &HeaderMap) -> Response<Body> {
    let etag = format!("\"{}\"", blob.hash);
    let current = is_current(request, &etag, blob.last_modified);
    let response = Response::builder()
        .status(if current { StatusCode::NOT_MODIFIED } else { StatusCode::OK })
        .header(header::ETAG, etag)
        .header(header::LAST_MODIFIED, httpdate::fmt_http_date(blob.last_modified))
        .header(header::CACHE_CONTROL, "no-cache");
    let response = if current {
        response.body(Body::empty())
    } else {
        response.header(header::CONTENT_TYPE, blob.form.media_type()).body(Body::from(blob.bytes))
    };
    response.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n"))
}

/// Whether the client's copy is current: `If-None-Match` decides where it is sent, else `If-Modified-Since`
/// (RFC 9110, 13.2.2).
fn is_current(request: &HeaderMap, etag: &str, last_modified: SystemTime) -> bool {
    if request.contains_key(header::IF_NONE_MATCH) {
        let mut tags = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        return tags.any(|list| {
            list.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
        });
    }
    let since = request.get(header::IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
    let since = since.and_then(|text| httpdate::parse_http_date(text).ok());
    // The header has whole seconds.
    since.is_some_and(|since| last_modified < since + Duration::from_secs(1))
}

fn text(status: StatusCode, body: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = status;
    response
}
