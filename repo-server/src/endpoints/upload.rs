//! Writing: `PUT` and `DELETE` below `/v1.0/`, `POST /upload/pdb` and `POST /upload/linux`.
//!
//! The token is checked before a byte of the body is read. The body goes to the disk as it comes, bounded in size, in
//! silence and in slowness.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::header::{CONTENT_LENGTH, HeaderMap, LOCATION, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode, Uri};
use http_body_util::BodyExt as _;
use profile::names::{BuildId, ProfileName};
use profile_gen::LinuxOptions;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::answer::{self, Answer};
use crate::app::{Peer, Service};
use crate::blob::header;
use crate::config::Scope;
use crate::endpoints::profiles::name_of;
use crate::tokens::Holder;
use crate::uploads::{Refusal, Stored, Upload};

/// How a document is stored.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct PutQuery {
    /// Whether another document of this name is replaced; for admins.
    #[serde(default)]
    replace: bool,
}

/// `PUT /v1.0/<name>`: a profile as JSON, plain or gzip.
pub(crate) async fn put(
    State(service): State<Arc<Service>>,
    Extension(Peer(peer)): Extension<Peer>,
    Query(query): Query<PutQuery>,
    uri: Uri,
    request: HeaderMap,
    body: Body,
) -> Answer {
    let scope = if query.replace { Scope::Admin } else { Scope::Profile };
    let holder = match allowed(&service, &request, scope, peer) {
        Ok(holder) => holder,
        Err(refusal) => return refused(&service, &refusal),
    };
    let Some(name) = name_of(uri.path()) else {
        return answer::refusal(StatusCode::BAD_REQUEST, "not a profile name");
    };
    let max = service.config.uploads.profile_mib;
    let Ok(_turn) = service.uploads.turns.try_acquire() else { return busy() };
    match receive(&service, &request, body, max, holder, peer).await {
        Err(answer) => answer,
        Ok(upload) => finish(&service, move |service| service.put(&name, &upload, query.replace)).await,
    }
}

/// `DELETE /v1.0/<name>`.
pub(crate) async fn delete(
    State(service): State<Arc<Service>>,
    Extension(Peer(peer)): Extension<Peer>,
    uri: Uri,
    request: HeaderMap,
) -> Answer {
    let holder = match allowed(&service, &request, Scope::Admin, peer) {
        Ok(holder) => holder,
        Err(refusal) => return refused(&service, &refusal),
    };
    let Some(name) = name_of(uri.path()) else {
        return answer::refusal(StatusCode::BAD_REQUEST, "not a profile name");
    };
    match service.blocking(move |service| service.delete(&name, &holder, peer)).await {
        Ok(Ok(())) => answer::document(StatusCode::OK, &json!({ "deleted": true })),
        Ok(Err(refusal)) => refused(&service, &refusal),
        Err(answer) => answer,
    }
}

/// Which PDB it is.
#[derive(Debug, Deserialize)]
pub(crate) struct PdbQuery {
    /// File name, e.g. `ntkrnlmp.pdb`; a PDB does not hold its own name.
    name: String,
}

/// `POST /upload/pdb?name=ntkrnlmp.pdb`.
pub(crate) async fn pdb(
    State(service): State<Arc<Service>>,
    Extension(Peer(peer)): Extension<Peer>,
    query: Result<Query<PdbQuery>, axum::extract::rejection::QueryRejection>,
    request: HeaderMap,
    body: Body,
) -> Answer {
    let holder = match allowed(&service, &request, Scope::Pdb, peer) {
        Ok(holder) => holder,
        Err(refusal) => return refused(&service, &refusal),
    };
    let Ok(Query(query)) = query else {
        return answer::refusal(StatusCode::BAD_REQUEST, "give the file's name: ?name=ntkrnlmp.pdb");
    };
    let Ok(_turn) = service.uploads.turns.try_acquire() else { return busy() };
    match receive(&service, &request, body, service.config.uploads.pdb_mib, holder, peer).await {
        Err(answer) => answer,
        Ok(upload) => finish(&service, move |service| service.put_pdb(&query.name, &upload)).await,
    }
}

/// What a kernel's symbols do not tell of themselves.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LinuxQuery {
    /// `uname -r`.
    release: Option<String>,
    /// GNU build-id in hex.
    build_id: Option<String>,
}

/// `POST /upload/linux`: a `vmlinux`, or the zip of a module or BTF with `System.map`.
pub(crate) async fn linux(
    State(service): State<Arc<Service>>,
    Extension(Peer(peer)): Extension<Peer>,
    Query(query): Query<LinuxQuery>,
    request: HeaderMap,
    body: Body,
) -> Answer {
    let holder = match allowed(&service, &request, Scope::Linux, peer) {
        Ok(holder) => holder,
        Err(refusal) => return refused(&service, &refusal),
    };
    let build_id = query.build_id.as_deref().map(BuildId::from_hex);
    if build_id == Some(None) {
        return answer::refusal(StatusCode::BAD_REQUEST, "build_id is not 16 to 64 hex digits");
    }
    let options =
        LinuxOptions { release: query.release, build_id: build_id.flatten(), ..LinuxOptions::default() };
    let Ok(_turn) = service.uploads.turns.try_acquire() else { return busy() };
    match receive(&service, &request, body, service.config.uploads.linux_mib, holder, peer).await {
        Err(answer) => answer,
        Ok(upload) => finish(&service, move |service| service.put_linux(options, &upload)).await,
    }
}

fn busy() -> Answer {
    answer::later(StatusCode::SERVICE_UNAVAILABLE, "too many uploads at a time", Duration::from_secs(2))
}

/// Whose request it is, if it may write.
fn allowed(
    service: &Service,
    request: &HeaderMap,
    scope: Scope,
    peer: std::net::IpAddr,
) -> Result<Holder, Refusal> {
    if service.uploads.tokens.is_empty() {
        return Err(Refusal::Closed);
    }
    service.uploads.tokens.check(request, scope).map_err(|denied| {
        service.log.event("upload denied", json!({ "peer": peer, "reason": denied.reason() }));
        Refusal::Denied(denied)
    })
}

fn refused(service: &Service, refusal: &Refusal) -> Answer {
    if let Refusal::Storage(error) = refusal {
        service.log.event("upload not stored", json!({ "error": error.to_string() }));
        return answer::later(refusal.status(), &refusal.to_string(), Duration::from_secs(5));
    }
    let mut answer = answer::refusal(refusal.status(), &refusal.to_string());
    if answer.status() == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// Brings a body to the disk.
async fn receive(
    service: &Arc<Service>,
    request: &HeaderMap,
    mut body: Body,
    max_mib: u64,
    holder: Holder,
    peer: std::net::IpAddr,
) -> Result<Upload, Answer> {
    let max = max_mib << 20;
    let too_large = || {
        let error = format!("larger than the limit of {max_mib} MiB");
        refused(service, &Refusal::TooLarge(error))
    };
    let announced = request.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let storage = |error| refused(service, &Refusal::Storage(error));
    let file = service.uploads.stage().map_err(|refusal| refused(service, &refusal))?;
    let mut out = tokio::fs::File::from_std(file.reopen().map_err(storage)?);
    let mut hasher = Sha256::new();
    let (start, mut received) = (Instant::now(), 0u64);
    let limits = &service.config.uploads;
    let silence = Duration::from_secs(limits.silence_seconds);
    let slow = || answer::refusal(StatusCode::REQUEST_TIMEOUT, "the body came too slowly");
    loop {
        let frame = match tokio::time::timeout(silence, body.frame()).await {
            Err(_) => return Err(slow()),
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(answer::refusal(StatusCode::BAD_REQUEST, "the body broke off"));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(bytes) = frame.into_data() else { continue };
        received += bytes.len() as u64;
        if received > max {
            return Err(too_large());
        }
        let due = start.elapsed().saturating_sub(silence).as_secs().saturating_mul(limits.slowest_kib << 10);
        if received < due {
            return Err(slow());
        }
        hasher.update(&bytes);
        out.write_all(&bytes).await.map_err(storage)?;
    }
    out.flush().await.map_err(storage)?;
    let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Upload { file, sha256, holder, peer })
}

/// Publishes on a blocking thread and tells what became of it.
async fn finish(
    service: &Arc<Service>,
    publish: impl FnOnce(&Service) -> Result<Stored, Refusal> + Send + 'static,
) -> Answer {
    let stored = match service.blocking(publish).await {
        Ok(Ok(stored)) => stored,
        Ok(Err(refusal)) => return refused(service, &refusal),
        Err(answer) => return answer,
    };
    let names: Vec<&str> = stored.names.iter().map(ProfileName::as_str).collect();
    service.log.event("upload stored", json!({ "names": names, "new": stored.created }));
    let status = if stored.created { StatusCode::CREATED } else { StatusCode::OK };
    let body = json!({ "names": names, "created": stored.created, "remarks": stored.remarks });
    let mut answer = answer::document(status, &body);
    if let Some(name) = names.first() {
        // Names have spaces and the like at most; a header cannot hold what is not ASCII.
        let path = percent_encoding::utf8_percent_encode(name, PATH);
        answer.headers_mut().insert(LOCATION, header(&format!("/v1.0/{path}.gz")));
    }
    answer
}

/// What is escaped in a path.
const PATH: &percent_encoding::AsciiSet =
    &percent_encoding::CONTROLS.add(b' ').add(b'#').add(b'%').add(b'?').add(b'"').add(b'<').add(b'>');
