//! The server on the loopback: the requests original clients make, literally, and rekal's own search path.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod builds;
mod original;
mod page;
mod server;
mod signed;
mod tls;
mod upload;
mod upstream;
mod wire;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use profile::names::{BuildId, ProfileName};
use profile::{Document, Profile};
use repository::{Config, Inventory, Limits, LinuxEvidence, SearchPath};

use server::Server;

/// A folder of the test data: below `REKAL_TEST_DATA`, or beside the checkout. It may be absent.
fn data(folder: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from).join(folder)
}

fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

fn kernel(symbol: &str) -> Document {
    let mut document = Document::default();
    document.set("Type", "Profile");
    document.set("ProfileClass", "Linux");
    document.set("BuildID", "3b43fad5034874490492495d552c0af6a5fab235");
    document.constants.insert(symbol.to_owned(), 1);
    document
}

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(path, bytes).expect("a file");
}

/// A repository with a compressed profile, a plain one and a symlink, without a stored inventory.
fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("scratch");
    write(root.path(), "v1.0/Linux/fixture.gz", &profile::gzip(kernel("one").to_canonical_json().as_bytes()));
    write(root.path(), "v1.0/Linux/plain", kernel("plain").to_canonical_json().as_bytes());
    write(root.path(), "v1.0/LinAlias", Document::symlink("Linux/fixture").to_canonical_json().as_bytes());
    write(root.path(), "v1.0/.secret", b"{}");
    write(root.path(), "v1.0/notes", b"not a document");
    write(root.path(), "outside", b"{}");
    root
}

fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::bufread::GzDecoder::new(bytes)
        .read_to_string(&mut text)
        .expect("gzip, as original clients require");
    text
}

#[test]
fn an_original_client_gets_what_it_needs() {
    let root = tree();
    let server = Server::start(root.path());
    // Cold: the inventory, then the profile; a base with a trailing slash doubles the slash.
    for base in ["", "/"] {
        let answer = server.get(&format!("{base}/v1.0/inventory.gz"));
        assert_eq!(answer.status, 200);
        let document = Profile::parse_text(gunzip(&answer.body)).expect("a document");
        assert_eq!(
            (document.metadata_str("Type"), document.metadata_str("ProfileClass")),
            (Some("Inventory"), Some("Inventory"))
        );
        let inventory = Inventory::parse(&answer.body, 1 << 20).expect("an inventory");
        let listed: Vec<_> = inventory.entries.keys().map(ToString::to_string).collect();
        assert_eq!(listed, ["LinAlias", "Linux/fixture", "Linux/plain"]);
        assert!(inventory.entries.values().all(|entry| entry.last_modified > 1.0e9));

        let answer = server.get(&format!("{base}/v1.0/Linux/fixture.gz"));
        assert_eq!(gunzip(&answer.body), kernel("one").to_canonical_json());
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(answer.header("content-type"), Some("application/gzip"));
    }
    // Symlink: one request per hop.
    let alias = Profile::parse_text(gunzip(&server.get("/v1.0/LinAlias.gz").body)).expect("a document");
    assert_eq!(alias.metadata_str("Target"), Some("Linux/fixture"));
    // Stored plain: both addresses answer, each in its form.
    assert_eq!(gunzip(&server.get("/v1.0/Linux/plain.gz").body), kernel("plain").to_canonical_json());
    assert_eq!(server.get("/v1.0/Linux/plain").body, kernel("plain").to_canonical_json().into_bytes());
    assert_eq!(server.get("/v1.0/Linux/fixture").body, kernel("one").to_canonical_json().into_bytes());
    // Missing: 404 for both, so the client moves on.
    assert_eq!((server.get("/v1.0/Linux/none.gz").status, server.get("/v1.0/Linux/none").status), (404, 404));
    // Whatever encoding a client would accept, `.gz` is the file.
    let answer = server.ask("GET", "/v1.0/Linux/fixture.gz", "Accept-Encoding: gzip, br\r\n");
    assert_eq!((answer.header("content-encoding"), answer.body.starts_with(b"\x1f\x8b")), (None, true));
}

#[test]
fn nothing_but_documents_below_the_root_is_served() {
    let root = tree();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc", root.path().join("v1.0/etc")).expect("a link");
    let server = Server::start(root.path());
    for target in [
        "/v1.0/../outside",
        "/v1.0/%252e%252e/outside",
        "/v1.0/.%2e/outside",
        "/v1.0/%2e./outside",
        "/v1.0/..%252foutside",
        "/v1.0/..%c0%afoutside",
        "/v1.0/..%ef%bc%8foutside",
        "/v1.0/....//outside",
        "/v1.0/..;/outside",
        "/v1.0/Linux/../../outside",
        "/v1.0/Linux/%2e%2e/%2e%2e/outside",
        "//v1.0/../outside",
        "//v1.0/%2e%2e%2foutside",
        "/%2e%2e/outside",
        "/v1.0/file:///etc/passwd",
        "/v1.0/C:%5cwindows",
        "/v1.0/%00",
        "/v1.0/%ff%fe",
        "/v1.0/%",
        "/v1.0/%zz",
        "/v1.0/Linux%2ffixture%00.gz",
        "/buildid/../../etc/passwd/debuginfo",
        "/buildid/%2e%2e%2f%2e%2e/debuginfo",
        "/buildid/3b43fad5034874490492495d552c0af6a5fab235/debuginfo",
        "/ntkrnlmp.pdb/..%2f..%2fetc/ntkrnlmp.pdb",
        "/..%2f..%2fetc%2fpasswd/F8E2A8B5C9B74BF4A6E4A48F180099942/passwd",
        "/builds/..%2f..%2foutside",
        "/v1.0/%2e%2e/outside",
        "/v1.0/..%2foutside",
        "/v1.0/Linux/..%2f..%2foutside",
        "/v1.0/..%5coutside",
        "/v1.0//etc/passwd",
        "/v1.0/%2fetc%2fpasswd",
        "/v1.0/etc/passwd",
        "/v1.0/etc/hostname.gz",
        "/v1.0/.secret",
        "/v1.0/notes",
        "/v1.0/notes.gz",
        "/v1.0/Linux",
        "/v1.0/Linux/",
        "/v1.0/a%00b",
        "/v1.0/",
        "/v1.0",
        "/outside",
    ] {
        let answer = server.get(target);
        assert_eq!(answer.status, 404, "{target}");
        assert!(answer.body.len() < 100, "{target}");
    }
    assert_eq!(server.get("/healthz").body, b"ok\n");
    assert_eq!(server.ask("POST", "/v1.0/Linux/fixture.gz", "Content-Length: 0\r\n").status, 405);
    let long = server.get(&format!("/v1.0/{}", "a".repeat(100_000)));
    assert!(matches!(long.status, 414 | 431), "{}", long.head);
}

#[test]
fn conditional_requests_and_head_cost_no_body() {
    let root = tree();
    let server = Server::start(root.path());
    for target in ["/v1.0/Linux/fixture.gz", "/v1.0/Linux/fixture", "/v1.0/inventory.gz"] {
        let first = server.get(target);
        let (etag, date) =
            (first.header("etag").expect("an ETag"), first.header("last-modified").expect("a date"));
        assert!(etag.starts_with('"') && etag.len() == 66, "a strong tag: {etag}");
        for condition in [
            format!("If-None-Match: {etag}\r\n"),
            format!("If-None-Match: \"x\", W/{etag}\r\n"),
            "If-None-Match: *\r\n".to_owned(),
            format!("If-Modified-Since: {date}\r\n"),
            format!("If-None-Match: {etag}\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
        ] {
            let answer = server.ask("GET", target, &condition);
            assert_eq!((answer.status, answer.body.len()), (304, 0), "{target}: {condition}");
            assert_eq!(answer.header("etag"), Some(etag));
        }
        for condition in [
            "If-None-Match: \"x\"\r\n".to_owned(),
            format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n"),
            "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(),
            "If-Modified-Since: nonsense\r\n".to_owned(),
        ] {
            assert_eq!(server.ask("GET", target, &condition).status, 200, "{target}: {condition}");
        }
        let head = server.ask("HEAD", target, "");
        assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, Some(etag)));
        assert_eq!(head.header("content-length"), first.header("content-length"));
    }
    let gzip = server.get("/v1.0/Linux/fixture.gz");
    let plain = server.get("/v1.0/Linux/fixture");
    assert_ne!(gzip.header("etag"), plain.header("etag"), "a strong tag names the bytes, not the document");
}

#[test]
fn rekal_finds_fetches_and_keeps_profiles() {
    let root = tree();
    let mut server = Server::start(root.path());
    let cache = tempfile::tempdir().expect("scratch");
    let entries = vec![format!("http://{}/", server.address)];
    let config = Config { entries, cache_dir: Some(cache.path().to_owned()), ..Config::default() };
    let session = || SearchPath::open(&config).expect("a search path");
    let evidence = LinuxEvidence {
        build_id: BuildId::from_hex("3b43fad5034874490492495d552c0af6a5fab235"),
        ..LinuxEvidence::default()
    };
    let path = session();
    let found = path.find_linux(&evidence).expect("by the recorded build-id");
    assert_eq!(found[0].name.as_str(), "Linux/fixture");
    assert_eq!(path.load_named(&found[0].name).expect("fetched").profile.symbol("one"), Some(1));
    assert_eq!(path.load("LinAlias").expect("by symlink").name, "Linux/fixture");
    assert_eq!(path.load("Linux/plain").expect("stored plain").profile.symbol("plain"), Some(1));
    server.stop();
    assert_eq!(session().load("LinAlias").expect("from the cache").profile.symbol("one"), Some(1));
}

#[test]
fn a_stored_inventory_is_completed_and_corrected() {
    let root = tree();
    repository::build_inventory(root.path(), &Limits::default()).expect("an inventory");
    fs::remove_file(root.path().join("v1.0/LinAlias")).expect("gone");
    write(root.path(), "v1.0/Linux/dropped", kernel("dropped").to_canonical_json().as_bytes());
    // Replaced by hand after the inventory was built.
    let replaced = root.path().join("v1.0/Linux/plain");
    fs::write(&replaced, kernel("replaced").to_canonical_json()).expect("a file");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    fs::File::options()
        .write(true)
        .open(&replaced)
        .and_then(|file| file.set_modified(later))
        .expect("a time");
    let server = Server::start(root.path());
    let inventory = Inventory::parse(&server.get("/v1.0/inventory.gz").body, 1 << 20).expect("an inventory");
    let listed: Vec<_> = inventory.entries.keys().map(ToString::to_string).collect();
    assert_eq!(listed, ["Linux/dropped", "Linux/fixture", "Linux/plain"]);
    let plain = inventory.get(&ProfileName::new("Linux/plain").expect("a name")).expect("listed");
    assert_eq!(plain.sha256(), Some(kernel("replaced").content_hash().as_str()));
}

#[test]
fn stopping_lets_idle_connections_go() {
    let root = tree();
    let mut server = Server::start(root.path());
    let mut idle = TcpStream::connect(server.address).expect("a connection");
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request");
    let mut answer = [0; 512];
    assert!(idle.read(&mut answer).expect("an answer") > 0);
    let start = std::time::Instant::now();
    server.stop();
    assert!(
        start.elapsed() < std::time::Duration::from_secs(9),
        "the wait for running answers was not needed"
    );
}
