//! The inventory as original clients need it, parts of it, and pages of names.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{self, Answer};
use crate::app::Service;
use crate::blob::{Blob, Form, Lifetime, header};
use crate::catalogue::Catalogue;

/// Most names of one page.
const MAX_PAGE: usize = 1000;

/// What part of the inventory is wanted.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Part {
    /// Only names that start so.
    prefix: Option<String>,
    /// Only what changed since the answer whose `Rekal-Cursor` this is.
    since: Option<String>,
}

/// `/v1.0/inventory.gz`.
pub(crate) async fn gzip(
    State(service): State<Arc<Service>>,
    Query(part): Query<Part>,
    request: HeaderMap,
) -> Answer {
    inventory(&service, part, Form::GzipFile, &request).await
}

/// `/v1.0/inventory`.
pub(crate) async fn plain(
    State(service): State<Arc<Service>>,
    Query(part): Query<Part>,
    request: HeaderMap,
) -> Answer {
    inventory(&service, part, answer::negotiate(&request), &request).await
}

/// `/v1.0/inventory.gz.minisig`.
pub(crate) async fn signature(State(service): State<Arc<Service>>, request: HeaderMap) -> Answer {
    match service.blocking(|service| service.store.catalogue.signature()).await {
        Ok(Some(blob)) => answer::blob(&blob, &request),
        Ok(None) => answer::refusal(StatusCode::NOT_FOUND, "the inventory is not signed"),
        Err(answer) => answer,
    }
}

async fn inventory(service: &Arc<Service>, part: Part, form: Form, request: &HeaderMap) -> Answer {
    // Read first: what changes until the body is made will be sent twice rather than never.
    let cursor = service.store.catalogue.cursor();
    let (blob, scope) = if part.prefix.is_none() && part.since.is_none() {
        match service.store.catalogue.ready(form) {
            Some(blob) => (blob, "full"),
            None => match service.blocking(move |service| service.store.catalogue.render(form)).await {
                Ok(blob) => (blob, "full"),
                Err(answer) => return answer,
            },
        }
    } else {
        match service.blocking(move |service| excerpt(&service.store.catalogue, &part, form)).await {
            Ok((blob, scope)) => (Arc::new(blob), scope),
            Err(answer) => return answer,
        }
    };
    let mut answer = answer::blob(&blob, request);
    let headers = answer.headers_mut();
    headers.insert(HeaderName::from_static("rekal-cursor"), header(&cursor));
    headers.insert(HeaderName::from_static("rekal-inventory"), header(scope));
    answer
}

/// A part of the inventory. A cursor that is not known any more is answered by everything, and the header says so.
fn excerpt(catalogue: &Catalogue, part: &Part, form: Form) -> (Blob, &'static str) {
    let prefix = part.prefix.as_deref().unwrap_or_default();
    let delta = part.since.as_deref().and_then(|cursor| catalogue.since(cursor));
    let (bytes, scope) = match delta {
        Some(mut delta) => {
            delta.changed.retain(|entry| entry.name.as_str().starts_with(prefix));
            delta.removed.retain(|name| name.as_str().starts_with(prefix));
            (Catalogue::excerpt(&delta.changed, Some(&delta.removed)), "delta")
        }
        None => {
            let scope = if prefix.is_empty() { "full" } else { "prefix" };
            (Catalogue::excerpt(&catalogue.list(prefix, "", "", usize::MAX), None), scope)
        }
    };
    let (bytes, form) = match form {
        Form::GzipFile | Form::GzipEncoded => (bytes, form),
        // Excerpts are small: one form compressed and one not is enough.
        Form::Plain | Form::ZstdEncoded => {
            let limits = profile::Limits { max_text: crate::store::MAX_INVENTORY };
            (profile::json_text(&bytes, &limits).unwrap_or_default().into_bytes(), Form::Plain)
        }
    };
    (Blob::new(bytes, form, Lifetime::Seconds, SystemTime::now(), None), scope)
}

/// Which names a page shows.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Page {
    /// Only names that start so.
    prefix: String,
    /// Only names that hold this, in upper or lower case.
    query: String,
    /// Only names behind this one: the last of the page before.
    after: String,
    /// Most names.
    limit: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self { prefix: String::new(), query: String::new(), after: String::new(), limit: 100 }
    }
}

/// `/list`: `{"names": [{"name": ..., ...}], "next": "/list?..." or null}`.
pub(crate) async fn list(State(service): State<Arc<Service>>, Query(page): Query<Page>) -> Answer {
    let listed = service.blocking(move |service| {
        let limit = page.limit.clamp(1, MAX_PAGE);
        let mut entries = service.store.catalogue.list(&page.prefix, &page.after, &page.query, limit + 1);
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| more).map(|last| last.name.to_string());
        let names: Vec<Value> = entries
            .iter()
            .map(|entry| {
                let mut keys = entry.keys();
                keys.insert("name".to_owned(), Value::from(entry.name.as_str()));
                Value::Object(keys)
            })
            .collect();
        json!({ "names": names, "next": next })
    });
    match listed.await {
        Ok(value) => answer::document(StatusCode::OK, &value),
        Err(answer) => answer,
    }
}
