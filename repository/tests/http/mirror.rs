//! Mirrors, bundles, verification, signatures and garbage, against a server on the loopback and real trees.
//!
//! The truth of signatures is the `minisign` program, where it is installed; archives are read back as a search path.

use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use profile::Document;
use profile::names::{BuildId, ProfileName};
use repository::{
    Answer, Bundle, Config, Directory, GarbageKind, Inventory, InventoryEntry, Limits, MirrorOptions,
    Mirrored, Problem, SearchPath, SecretKey, Want, build_inventory, find_garbage, mirror, remove_garbage,
    sign, verify,
};

use crate::kernel;
use crate::server::{Page, Server};

const ID: &str = "3b43fad5034874490492495d552c0af6a5fab235";

fn name(text: &str) -> ProfileName {
    ProfileName::new(text).expect("a name")
}

fn index() -> Document {
    let mut document = Document::default();
    document.set("Type", "Index");
    document.set("ProfileClass", "LinuxIndex");
    document
}

/// A small repository: a kernel under its build-id, two names for it, another kernel, an index.
fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("scratch");
    let directory = Directory::new(root.path(), Limits::default());
    let mut by_id = kernel("by_id");
    by_id.set("BuildID", ID);
    let id = format!("Linux/BuildID/{ID}");
    for (name_text, document) in [
        (id.as_str(), &by_id),
        ("Linux/6.1.0-56-amd64", &Document::symlink(&id)),
        ("Newest", &Document::symlink("Linux/6.1.0-56-amd64")),
        ("Linux/other", &kernel("other")),
        ("Linux/index", &index()),
    ] {
        directory.put(&name(name_text), document).expect("stored");
    }
    root
}

fn serve(server: &Server, root: &Path) {
    let listing = fs::read(root.join("v1.0/inventory.gz")).expect("an inventory");
    let inventory = Inventory::parse(&listing, 1 << 20).expect("an inventory");
    server.serve("/v1.0/inventory.gz", Page::Tagged(listing, "\"i\""));
    for listed in inventory.entries.keys() {
        let bytes = fs::read(root.join(format!("v1.0/{listed}.gz"))).expect("a document");
        server.serve(&format!("/v1.0/{listed}.gz"), Page::Bare(bytes));
    }
    match fs::read(root.join("v1.0/inventory.gz.minisig")) {
        Ok(bytes) => server.serve("/v1.0/inventory.gz.minisig", Page::Bare(bytes)),
        Err(_) => server.remove("/v1.0/inventory.gz.minisig"),
    }
}

fn run(url: &str, directory: &Path, prune: bool) -> Mirrored {
    let options = MirrorOptions { jobs: 3, prune, limits: Limits::default(), on_network: None };
    mirror(url, directory, options, &|_, _| {}).expect("a mirror")
}

fn search(entry: &str) -> SearchPath {
    SearchPath::open(&Config { entries: vec![entry.to_owned()], ..Config::default() }).expect("a path")
}

#[test]
fn a_mirror_holds_the_same_and_asks_again_only_for_what_changed() {
    let (source, copy) = (tree(), tempfile::tempdir().expect("scratch"));
    let server = Server::start();
    serve(&server, source.path());
    let first = run(&server.base(), copy.path(), false);
    assert_eq!((first.listed, first.fetched, first.current), (5, 5, 0), "{first:?}");
    assert_eq!(verify(copy.path(), None, &Limits::default()).expect("an inventory").intact, 5);
    for listed in ["Newest", "Linux/other"] {
        let file = |root: &Path| fs::read(root.join(format!("v1.0/{listed}.gz"))).expect("a document");
        assert_eq!(file(source.path()), file(copy.path()), "{listed}");
    }
    server.requests();
    let second = run(&server.base(), copy.path(), false);
    assert_eq!((second.fetched, second.current), (0, 5));
    let asked = server.requests();
    assert_eq!(asked, ["GET /v1.0/inventory.gz [etag \"i\"] 304", "GET /v1.0/inventory.gz.minisig 404"]);

    let directory = Directory::new(source.path(), Limits::default());
    directory.put(&name("Linux/other"), &kernel("changed")).expect("stored");
    directory.put(&name("Linux/new"), &kernel("new")).expect("stored");
    server.serve("/v1.0/inventory.gz", Page::Status(404));
    serve(&server, source.path());
    let listing = fs::read(source.path().join("v1.0/inventory.gz")).expect("an inventory");
    server.serve("/v1.0/inventory.gz", Page::Tagged(listing, "\"i2\""));
    let third = run(&server.base(), copy.path(), false);
    assert_eq!((third.fetched, third.current), (2, 4), "{third:?}");
    assert!(search(copy.path().to_str().expect("text")).load_named(&name("Linux/other")).is_ok());
}

#[test]
fn what_is_not_what_the_inventory_says_is_refused_and_named() {
    let (source, copy) = (tree(), tempfile::tempdir().expect("scratch"));
    let server = Server::start();
    serve(&server, source.path());
    let forged = profile::gzip(kernel("forged").to_canonical_json().as_bytes());
    server.serve("/v1.0/Linux/other.gz", Page::Bare(forged));
    server.remove("/v1.0/Newest.gz");
    let done = run(&server.base(), copy.path(), false);
    let failed: Vec<&str> = done.failed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(failed, ["Linux/other", "Newest"]);
    assert!(!copy.path().join("v1.0/Linux/other.gz").exists());
    let verified = verify(copy.path(), None, &Limits::default()).expect("an inventory");
    assert_eq!((verified.listed, verified.intact), (5, 3));
    // The next run gets what was missing, and only that.
    serve(&server, source.path());
    let again = run(&server.base(), copy.path(), false);
    assert_eq!((again.fetched, again.current, again.failed.len()), (2, 3, 0));
}

#[test]
fn pruning_removes_what_is_no_longer_listed() {
    let (source, copy) = (tree(), tempfile::tempdir().expect("scratch"));
    let server = Server::start();
    serve(&server, source.path());
    run(&server.base(), copy.path(), false);
    fs::remove_file(source.path().join("v1.0/Linux/other.gz")).expect("removed");
    build_inventory(source.path(), &Limits::default()).expect("an inventory");
    let listing = fs::read(source.path().join("v1.0/inventory.gz")).expect("an inventory");
    server.serve("/v1.0/inventory.gz", Page::Bare(listing));
    assert!(run(&server.base(), copy.path(), false).pruned.is_empty());
    assert!(copy.path().join("v1.0/Linux/other.gz").exists());
    assert_eq!(run(&server.base(), copy.path(), true).pruned, [name("Linux/other")]);
    assert!(!copy.path().join("v1.0/Linux/other.gz").exists());
}

#[test]
fn a_transfer_that_breaks_off_is_taken_up_where_it_stopped() {
    let (source, copy) = (tree(), tempfile::tempdir().expect("scratch"));
    let document = name("Linux/large");
    let mut large = kernel("large");
    for number in 0..20_000u64 {
        // Numbers that do not compress well, so that the body is larger than any buffer on the way.
        large.constants.insert(format!("s{:x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), number);
    }
    Directory::new(source.path(), Limits::default()).put(&document, &large).expect("stored");
    let bytes = fs::read(source.path().join("v1.0/Linux/large.gz")).expect("a document");
    let (address, ranges) = breaking_server(source.path().to_owned());
    let done = run(&format!("http://{address}"), copy.path(), false);
    assert_eq!(done.failed, [], "the rest was asked for");
    assert_eq!(fs::read(copy.path().join("v1.0/Linux/large.gz")).expect("a document"), bytes);
    assert_eq!(
        ranges.try_iter().collect::<Vec<_>>(),
        [bytes.len() / 2],
        "one request, from where it stopped"
    );
}

/// A server of a tree that closes the connection half way through a body, unless it is asked for a range. Tells where
/// the ranges asked for start.
fn breaking_server(root: PathBuf) -> (SocketAddr, Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("an address");
    let (tell, told) = channel();
    let answer = move |mut stream: TcpStream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
        let path = head
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .replace("/linux/", "/Linux/")
            .replace("/newest", "/Newest");
        let path = path.replace("/buildid/", "/BuildID/");
        let Ok(body) = fs::read(root.join(path.trim_start_matches('/'))) else {
            return stream
                .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        };
        let range =
            head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
        let tag = "etag: \"1\"\r\nconnection: close";
        let (head, body) = match range {
            Some(start) => {
                tell.send(start).expect("a listener");
                assert!(head.contains("if-range: \"1\""), "{head}");
                let length = body.len();
                let range = format!("content-range: bytes {start}-{}/{length}", length - 1);
                (
                    format!("206 Partial Content\r\n{range}\r\ncontent-length: {}", length - start),
                    &body[start..],
                )
            }
            None if body.len() > 100_000 => {
                (format!("200 OK\r\ncontent-length: {}", body.len()), &body[..body.len() / 2])
            }
            None => (format!("200 OK\r\ncontent-length: {}", body.len()), &body[..]),
        };
        stream.write_all(format!("HTTP/1.1 {head}\r\n{tag}\r\n\r\n").as_bytes())?;
        stream.write_all(body)
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream);
        }
    });
    (address, told)
}

#[test]
fn a_signed_repository_gives_only_what_is_signed() {
    let (source, copy) = (tree(), tempfile::tempdir().expect("scratch"));
    let (key, other) = (SecretKey::generate().expect("a key"), SecretKey::generate().expect("a key"));
    let (public, wrong) = (key.public().expect("a key"), other.public().expect("a key"));
    sign(source.path(), &key, &Limits::default()).expect("signed");
    let server = Server::start();
    serve(&server, source.path());
    let required = |place: &str, key: &dyn std::fmt::Display| format!("{place}#minisign={key}");
    assert!(run(&required(&server.base(), &public), copy.path(), false).failed.is_empty());
    let refused = mirror(
        &required(&server.base(), &wrong),
        copy.path(),
        MirrorOptions { jobs: 1, prune: false, limits: Limits::default(), on_network: None },
        &|_, _| {},
    );
    assert!(refused.is_err_and(|error| error.to_string().contains("signature")));

    let copied = copy.path().to_str().expect("text");
    let wanted = name("Newest");
    for place in [copied, &server.base()] {
        assert!(search(&required(place, &public)).load_named(&wanted).is_ok(), "{place}");
        for key in [wrong.to_string(), "nonsense".to_owned()] {
            let error = search(&required(place, &key)).load_named(&wanted).expect_err("not by this key");
            assert!(matches!(&error.trace[0].answer, Answer::Refused(_)), "{error:?}");
        }
    }
    // A document changed after the signature, one that came after it, and a signature that is gone.
    let changed = profile::gzip(kernel("changed").to_canonical_json().as_bytes());
    fs::write(copy.path().join("v1.0/Linux/other.gz"), &changed).expect("written");
    fs::write(copy.path().join("v1.0/Linux/late.gz"), &changed).expect("written");
    let path = search(&required(copied, &public));
    let answer =
        |text: &str| path.load_named(&name(text)).expect_err("refused").trace.pop().expect("asked").answer;
    assert!(matches!(answer("Linux/other"), Answer::Damaged(_)));
    assert_eq!(answer("Linux/late"), Answer::NotListed);
    let verified = verify(copy.path(), Some(&public), &Limits::default()).expect("an inventory");
    assert!(matches!(verified.signature, Some(Ok(_))));
    assert_eq!(
        verified.problems,
        [(name("Linux/late"), Problem::Unlisted), (name("Linux/other"), Problem::Changed)]
    );
    fs::remove_file(copy.path().join("v1.0/inventory.gz.minisig")).expect("removed");
    let error = search(&required(copied, &public)).load_named(&wanted).expect_err("unsigned");
    assert!(matches!(&error.trace[0].answer, Answer::Refused(reason) if reason.contains("not signed")));
    assert!(search(copied).load_named(&wanted).is_ok(), "no key is required");
}

#[test]
fn the_minisign_program_agrees() {
    if Command::new("minisign").arg("-v").output().is_err() {
        eprintln!("skipped: no minisign program on this machine");
        return;
    }
    let root = tree();
    let key = SecretKey::generate().expect("a key");
    sign(root.path(), &key, &Limits::default()).expect("signed");
    let inventory = root.path().join("v1.0/inventory.gz");
    let check = |key: &SecretKey| {
        let public = key.public().expect("a key").to_string();
        Command::new("minisign").args(["-V", "-P", &public, "-m"]).arg(&inventory).output().expect("minisign")
    };
    let output = check(&key);
    assert!(output.status.success(), "{output:?}");
    assert!(!check(&SecretKey::generate().expect("a key")).status.success());
    // And the other way round: it signs with a key of ours, and we accept it.
    let secret = root.path().join("secret.key");
    fs::write(&secret, key.to_file()).expect("written");
    let by_it = Command::new("minisign").args(["-S", "-s"]).arg(&secret).arg("-m").arg(&inventory).output();
    let by_it = by_it.expect("minisign");
    assert!(by_it.status.success(), "{by_it:?}");
    let public = key.public().expect("a key");
    let verified = verify(root.path(), Some(&public), &Limits::default()).expect("an inventory");
    assert_eq!(verified.signature, Some(Ok(public)));
}

fn written(bundle: &Bundle, key: Option<&SecretKey>) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    bundle.write(&mut bytes, key).expect("written");
    bytes.into_inner()
}

#[test]
fn a_bundle_works_offline_by_every_name_and_is_the_same_twice() {
    let root = tree();
    let key = SecretKey::generate().expect("a key");
    let id = BuildId::from_hex(ID).expect("a build-id");
    let bundle = search(root.path().to_str().expect("text")).bundle(&[Want::BuildId(id)]).expect("a bundle");
    let names: Vec<&str> = bundle.documents().map(|(name, _)| name.as_str()).collect();
    let by_id = format!("Linux/BuildID/{ID}");
    assert_eq!(names, ["Linux/6.1.0-56-amd64", by_id.as_str(), "Linux/index", "Newest"]);
    let bytes = written(&bundle, Some(&key));
    // Another directory with the same documents, written later, in another order.
    let again = tempfile::tempdir().expect("scratch");
    let directory = Directory::new(again.path(), Limits::default());
    std::thread::sleep(Duration::from_millis(20));
    for document in ["Newest", "Linux/index", "Linux/6.1.0-56-amd64", by_id.as_str()] {
        let loaded = Directory::new(root.path(), Limits::default()).get(&name(document)).expect("a document");
        let parsed = profile::Profile::parse(&loaded.bytes, &profile::Limits::default()).expect("a document");
        directory.put(&name(document), &parsed.to_document().expect("whole")).expect("stored");
    }
    let second = search(again.path().to_str().expect("text")).bundle(&[Want::Name(name("Newest"))]);
    assert_eq!(written(&second.expect("a bundle"), Some(&key)), bytes, "bytes depend on the documents alone");

    let file = again.path().join("bundle.zip");
    fs::write(&file, &bytes).expect("written");
    let entry = format!("{}#minisign={}", file.display(), key.public().expect("a key"));
    let offline = SearchPath::open(&Config { entries: vec![entry], offline: true, ..Config::default() });
    let offline = offline.expect("a path");
    let loaded = offline.load_named(&name("Newest")).expect("in the bundle");
    assert_eq!((loaded.chain.len(), loaded.profile.symbol("by_id")), (2, Some(1)));
    let public = key.public().expect("a key");
    let verified = verify(&file, Some(&public), &Limits::default()).expect("an inventory");
    assert_eq!((verified.intact, verified.problems), (4, vec![]));
}

#[test]
fn what_a_bundle_cannot_have_is_said() {
    let root = tree();
    let wants =
        ["Linux/none", "F8E2A8B5C9B74BF4A6E4A48F180099942", "00112233445566778899aabbccddeeff00112233"];
    let wants: Vec<Want> = wants.iter().map(|text| Want::parse(text).expect("a want")).collect();
    assert!(matches!(wants[..], [Want::Name(_), Want::Guid(_), Want::BuildId(_)]));
    let bundle = search(root.path().to_str().expect("text")).bundle(&wants).expect("a bundle");
    assert_eq!(bundle.documents().count(), 0);
    assert_eq!(bundle.missing().len(), 3, "{:?}", bundle.missing());
}

#[test]
fn a_bundle_of_the_originals_profiles_has_the_indexes() {
    let data = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/rekall"));
    if !data.is_dir() {
        eprintln!("skipped: no test data at {}", data.display());
        return;
    }
    let path = search(data.to_str().expect("text"));
    let want = Want::parse("f8e2a8b5c9b74bf4a6e4a48f180099942").expect("a GUID");
    let bundle = path.bundle(&[want]).expect("a bundle");
    let names: Vec<&str> = bundle.documents().map(|(name, _)| name.as_str()).collect();
    let guid = "nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942";
    assert_eq!(names, [guid, "nt/eprocess_index", "nt/index"]);
    let scratch = tempfile::tempdir().expect("scratch");
    let file = scratch.path().join("b.zip");
    fs::write(&file, written(&bundle, None)).expect("written");
    let loaded = search(file.to_str().expect("text")).load_named(&name(guid)).expect("in the bundle");
    assert!(loaded.profile.has_struct("_EPROCESS"));
}

#[test]
fn garbage_is_found_and_the_rest_left_alone() {
    let root = tree();
    let names = root.path().join("v1.0");
    fs::write(names.join(".rekal-abc.tmp"), b"half").expect("written");
    fs::write(names.join("Linux/late.gz"), profile::gzip(kernel("l").to_canonical_json().as_bytes()))
        .expect("written");
    let dangling = Document::symlink("Linux/none").to_canonical_json();
    fs::write(names.join("Dangling"), dangling).expect("written");
    let cache = root.path().join("remote/host-1");
    fs::create_dir_all(cache.join("records/Linux")).expect("made");
    fs::create_dir_all(cache.join("parts")).expect("made");
    fs::write(cache.join("records/Linux/gone.json"), b"{}").expect("written");
    fs::write(cache.join("parts/x.gz.part"), b"\"e\"\nhalf").expect("written");
    let limits = Limits::default();
    let found = find_garbage(root.path(), Duration::ZERO, &limits).expect("a directory");
    let kinds: Vec<GarbageKind> = found.iter().map(|garbage| garbage.kind).collect();
    let all = [
        GarbageKind::Temporary,
        GarbageKind::Part,
        GarbageKind::Orphan,
        GarbageKind::Dangling,
        GarbageKind::Unlisted,
    ];
    assert_eq!(kinds, all, "{found:?}");
    let young = find_garbage(root.path(), Duration::from_secs(3600), &limits).expect("a directory");
    assert_eq!(young.len(), 3, "what is being written is not garbage: {young:?}");
    for garbage in found.iter().filter(|garbage| garbage.kind.is_certain()) {
        remove_garbage(garbage).expect("removed");
    }
    let left = find_garbage(root.path(), Duration::ZERO, &limits).expect("a directory");
    assert_eq!(left.len(), 2);
    assert_eq!(verify(root.path(), None, &limits).expect("an inventory").intact, 5);
}

#[test]
fn an_inventory_without_hashes_is_not_taken_for_verified() {
    let root = tree();
    let mut inventory = Inventory::default();
    inventory
        .entries
        .insert(name("Linux/other"), InventoryEntry { last_modified: 1.0, ..Default::default() });
    fs::write(root.path().join("v1.0/inventory.gz"), inventory.to_gzip()).expect("written");
    let verified = verify(root.path(), None, &Limits::default()).expect("an inventory");
    assert_eq!(verified.intact, 0);
    assert!(verified.problems.contains(&(name("Linux/other"), Problem::Unhashed)));
    let key = SecretKey::generate().expect("a key");
    sign(root.path(), &key, &Limits::default()).expect("signed");
    let entry = format!("{}#minisign={}", root.path().display(), key.public().expect("a key"));
    let error = search(&entry).load_named(&name("Linux/other")).expect_err("no hash to compare with");
    assert!(matches!(&error.trace[0].answer, Answer::Refused(reason) if reason.contains("SHA-256")));
}
