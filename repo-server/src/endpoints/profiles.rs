//! `/v1.0/<name>.gz` and `/v1.0/<name>`: documents by GUID path, symlink or human name.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use profile::names::ProfileName;
use serde_json::json;

use crate::answer::{self, Answer};
use crate::app::{Peer, Service};
use crate::blob::Form;
use crate::endpoints::{build, rest_of_path};
use crate::store::Miss;

/// A document. A name that is unknown, malformed or leads out of the repository is 404.
pub(crate) async fn document(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    request: HeaderMap,
) -> Answer {
    let path = uri.path();
    let Some(path) =
        rest_of_path(path.strip_prefix("/").filter(|path| path.starts_with('/')).unwrap_or(path), "/v1.0/")
    else {
        return missing();
    };
    let (name, form) = match path.strip_suffix(".gz") {
        Some(name) => (name, Form::GzipFile),
        None => (&*path, answer::negotiate(&request)),
    };
    if let Some(blob) = service.store.ready(name, form) {
        return answer::blob(&blob, &request);
    }
    let Some(name) = ProfileName::new(name).ok().filter(|checked| checked.as_str() == name) else {
        return missing();
    };
    let answer = stored(&service, name.clone(), form, &request).await;
    match answer.status() {
        StatusCode::NOT_FOUND => build::on_demand(&service, peer, &name, form, &request).await,
        _ => answer,
    }
}

/// A document that is there.
pub(crate) async fn stored(
    service: &Arc<Service>,
    name: ProfileName,
    form: Form,
    request: &HeaderMap,
) -> Answer {
    match service.blocking(move |service| service.store.get(&name, form)).await {
        Ok(Ok(blob)) => answer::blob(&blob, request),
        Ok(Err(miss)) => refuse(service, &miss),
        Err(answer) => answer,
    }
}

fn refuse(service: &Service, miss: &Miss) -> Answer {
    match miss {
        Miss::NotFound => missing(),
        Miss::Damaged(reason) => answer::refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("the stored profile is damaged: {reason}"),
        ),
        Miss::Unreadable(error) => {
            service.log.event("storage cannot be read", json!({ "error": error.to_string() }));
            answer::refusal(StatusCode::SERVICE_UNAVAILABLE, "the repository's storage cannot be read now")
        }
    }
}

/// 404 for a name.
pub(crate) fn missing() -> Answer {
    answer::refusal(StatusCode::NOT_FOUND, "no such profile")
}
