//! The page for people: three files that are part of the program. What it shows comes from `/list` and `/v1.0/`.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Response};

use crate::answer::Answer;

/// Only this server's own script and style, only requests to this server, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/`.
pub(crate) async fn html() -> Answer {
    file("text/html; charset=utf-8", include_str!("../page/index.html"))
}

/// `/page.js`.
pub(crate) async fn script() -> Answer {
    file("text/javascript; charset=utf-8", include_str!("../page/page.js"))
}

/// `/page.css`.
pub(crate) async fn style() -> Answer {
    file("text/css; charset=utf-8", include_str!("../page/page.css"))
}

fn file(kind: &'static str, text: &'static str) -> Answer {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
