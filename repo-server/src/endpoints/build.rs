//! Documents that are not there yet, and `/builds/<name>`: what became of them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header::{RETRY_AFTER, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use profile::names::ProfileName;
use serde_json::json;

use crate::answer::{self, Answer};
use crate::app::{Peer, Service};
use crate::blob::{Form, header};
use crate::builds::Started;
use crate::endpoints::profiles;
use crate::names::Symbol;
use crate::serve::network;

/// When to ask again for a build that takes longer.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// Longest wait that a client may wish for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Builds a profile that is not there and sends it; or says that it comes later, or why it never will.
///
/// Later is 202 with `Retry-After`. Original clients would take that body for the profile, so they get 503 and ask again
/// on their own, by the address without `.gz`. `Prefer: respond-async` and `Prefer: wait=SECONDS` (RFC 7240) say how long a
/// client waits.
pub(crate) async fn on_demand(
    service: &Arc<Service>,
    Peer(peer): Peer,
    name: &ProfileName,
    form: Form,
    request: &HeaderMap,
) -> Answer {
    let symbol = Symbol::of_profile(name).filter(|_| service.upstream.is_some());
    let Some(symbol) = symbol else { return profiles::missing() };
    if symbol.profile() != name {
        // Asked for in another spelling: it may be there in ours.
        let there = profiles::stored(service, symbol.profile().clone(), form, request).await;
        if there.status() != StatusCode::NOT_FOUND {
            return there;
        }
    }
    let flight = match service.builds.start(service, &symbol, network(peer)) {
        Started::Building(flight) => flight,
        Started::Missed(miss) => return miss.answer(),
        Started::TooMany => {
            let minute = Duration::from_secs(60);
            return answer::later(StatusCode::TOO_MANY_REQUESTS, "too many builds from this address", minute);
        }
    };
    match tokio::time::timeout(patience(service, request), flight.landed()).await {
        Ok(Some(Ok(()))) => profiles::stored(service, symbol.profile().clone(), form, request).await,
        Ok(Some(Err(miss))) => miss.answer(),
        Ok(None) => answer::refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error"),
        Err(_) => later(&symbol, request),
    }
}

fn patience(service: &Service, request: &HeaderMap) -> Duration {
    let mut wait = Duration::from_secs(service.config.build.wait_seconds);
    let preferences = request.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    for preference in preferences.flat_map(|list| list.split([',', ';'])).map(str::trim) {
        if preference.eq_ignore_ascii_case("respond-async") {
            wait = Duration::ZERO;
        } else if let Some(seconds) = preference.strip_prefix("wait=").and_then(|text| text.parse().ok()) {
            wait = Duration::from_secs(seconds);
        }
    }
    wait.min(LONGEST_WAIT)
}

fn later(symbol: &Symbol, request: &HeaderMap) -> Answer {
    let agent = request.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    if agent.starts_with(b"Python-urllib") {
        return answer::later(StatusCode::SERVICE_UNAVAILABLE, "the profile is being built", ASK_AGAIN);
    }
    let status = format!("/builds/{}", symbol.profile());
    let body = json!({ "name": symbol.profile().as_str(), "state": "building", "status": status });
    let mut answer = answer::document(StatusCode::ACCEPTED, &body);
    answer.headers_mut().insert(RETRY_AFTER, ASK_AGAIN.as_secs().into());
    answer.headers_mut().insert(HeaderName::from_static("location"), header(&status));
    answer
}

/// `{"name": ..., "state": "ready" | "building" | "missed" | "unknown"}`; starts nothing.
pub(crate) async fn status(State(service): State<Arc<Service>>, Path(name): Path<String>) -> Answer {
    let symbol = ProfileName::new(&name).ok().and_then(|name| Symbol::of_profile(&name));
    let Some(symbol) = symbol else {
        return answer::refusal(StatusCode::NOT_FOUND, "give MODULE/GUID/GUIDAGE");
    };
    let name = symbol.profile();
    if service.store.catalogue.get(name).is_some_and(|entry| entry.stamp.is_some()) {
        return answer::document(StatusCode::OK, &json!({ "name": name.as_str(), "state": "ready" }));
    }
    if service.builds.under_way(name) {
        return answer::document(StatusCode::OK, &json!({ "name": name.as_str(), "state": "building" }));
    }
    if let Some(miss) = service.builds.missed(name) {
        return miss.answer();
    }
    answer::document(StatusCode::OK, &json!({ "name": name.as_str(), "state": "unknown" }))
}
