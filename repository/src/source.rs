//! What the search path needs of a repository, whatever it is made of.

use profile::Profile;
use profile::names::ProfileName;
use sha2::{Digest as _, Sha256};

use crate::config::Limits;
use crate::find::{Candidate, LinuxEvidence};
use crate::inventory::Inventory;
use crate::trace::{Answer, Trace};

/// A document read from a repository.
pub(crate) struct Found {
    pub(crate) profile: Profile,
    /// The file, member or URL that held it.
    pub(crate) source: String,
}

/// One entry of the search path.
pub(crate) trait Source: Send + Sync {
    /// What to call it in messages.
    fn label(&self) -> &str;

    /// Reads one document; what was answered goes to `trace`.
    fn read(&self, name: &ProfileName, trace: &mut Trace) -> Option<Found>;

    /// Whether it has the name, without reading the document.
    fn has(&self, name: &ProfileName) -> Answer;

    /// What it holds, with the metadata that is needed to recognise Linux kernels.
    fn inventory(&self) -> Result<&Inventory, Answer>;

    /// The stored inventory and its signature, as they are.
    fn signed_inventory(&self) -> Result<Signed, Answer>;

    /// Candidates that only the repository itself can find; most are files and find nothing.
    fn ask(&self, _evidence: &LinuxEvidence) -> Result<Vec<Candidate>, Answer> {
        Ok(Vec::new())
    }
}

/// The bytes of `inventory.gz`, and the text beside it.
pub(crate) struct Signed {
    pub(crate) inventory: Vec<u8>,
    /// `None` where there is no signature.
    pub(crate) signature: Option<String>,
}

/// Decodes a document, gzip-compressed or plain.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Profile, Answer> {
    Profile::parse(bytes, &limits.profile()).map_err(Answer::damaged)
}

/// Decodes a document and hashes its JSON text; for canonically written documents that is the content hash.
pub(crate) fn decode_hashed(bytes: &[u8], limits: &Limits) -> Result<(Profile, String), Answer> {
    let text = profile::json_text(bytes, &limits.profile()).map_err(Answer::damaged)?;
    let sha256 = sha256_hex(text.as_bytes());
    Ok((Profile::parse_text(text).map_err(Answer::damaged)?, sha256))
}

/// SHA-256 in lower-case hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
