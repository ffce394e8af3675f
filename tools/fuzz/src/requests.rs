//! What strangers send to a repo-server, and signatures.

use profile::names::ProfileName;
use repo_server::requests;
use repository::{PublicKey, SecretKey};

/// Reads `data` as a `Range` header; a part must lie inside the body.
pub fn range(data: &[u8]) {
    for len in [0, 1, 1000, u64::MAX] {
        if let Some(requests::Range::Part(start, end)) = requests::range(data, len) {
            assert!(start < end && end <= len);
        }
    }
}

/// Reads `data` as an `Accept-Encoding` header; what is chosen must be named, or everything be accepted.
pub fn encoding(data: &[u8]) {
    if let Some(chosen @ ("gzip" | "zstd")) = requests::encoding(data) {
        let text = String::from_utf8_lossy(data);
        assert!(text.contains(chosen) || text.contains('*'));
    }
}

/// Reads `data` as a query of `/lookup`; what is asked must be bounded.
pub fn lookup(data: &[u8]) {
    let Ok(questions) = requests::lookup(&String::from_utf8_lossy(data)) else { return };
    assert!(!questions.is_empty() && questions.iter().all(|(_, value)| value.len() <= 4096));
}

/// Reads `data` as the path of a URL; a name must not lead out of the tree.
pub fn name(data: &[u8]) {
    let Some(name) = requests::name(&String::from_utf8_lossy(data)) else { return };
    assert!(name.as_str().split('/').all(|part| !matches!(part, "" | "." | "..")));
    assert_eq!(ProfileName::new(name.as_str()), Ok(name));
}

/// Reads `data` as a signature and as keys; a secret key that is read must be written the same.
pub fn signature(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = PublicKey::parse(&text) {
        let _ = key.verify(data, &text);
    }
    if let Ok(key) = SecretKey::parse(&text) {
        let again = SecretKey::parse(&key.to_file()).expect("our own key");
        let signature = again.sign(data, &text);
        key.public().expect("a public key").verify(data, &signature).expect("our own signature");
    }
    // Made from the seed of zeros, so that the parser of signatures is reached.
    let key = PublicKey::parse("RWQAAAAAAAAAADtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop").expect("a key");
    let _ = key.verify(b"inventory", &text);
}
