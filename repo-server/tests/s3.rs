//! A repository in a bucket: the program against a small server that speaks the part of Amazon's S3 API that is needed
//! (ListObjectsV2 in pages, GetObject, HeadObject, PutObject, DeleteObject; its XML as the API reference has it).
//!
//! `cargo nextest run -p repo-server --features s3`

#![cfg(feature = "s3")]
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use profile::Document;
use repository::Inventory;

/// Keys of one page of a list; Amazon's has 1000.
const PAGE: usize = 2;

#[derive(Default)]
struct Bucket {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What was asked: method and path.
    asked: Mutex<Vec<String>>,
    down: AtomicBool,
}

impl Bucket {
    fn put(&self, key: &str, bytes: &[u8]) {
        self.objects.lock().expect("objects").insert(key.to_owned(), bytes.to_vec());
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.objects.lock().expect("objects").get(key).cloned()
    }

    fn answer(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut first = String::new();
        if reader.read_line(&mut first).is_err() || first.is_empty() {
            return;
        }
        let (mut length, mut signed) = (0, false);
        for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
            let line = line.to_ascii_lowercase();
            length =
                line.strip_prefix("content-length: ").map_or(length, |text| text.parse().expect("a length"));
            signed |= line.starts_with("authorization: aws4-hmac-sha256 credential=key/");
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        let mut words = first.split(' ');
        let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
        self.asked.lock().expect("asked").push(format!("{method} {target}"));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = path.strip_prefix("/lab").expect("the bucket").trim_start_matches('/');
        let (status, headers, content) = if self.down.load(Ordering::Relaxed) {
            ("500 Internal Server Error", String::new(), Vec::new())
        } else if !signed {
            ("403 Forbidden", String::new(), Vec::new())
        } else {
            self.serve(method, key, query, body)
        };
        let sent: &[u8] = if method == "HEAD" { b"" } else { &content };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
            content.len()
        );
        let mut stream = stream;
        // Whoever does not wait for the answer does not get it.
        let _ = stream.write_all(&[head.as_bytes(), sent].concat());
    }

    fn serve(&self, method: &str, key: &str, query: &str, body: Vec<u8>) -> (&'static str, String, Vec<u8>) {
        let mut objects = self.objects.lock().expect("objects");
        let tagged = |bytes: &[u8]| {
            format!("ETag: {}\r\nLast-Modified: Wed, 01 Jul 2026 10:00:00 GMT\r\n", etag(bytes))
        };
        match (method, key) {
            ("GET", "") => ("200 OK", String::new(), list(&objects, query).into_bytes()),
            ("GET" | "HEAD", key) => match objects.get(key) {
                Some(bytes) => ("200 OK", tagged(bytes), bytes.clone()),
                None => ("404 Not Found", String::new(), Vec::new()),
            },
            ("PUT", key) => {
                let headers = tagged(&body);
                objects.insert(key.to_owned(), body);
                ("200 OK", headers, Vec::new())
            }
            // Deleting is done for many keys at once.
            ("POST", "") if query.starts_with("delete") => {
                let text = String::from_utf8(body).expect("XML");
                let key = text.split("<Key>").nth(1).and_then(|rest| rest.split("</Key>").next());
                objects.remove(key.expect("a key"));
                ("200 OK", String::new(), b"<DeleteResult></DeleteResult>".to_vec())
            }
            ("DELETE", key) => {
                objects.remove(key);
                ("204 No Content", String::new(), Vec::new())
            }
            _ => ("405 Method Not Allowed", String::new(), Vec::new()),
        }
    }
}

fn etag(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(7u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    format!("\"{hash:x}\"")
}

/// ListObjectsV2: keys behind the continuation token that start with the prefix.
fn list(objects: &BTreeMap<String, Vec<u8>>, query: &str) -> String {
    let parameter = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.map(|value| value.replace("%2F", "/")).unwrap_or_default()
    };
    assert_eq!(parameter("list-type"), "2");
    let (prefix, after) = (parameter("prefix"), parameter("continuation-token"));
    let mut found = objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult>".to_owned();
    let mut last = "";
    for (key, bytes) in found.by_ref().take(PAGE) {
        text.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>2026-07-01T10:00:00.000Z</LastModified><ETag>{}</ETag>\
             <Size>{}</Size></Contents>",
            etag(bytes).replace('"', "&quot;"),
            bytes.len()
        ));
        last = key;
    }
    let more = found.next().is_some();
    text.push_str(&format!("<IsTruncated>{more}</IsTruncated>"));
    if more {
        text.push_str(&format!("<NextContinuationToken>{last}</NextContinuationToken>"));
    }
    text.push_str("</ListBucketResult>");
    text
}

/// The program, serving the bucket.
struct Server {
    address: SocketAddr,
    process: Child,
    _config: tempfile::NamedTempFile,
}

impl Server {
    fn start(bucket: &Arc<Bucket>, more: &str) -> Self {
        Self::with(bucket, "", more)
    }

    /// With a line of the configuration in front of its tables.
    fn with(bucket: &Arc<Bucket>, state: &str, more: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let bucket = Arc::clone(bucket);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let bucket = Arc::clone(&bucket);
                std::thread::spawn(move || bucket.answer(&stream));
            }
        });
        let config = tempfile::NamedTempFile::new().expect("scratch");
        let text = format!(
            "{state}[limits]\nrescan_seconds = 1\nfresh_milliseconds = 1\n[log]\nrequests = false\n{more}"
        );
        std::fs::write(config.path(), text).expect("a configuration");
        let mut process = Command::new(env!("CARGO_BIN_EXE_repo-server"))
            .args(["--root", "s3://lab/team", "--listen", "127.0.0.1:0", "--config"])
            .arg(config.path())
            .env("AWS_ENDPOINT", endpoint)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server");
        let mut lines = BufReader::new(process.stderr.take().expect("its log")).lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| line.rsplit_once("http://").and_then(|(_, address)| address.parse().ok()))
            .expect("an address");
        std::thread::spawn(move || lines.for_each(drop));
        Self { address, process, _config: config }
    }

    fn ask(&self, method: &str, target: &str, more: &str) -> (u16, Vec<u8>) {
        self.send(method, target, more, b"")
    }

    fn send(&self, method: &str, target: &str, more: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        let request = format!("{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{more}\r\n");
        stream.write_all(&[request.as_bytes(), body].concat()).expect("a request");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let status = std::str::from_utf8(&bytes[9..12]).expect("text").parse().expect("a status");
        (status, bytes.split_off(end))
    }

    fn get(&self, target: &str) -> (u16, Vec<u8>) {
        self.ask("GET", target, "")
    }

    fn names(&self) -> Vec<String> {
        let (status, body) = self.get("/v1.0/inventory.gz");
        assert_eq!(status, 200);
        let inventory = Inventory::parse(&body, 1 << 20).expect("an inventory");
        inventory.entries.keys().map(ToString::to_string).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn kernel(symbol: &str) -> Document {
    let mut document = Document::default();
    document.set("Type", "Profile");
    document.set("ProfileClass", "Linux");
    document.constants.insert(symbol.to_owned(), 1);
    document
}

#[test]
fn a_bucket_is_served_like_a_directory() {
    let bucket = Arc::<Bucket>::default();
    let gzip = profile::gzip(kernel("a").to_canonical_json().as_bytes());
    bucket.put("team/v1.0/Linux/a.gz", &gzip);
    bucket.put("team/v1.0/Linux/b", kernel("b").to_canonical_json().as_bytes());
    bucket.put("team/v1.0/Newest", Document::symlink("Linux/a").to_canonical_json().as_bytes());
    bucket.put("team/v1.0/notes", b"not a document");
    bucket.put("team/v1.0/Linux/.hidden", b"{}");
    bucket.put("other/v1.0/Linux/secret.gz", &gzip);
    let server = Server::start(&bucket, "");
    assert_eq!(server.names(), ["Linux/a", "Linux/b", "Newest"]);
    assert_eq!(server.get("/v1.0/Linux/a.gz"), (200, gzip.clone()));
    assert_eq!(server.get("/v1.0/Linux/a"), (200, kernel("a").to_canonical_json().into_bytes()));
    assert_eq!(server.get("/v1.0/Linux/b"), (200, kernel("b").to_canonical_json().into_bytes()));
    assert_eq!(server.get("/v1.0/Newest").0, 200);
    assert_eq!(server.ask("HEAD", "/v1.0/Linux/a.gz", ""), (200, Vec::new()));
    assert_eq!(server.ask("GET", "/v1.0/Linux/a.gz", "Range: bytes=2-5\r\n"), (206, gzip[2..6].to_vec()));
    for target in
        ["/v1.0/Linux/none", "/v1.0/notes", "/v1.0/Linux/.hidden", "/v1.0/..%2f..%2fother/v1.0/Linux/secret"]
    {
        assert_eq!(server.get(target).0, 404, "{target}");
    }
    let asked = bucket.asked.lock().expect("asked").clone();
    assert!(asked.iter().all(|asked| !asked.contains("other")), "{asked:?}");
    assert!(asked.iter().all(|asked| !asked.starts_with("PUT")), "it is served as it is: {asked:?}");
    // Changed by somebody else.
    bucket.put("team/v1.0/Linux/b", kernel("c").to_canonical_json().as_bytes());
    bucket.put("team/v1.0/Linux/new.gz", &gzip);
    bucket.objects.lock().expect("objects").remove("team/v1.0/Linux/a.gz");
    until("noticed", || server.names() == ["Linux/b", "Linux/new", "Newest"]);
    assert_eq!(server.get("/v1.0/Linux/b").1, kernel("c").to_canonical_json().into_bytes());
    assert_eq!(server.get("/v1.0/Linux/a.gz").0, 404);
    // A bucket that fails is no empty bucket.
    bucket.down.store(true, Ordering::Relaxed);
    assert_eq!(server.names(), ["Linux/b", "Linux/new", "Newest"]);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(server.names(), ["Linux/b", "Linux/new", "Newest"]);
    bucket.down.store(false, Ordering::Relaxed);
    assert_eq!(server.get("/v1.0/Linux/new.gz"), (200, gzip));
}

#[test]
fn what_is_uploaded_goes_to_the_bucket() {
    let state = tempfile::tempdir().expect("scratch");
    let (token, sha256) = repository::new_token().expect("a token");
    let line = format!("state = {:?}\n", state.path());
    let tokens =
        format!("[[uploads.tokens]]\nname = \"lab\"\nsha256 = \"{sha256}\"\nscopes = [\"profile\"]\n");
    let bucket = Arc::<Bucket>::default();
    let server = Server::with(&bucket, &line, &tokens);
    let text = kernel("uploaded").to_canonical_json();
    let head = format!("Authorization: Bearer {token}\r\nContent-Length: {}\r\n", text.len());
    assert_eq!(server.send("PUT", "/v1.0/Linux/up", &head, text.as_bytes()).0, 201);
    assert_eq!(server.get("/v1.0/Linux/up"), (200, text.clone().into_bytes()));
    let stored = bucket.get("team/v1.0/Linux/up.gz").expect("in the bucket");
    let profile = profile::Profile::parse(&stored, &profile::Limits { max_text: 1 << 20 });
    assert_eq!(profile.expect("a profile").symbol("uploaded"), Some(1));
    let audit = std::fs::read_to_string(state.path().join("audit.jsonl")).expect("a log");
    assert_eq!(
        audit.lines().filter(|line| line.contains("Linux/up")).count(),
        2,
        "before and after: {audit}"
    );
    // A bucket that is down takes nothing, and says so.
    bucket.down.store(true, Ordering::Relaxed);
    assert_eq!(server.send("PUT", "/v1.0/Linux/late", &head, text.as_bytes()).0, 503);
    bucket.down.store(false, Ordering::Relaxed);
    assert_eq!(server.get("/v1.0/Linux/late").0, 404);
}

#[test]
fn what_is_built_goes_to_the_bucket() {
    const PDB: &str = "dump_syms_regtest64.pdb";
    let data = std::env::var_os("REKAL_TEST_DATA").map(std::path::PathBuf::from);
    let data =
        data.unwrap_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"));
    let Ok(pdb) = std::fs::read(data.join("pdb").join(PDB)) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no PDBs in the test data");
        return;
    };
    // GUID and age stand in the PDB's stream 1, as `llvm-pdbutil dump --summary` prints them.
    let id = profile_gen::pdb::convert_pdb(&pdb, &profile_gen::pdb::PdbOptions::default()).expect("a PDB");
    let id = id.document.metadata["GUID_AGE"].as_str().expect("an id").to_owned();
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let url = format!("http://{}", upstream.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in upstream.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", pdb.len());
            let _ = stream.write_all(&[head.as_bytes(), &pdb].concat());
        }
    });
    let bucket = Arc::<Bucket>::default();
    let symbols = tempfile::tempdir().expect("scratch");
    let more = format!(
        "[build]\nsymbol_servers = [{url:?}]\nallow = [\"regtest.pdb\"]\nprivate_addresses = true\nwait_seconds = 60\n\
         symbols = {:?}\n",
        symbols.path()
    );
    let server = Server::start(&bucket, &more);
    let name = format!("regtest/GUID/{id}");
    let (status, body) = server.get(&format!("/v1.0/{name}.gz"));
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    assert_eq!(bucket.get(&format!("team/v1.0/{name}.gz")), Some(body));
    assert_eq!(server.names(), [&*name]);
    until("the inventory is stored too", || {
        let stored = bucket.get("team/v1.0/inventory.gz");
        let inventory = stored.and_then(|stored| Inventory::parse(&stored, 1 << 20).ok());
        inventory.is_some_and(|inventory| inventory.entries.keys().any(|listed| listed.as_str() == name))
    });
}
