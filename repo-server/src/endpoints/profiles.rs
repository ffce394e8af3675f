//! `/v1.0/<name>.gz` and `/v1.0/<name>`: documents by GUID path, symlink or human name.

use std::borrow::Cow;
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
    let Some((path, is_file)) = asked(uri.path()) else { return missing() };
    let form = if is_file { Form::GzipFile } else { answer::negotiate(&request) };
    if let Some(blob) = service.store.ready(&path, form) {
        return answer::blob(&blob, &request);
    }
    let Some(name) = checked(&path) else { return missing() };
    let answer = stored(&service, name.clone(), form, &request).await;
    match answer.status() {
        StatusCode::NOT_FOUND => build::on_demand(&service, peer, &name, form, &request).await,
        _ => answer,
    }
}

/// What a path asks for, decoded and without `.gz`, and whether it had that; not checked to be a name.
fn asked(path: &str) -> Option<(Cow<'_, str>, bool)> {
    let path = path.strip_prefix('/').filter(|path| path.starts_with('/')).unwrap_or(path);
    let path = rest_of_path(path, "/v1.0/")?;
    match path.strip_suffix(".gz").map(str::len) {
        Some(length) => Some((shortened(path, length), true)),
        None => Some((path, false)),
    }
}

fn shortened(text: Cow<'_, str>, length: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(..length).unwrap_or_default()),
        Cow::Owned(mut text) => {
            text.truncate(length);
            Cow::Owned(text)
        }
    }
}

/// The name, where it is one in the spelling it is stored under.
fn checked(path: &str) -> Option<ProfileName> {
    ProfileName::new(path).ok().filter(|name| name.as_str() == path)
}

/// The name a path asks for.
pub(crate) fn name_of(path: &str) -> Option<ProfileName> {
    checked(&asked(path)?.0)
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
