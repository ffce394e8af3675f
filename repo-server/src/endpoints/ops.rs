//! For operators and for clients that want to know what they talk to.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::answer::{self, Answer};
use crate::app::Service;

/// `/healthz`: the process answers.
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// `/readyz`: requests are welcome; 503 while the server stops.
pub(crate) async fn ready(State(service): State<Arc<Service>>) -> Answer {
    if service.is_draining() {
        return answer::refusal(StatusCode::SERVICE_UNAVAILABLE, "stopping");
    }
    answer::document(StatusCode::OK, &json!({ "ready": true, "profiles": service.store.catalogue.len() }))
}

/// `/metrics`, in the text format of Prometheus.
pub(crate) async fn metrics(State(service): State<Arc<Service>>) -> Answer {
    let mut response = Response::new(Body::from(service.metrics.text(&service)));
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `/.well-known/rekal-repository`: what a client may ask for besides the files.
pub(crate) async fn capabilities(State(service): State<Arc<Service>>) -> Answer {
    let capabilities = json!({
        "version": 1,
        "server": concat!("rekal repo-server ", env!("CARGO_PKG_VERSION")),
        "layout": repository::LAYOUT,
        "inventory": { "url": "/v1.0/inventory.gz", "parameters": ["prefix", "since"], "cursor": "Rekal-Cursor" },
        "list": "/list",
        "lookup": "/lookup",
        "build_on_demand": !service.config.build.symbol_servers.is_empty(),
        "builds": "/builds/{name}",
        "symbols": if service.upstream.is_some() { json!("/{pdb}/{guidage}/{pdb}") } else { json!(null) },
        "debuginfo": if service.state.is_some() { json!("/buildid/{id}/debuginfo") } else { json!(null) },
    });
    let mut answer = answer::document(StatusCode::OK, &capabilities);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    answer
}

/// Any other path.
pub(crate) async fn unknown() -> Answer {
    answer::refusal(StatusCode::NOT_FOUND, "no such page")
}
