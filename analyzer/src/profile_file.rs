//! Profiles that commands make: the rows that report on them, and the files they go to.

use std::io::Write as _;
use std::path::PathBuf;

use profile::Metadata;
use profile_gen::pdb::ConvertReport;

use crate::error::Error;
use crate::output::OutputFile;
use crate::row;
use crate::session::Session;

row! {
    pub struct Report {
        /// What the row is about: `types`, `missing`, `written` and so on.
        item: &'static str,
        /// How many, where it is a number.
        count: Option<u64>,
        /// Which, and for whom it matters.
        comment: String,
    }
}

impl Report {
    /// A row with a number.
    #[must_use]
    pub fn count(item: &'static str, count: usize, comment: impl Into<String>) -> Self {
        Self { item, count: Some(count as u64), comment: comment.into() }
    }

    /// A row without one.
    #[must_use]
    pub fn text(item: &'static str, comment: impl Into<String>) -> Self {
        Self { item, count: None, comment: comment.into() }
    }

    /// A file that was written.
    #[must_use]
    pub fn written(path: &std::path::Path) -> Self {
        Self::text("written", path.display().to_string())
    }
}

/// Rows about the profile of a PDB; what could not be read of it becomes notes.
#[must_use]
pub fn of_pdb(session: &Session, report: &ConvertReport, metadata: &Metadata) -> Vec<Report> {
    report.losses().into_iter().for_each(|loss| session.notes.partial(loss));
    report.remarks().into_iter().for_each(|remark| session.notes.info(remark));
    let mut rows = Vec::new();
    for (item, key) in [("guid", "GUID_AGE"), ("arch", "arch"), ("class", "ProfileClass")] {
        if let Some(text) = metadata.get(key).and_then(|value| value.as_str()) {
            rows.push(Report::text(item, text));
        }
    }
    let types =
        if report.no_types { "none: the file is stripped of private symbols" } else { "structs and unions" };
    rows.push(Report::count("types", report.structs, types));
    rows.push(Report::count("enums", report.enums, "enumerations"));
    rows.push(Report::count("symbols", report.symbols, format!("of {} public symbols", report.publics)));
    for (leaf, count) in &report.unknown_leaves {
        rows.push(Report::count(
            "unknown",
            usize::try_from(*count).unwrap_or(usize::MAX),
            format!("type records of kind {leaf:#06x}"),
        ));
    }
    rows
}

/// Writes a document's text, gzip-compressed if the file's name ends in `.gz`, and puts the file in its place.
pub fn write(mut file: OutputFile, json: &str) -> Result<PathBuf, Error> {
    let path = file.path().to_owned();
    if path.extension().is_some_and(|extension| extension == "gz") {
        file.write_all(&profile::gzip(json.as_bytes())).map_err(Error::output)?;
    } else {
        file.write_all(json.as_bytes()).map_err(Error::output)?;
    }
    file.commit()?;
    Ok(path)
}
