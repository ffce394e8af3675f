//! `/lookup`: profile names by what is known of a binary or a kernel.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use profile::names::release_of_banner;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{self, Answer};
use crate::app::Service;
use crate::catalogue::{Catalogue, Entry, Key};

/// Most names in an answer.
const MAX_NAMES: usize = 100;

/// Longest value looked at, in bytes; banners have about 200.
const MAX_VALUE: usize = 4096;

/// What is known. Everything may be missing, but not all of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Evidence {
    /// GUID of a PDB, 32 hex digits with or without dashes and braces; the age may follow in hex.
    guid: Option<String>,
    /// Age of the PDB in decimal; without it every age fits.
    age: Option<u32>,
    /// File name of the PDB.
    pdb: Option<String>,
    /// GNU build-id in hex.
    build_id: Option<String>,
    /// The text of `linux_banner`.
    banner: Option<String>,
    /// `uname -r`.
    release: Option<String>,
    /// Version of the file: three or four numbers.
    file_version: Option<String>,
    /// SHA-256 of the profile's JSON text.
    sha256: Option<String>,
}

/// One question to the index.
struct Question {
    by: &'static str,
    value: String,
}

impl Question {
    fn key(&self) -> Option<Key<'_>> {
        let value = self.value.as_str();
        Some(match self.by {
            "guid" => Key::Guid(value),
            "pdb" => Key::Pdb(value),
            "build_id" => Key::BuildId(value),
            "banner" => Key::Banner(value),
            "release" => Key::Release(value),
            "file_version" => Key::Version(value),
            "sha256" => Key::Content(value),
            _ => return None,
        })
    }
}

impl Evidence {
    /// The questions in the order of their strength: from what names one build exactly to what many share.
    fn questions(&self) -> Result<Vec<Question>, &'static str> {
        let mut questions = Vec::new();
        let mut ask = |by, value: String| questions.push(Question { by, value });
        if let Some(hash) = clean(&self.sha256)? {
            ask("sha256", hash.to_ascii_lowercase());
        }
        if let Some(guid) = clean(&self.guid)? {
            let mut guid: String = guid.chars().filter(|c| !matches!(c, '-' | '{' | '}')).collect();
            guid.make_ascii_uppercase();
            if !(32..=40).contains(&guid.len()) || !guid.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err("guid is not 32 hex digits");
            }
            if let (Some(age), 32) = (self.age, guid.len()) {
                guid.push_str(&format!("{age:X}"));
            }
            ask("guid", guid);
        }
        if let Some(id) = clean(&self.build_id)? {
            ask("build_id", id.to_ascii_lowercase());
        }
        let banner = clean(&self.banner)?;
        if let Some(banner) = &banner {
            ask("banner", banner.clone());
        }
        let release = clean(&self.release)?;
        if let Some(release) = release.or_else(|| release_of_banner(banner.as_deref()?).map(str::to_owned)) {
            ask("release", release);
        }
        if let Some(version) = clean(&self.file_version)? {
            let three: Vec<&str> = version.split('.').take(3).collect();
            let short = three.join(".");
            ask("file_version", version.clone());
            if short != version {
                ask("file_version", short);
            }
        }
        if let Some(pdb) = clean(&self.pdb)? {
            ask("pdb", pdb.rsplit(['/', '\\']).next().unwrap_or_default().to_ascii_lowercase());
        }
        if questions.is_empty() {
            return Err("give guid, age, pdb, build_id, banner, release, file_version or sha256");
        }
        Ok(questions)
    }
}

/// The questions of a query, each with its kind, or why it is none.
pub(crate) fn questions_of(query: &str) -> Result<Vec<(&'static str, String)>, String> {
    let uri = format!("/lookup?{query}").parse().map_err(|_| "not a query".to_owned())?;
    let evidence = Query::<Evidence>::try_from_uri(&uri).map_err(|error| error.body_text())?;
    let questions = evidence.questions().map_err(str::to_owned)?;
    Ok(questions.into_iter().map(|question| (question.by, question.value)).collect())
}

fn clean(value: &Option<String>) -> Result<Option<String>, &'static str> {
    let Some(value) = value else { return Ok(None) };
    if value.len() > MAX_VALUE {
        return Err("a value is too long");
    }
    let value = value.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

/// `{"names": [{"name": ..., "by": ["guid"], ...}], "tried": [{"by": ..., "value": ..., "found": N}], ...}`, best first.
/// 200 even where nothing is found: the question was answered.
pub(crate) async fn lookup(
    State(service): State<Arc<Service>>,
    evidence: Result<Query<Evidence>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let questions = match evidence {
        Ok(Query(evidence)) => evidence.questions(),
        Err(error) => return answer::refusal(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let questions = match questions {
        Ok(questions) => questions,
        Err(reason) => return answer::refusal(StatusCode::BAD_REQUEST, reason),
    };
    match service.blocking(move |service| find(&service.store.catalogue, &questions)).await {
        Ok(value) => answer::document(StatusCode::OK, &value),
        Err(answer) => answer,
    }
}

fn find(catalogue: &Catalogue, questions: &[Question]) -> Value {
    let mut tried = Vec::new();
    // By name: the first question that found it, and all that did.
    let mut found: BTreeMap<String, (usize, Vec<&str>, Entry)> = BTreeMap::new();
    for (rank, question) in questions.iter().enumerate() {
        let Some(key) = question.key() else { continue };
        let entries = catalogue.find(key, MAX_NAMES + 1);
        tried.push(json!({ "by": question.by, "value": question.value, "found": entries.len() }));
        for entry in entries {
            let (_, by, _) = found.entry(entry.name.to_string()).or_insert_with(|| (rank, Vec::new(), entry));
            by.push(question.by);
        }
    }
    let mut found: Vec<_> = found.into_values().collect();
    found.sort_by_key(|(rank, by, _)| (*rank, usize::MAX - by.len()));
    let truncated = found.len() > MAX_NAMES;
    let names: Vec<Value> = found
        .into_iter()
        .take(MAX_NAMES)
        .map(|(_, by, entry)| {
            let mut keys = entry.keys();
            keys.insert("name".to_owned(), Value::from(entry.name.as_str()));
            keys.insert("by".to_owned(), Value::from(by));
            Value::Object(keys)
        })
        .collect();
    json!({ "names": names, "tried": tried, "truncated": truncated })
}
