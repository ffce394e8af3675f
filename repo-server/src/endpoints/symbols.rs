//! As a symbol store: `/<pdb>/<GUIDAGE>/<pdb>` for debuggers of Windows, `/buildid/<id>/debuginfo` for those of Linux.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use profile::names::BuildId;
use profile_gen::symbol_server::PdbFile;

use crate::answer::{self, Answer};
use crate::app::Service;
use crate::names::{guid_age, pdb_name};

/// A PDB, fetched from upstream where it is not here yet. Names in any case; what is not a PDB is not here.
pub(crate) async fn pdb(
    State(service): State<Arc<Service>>,
    Path((name, id, file)): Path<(String, String, String)>,
    request: HeaderMap,
) -> Answer {
    let wanted = || {
        let name = pdb_name(&name).filter(|_| name.eq_ignore_ascii_case(&file))?;
        PdbFile::new(&name, guid_age(&id)?).ok()
    };
    let missing = || answer::refusal(StatusCode::NOT_FOUND, "no such symbols");
    let Some(wanted) = wanted() else { return missing() };
    if let Some(path) = service.uploaded_pdb(&wanted) {
        let answer = send(&service, path, "application/octet-stream", &request).await;
        if answer.status() != StatusCode::NOT_FOUND {
            return answer;
        }
    }
    let Some(upstream) = &service.upstream else { return missing() };
    if !service.builds.allows(wanted.name()) {
        return missing();
    }
    match upstream.fetch(&wanted).await {
        Ok(fetched) => send(&service, fetched.path.clone(), "application/octet-stream", &request).await,
        Err(miss) => miss.answer(),
    }
}

/// The file with debug information that was uploaded for a kernel.
pub(crate) async fn debuginfo(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    request: HeaderMap,
) -> Answer {
    let path = BuildId::from_hex(&id).and_then(|id| service.debuginfo(&id));
    let Some(path) = path else { return answer::refusal(StatusCode::NOT_FOUND, "no such build-id") };
    let mut answer = send(&service, path, "application/x-elf", &request).await;
    if let Some(length) = answer.headers().get(CONTENT_LENGTH).cloned() {
        answer.headers_mut().insert(HeaderName::from_static("x-debuginfod-size"), length);
    }
    answer
}

async fn send(service: &Arc<Service>, path: PathBuf, kind: &'static str, request: &HeaderMap) -> Answer {
    let opened = service.blocking(move |service| service.files.open(&path)).await;
    match opened {
        Ok(Ok(Some(file))) => answer::file(file, kind, request),
        Ok(Ok(None)) => answer::refusal(StatusCode::NOT_FOUND, "no such file"),
        Ok(Err(_)) => answer::refusal(StatusCode::SERVICE_UNAVAILABLE, "the file cannot be read now"),
        Err(answer) => answer,
    }
}
