//! Conditions, ranges and encodings (RFC 9110), digests (RFC 9530), the parts of the inventory, limits.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine as _;
use repository::Inventory;
use sha2::{Digest as _, Sha256};

use crate::server::Server;
use crate::{gunzip, kernel, tree, write};

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

#[test]
fn bodies_are_named_by_their_content() {
    let root = tree();
    let name = "Linux/BuildID/3b43fad5034874490492495d552c0af6a5fab235";
    write(root.path(), &format!("v1.0/{name}"), kernel("id").to_canonical_json().as_bytes());
    let server = Server::start(root.path());
    for (target, lifetime) in [
        ("/v1.0/Linux/fixture.gz".to_owned(), "public, max-age=60, stale-while-revalidate=600"),
        ("/v1.0/LinAlias".to_owned(), "public, max-age=60, stale-while-revalidate=600"),
        (format!("/v1.0/{name}.gz"), "public, max-age=31536000, immutable"),
        (format!("/v1.0/{name}"), "public, max-age=31536000, immutable"),
        ("/v1.0/inventory.gz".to_owned(), "public, max-age=5, stale-while-revalidate=60"),
    ] {
        // Twice: read, and from memory.
        for _ in 0..2 {
            let answer = server.get(&target);
            let hash = sha256(&answer.body);
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(answer.header("etag"), Some(format!("\"{hex}\"").as_str()), "{target}");
            let digest = format!("sha-256=:{}:", base64::engine::general_purpose::STANDARD.encode(&hash));
            assert_eq!(answer.header("repr-digest"), Some(digest.as_str()), "{target}");
            assert_eq!(answer.header("cache-control"), Some(lifetime), "{target}");
            assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
            let vary = (!target.ends_with(".gz")).then_some("accept-encoding");
            assert_eq!(answer.header("vary"), vary, "{target}");
            assert!(answer.header("x-request-id").is_some());
        }
    }
    let answer = server.ask("GET", "/v1.0/LinAlias", "X-Request-Id: case-7\r\n");
    assert_eq!(answer.header("x-request-id"), Some("case-7"));
    let answer = server.ask("GET", "/v1.0/LinAlias", "X-Request-Id: a\"b\r\n");
    assert_ne!(answer.header("x-request-id"), Some("a\"b"));
}

#[test]
fn ranges_are_parts_of_the_very_body() {
    let root = tree();
    let server = Server::start(root.path());
    let target = "/v1.0/Linux/fixture.gz";
    let whole = server.get(target);
    let (len, etag) = (whole.body.len(), whole.header("etag").expect("a tag").to_owned());
    let date = whole.header("last-modified").expect("a date").to_owned();
    for (range, part) in [
        ("bytes=0-0".to_owned(), 0..1),
        ("bytes=5-9".to_owned(), 5..10),
        ("bytes=10-".to_owned(), 10..len),
        ("bytes=-7".to_owned(), len - 7..len),
        (format!("bytes=-{}", len * 2), 0..len),
        (format!("bytes=3-{}", len * 2), 3..len),
    ] {
        for more in [String::new(), format!("If-Range: {etag}\r\n"), format!("If-Range: {date}\r\n")] {
            let answer = server.ask("GET", target, &format!("Range: {range}\r\n{more}"));
            assert_eq!((answer.status, &answer.body[..]), (206, &whole.body[part.clone()]), "{range}");
            let says = format!("bytes {}-{}/{len}", part.start, part.end - 1);
            assert_eq!(answer.header("content-range"), Some(says.as_str()), "{range}");
            assert_eq!(answer.header("etag"), Some(etag.as_str()));
        }
    }
    for range in [format!("bytes={len}-"), "bytes=-0".to_owned(), format!("bytes={len}-{}", len + 5)] {
        let answer = server.ask("GET", target, &format!("Range: {range}\r\n"));
        assert_eq!(answer.status, 416, "{range}");
        assert_eq!(answer.header("content-range"), Some(format!("bytes */{len}").as_str()));
    }
    // What is not understood, or not meant for this body, is answered by the whole.
    for more in [
        "Range: bytes=5-2\r\n".to_owned(),
        "Range: bytes=0-1,5-6\r\n".to_owned(),
        "Range: lines=0-1\r\n".to_owned(),
        "Range: bytes=x-y\r\n".to_owned(),
        "Range: bytes=99999999999999999999999-\r\n".to_owned(),
        "Range: bytes=0-1\r\nIf-Range: \"other\"\r\n".to_owned(),
        format!("Range: bytes=0-1\r\nIf-Range: W/{etag}\r\n"),
        "Range: bytes=0-1\r\nIf-Range: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(),
    ] {
        let answer = server.ask("GET", target, &more);
        assert_eq!((answer.status, answer.body == whole.body), (200, true), "{more}");
    }
    let answer = server.ask("GET", target, &format!("Range: bytes=0-1\r\nIf-None-Match: {etag}\r\n"));
    assert_eq!(answer.status, 304, "the condition comes first");
}

#[test]
fn large_bodies_are_sent_whole_in_parts_and_one_after_the_other() {
    let root = tree();
    let mut large = Vec::new();
    for number in 0..3 {
        let mut document = kernel("large");
        for symbol in 0..60_000 + number {
            document.constants.insert(format!("symbol_{symbol}"), symbol * 7919 % 1_000_003);
        }
        let gzip = profile::gzip(document.to_canonical_json().as_bytes());
        assert!(gzip.len() > 100_000, "what is sent from its file: {}", gzip.len());
        write(root.path(), &format!("v1.0/Large/{number}.gz"), &gzip);
        large.push(gzip);
    }
    let server = Server::start(root.path());
    for _ in 0..2 {
        for (number, gzip) in large.iter().enumerate() {
            let target = format!("/v1.0/Large/{number}.gz");
            assert!(server.get(&target).body == *gzip, "{target}");
            let part = server.ask("GET", &target, "Range: bytes=40000-99999\r\n");
            assert!(part.status == 206 && part.body == gzip[40_000..100_000], "{target}");
        }
    }
    // Many requests at once, before the first answer is read: large ones and small ones must not be mixed up.
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    let mut requests = String::new();
    let mut expected = Vec::new();
    for round in 0..30 {
        let last = if round == 29 { "Connection: close\r\n" } else { "" };
        let (target, body) = match round % 4 {
            3 => ("/healthz".to_owned(), b"ok\n".to_vec()),
            number => (format!("/v1.0/Large/{number}.gz"), large[number].clone()),
        };
        requests.push_str(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n{last}\r\n"));
        expected.push(body);
    }
    stream.write_all(requests.as_bytes()).expect("requests");
    let mut bytes = Vec::new();
    std::thread::sleep(Duration::from_millis(300));
    stream.read_to_end(&mut bytes).expect("answers");
    let mut rest = &bytes[..];
    for (number, body) in expected.iter().enumerate() {
        let end = rest.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        assert!(rest.starts_with(b"HTTP/1.1 200 "), "answer {number}");
        assert!(rest[end..].starts_with(body), "answer {number}");
        rest = &rest[end + body.len()..];
    }
    assert!(rest.is_empty());
    // Written in place: what is sent is what its tag says, the old or the new.
    let path = root.path().join("v1.0/Large/0.gz");
    std::fs::write(&path, &large[1]).expect("a file");
    let answer = server.get("/v1.0/Large/0.gz");
    let hex: String = sha256(&answer.body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(answer.header("etag"), Some(format!("\"{hex}\"").as_str()));
}

#[test]
fn encodings_are_negotiated_for_names_without_gz() {
    let root = tree();
    let server = Server::start(root.path());
    let text = kernel("one").to_canonical_json();
    let unzstd = |body: &[u8]| {
        let mut text = String::new();
        ruzstd::decoding::StreamingDecoder::new(body).expect("zstd").read_to_string(&mut text).expect("text");
        text
    };
    for (accept, coding) in [
        (None, None),
        (Some("identity"), None),
        (Some(""), None),
        (Some("br"), None),
        (Some("gzip"), Some("gzip")),
        (Some("gzip, zstd, br"), Some("gzip")),
        (Some("zstd"), Some("zstd")),
        (Some("gzip;q=0.5, zstd"), Some("zstd")),
        (Some("gzip;q=0, zstd;q=0"), None),
        (Some("zstd;q=0, gzip"), Some("gzip")),
        (Some("identity;q=1, gzip;q=0.5"), None),
        (Some("identity;q=0, *"), Some("gzip")),
        (Some("gzip;q=nonsense"), None),
    ] {
        let more = accept.map_or(String::new(), |accept| format!("Accept-Encoding: {accept}\r\n"));
        let answer = server.fetch("GET", "/v1.0/Linux/fixture", &more);
        assert_eq!(answer.header("content-encoding"), coding, "{accept:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let decoded = match coding {
            Some("gzip") => gunzip(&answer.body),
            Some("zstd") => unzstd(&answer.body),
            _ => String::from_utf8(answer.body.clone()).expect("text"),
        };
        assert_eq!(decoded, text, "{accept:?}");
        // `.gz` is a gzip file for everybody.
        let answer = server.fetch("GET", "/v1.0/Linux/fixture.gz", &more);
        assert_eq!((answer.header("content-encoding"), gunzip(&answer.body)), (None, text.clone()));
    }
    let inventory = server.fetch("GET", "/v1.0/inventory", "Accept-Encoding: zstd\r\n");
    assert!(unzstd(&inventory.body).contains("Linux/fixture"));
}

#[test]
fn the_inventory_comes_in_parts_too() {
    let root = tree();
    let server = Server::with(root.path(), "[limits]\nrescan_seconds = 1\n");
    let names = |target: &str| -> Vec<String> {
        let answer = server.get(target);
        let inventory = Inventory::parse(&answer.body, 1 << 20).expect("an inventory");
        inventory.entries.keys().map(ToString::to_string).collect()
    };
    assert_eq!(names("/v1.0/inventory.gz"), ["LinAlias", "Linux/fixture", "Linux/plain"]);
    assert_eq!(names("/v1.0/inventory?prefix=Linux/"), ["Linux/fixture", "Linux/plain"]);
    assert_eq!(names("/v1.0/inventory.gz?prefix=nt/"), Vec::<String>::new());
    let first = server.get("/v1.0/inventory.gz");
    let cursor = first.header("rekal-cursor").expect("a cursor").to_owned();
    assert_eq!(first.header("rekal-inventory"), Some("full"));
    let delta = server.get(&format!("/v1.0/inventory.gz?since={cursor}"));
    assert_eq!(delta.header("rekal-inventory"), Some("delta"));
    assert_eq!(names(&format!("/v1.0/inventory.gz?since={cursor}")), Vec::<String>::new());
    // Changed by somebody else: noticed without a restart.
    write(root.path(), "v1.0/Linux/new", kernel("new").to_canonical_json().as_bytes());
    std::fs::remove_file(root.path().join("v1.0/Linux/plain")).expect("gone");
    let deadline = Instant::now() + Duration::from_secs(20);
    while names("/v1.0/inventory.gz") != ["LinAlias", "Linux/fixture", "Linux/new"] {
        assert!(Instant::now() < deadline, "not noticed");
        std::thread::sleep(Duration::from_millis(100));
    }
    let delta = gunzip(&server.get(&format!("/v1.0/inventory.gz?since={cursor}")).body);
    let delta: serde_json::Value = serde_json::from_str(&delta).expect("JSON");
    assert_eq!(delta["$REMOVED"], serde_json::json!(["Linux/plain"]));
    assert_eq!(
        delta["$INVENTORY"].as_object().map(|list| list.keys().cloned().collect()),
        Some(vec!["Linux/new".to_owned()])
    );
    // A cursor nobody knows is answered by everything.
    for unknown in ["1.1", "x", "", "zz.zz", "1.99999999999999999999"] {
        let answer = server.get(&format!("/v1.0/inventory.gz?since={unknown}"));
        assert_eq!(answer.header("rekal-inventory"), Some("full"), "{unknown}");
        assert_eq!(names(&format!("/v1.0/inventory.gz?since={unknown}")).len(), 3);
    }
    // Pages.
    let page = server.json("/list?limit=2");
    assert_eq!(page["names"].as_array().map(Vec::len), Some(2));
    assert_eq!(page["next"], "Linux/fixture");
    let page = server.json("/list?limit=2&after=Linux/fixture");
    assert_eq!((page["names"][0]["name"].as_str(), page["next"].as_str()), (Some("Linux/new"), None));
    let page = server.json("/list?query=FIX");
    assert_eq!(page["names"][0]["name"], "Linux/fixture");
}

#[test]
fn profiles_are_found_by_what_is_known_of_a_kernel() {
    let root = tree();
    let mut document = kernel("two");
    document.set("Banner", "Linux version 6.1.0-56-cloud-amd64 (x@y) #1 SMP\n");
    document.set("BuildID", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    document.set("FileVersion", "6.1.7601");
    let hash = document.content_hash();
    write(root.path(), "v1.0/Linux/two", document.to_canonical_json().as_bytes());
    let server = Server::start(root.path());
    let names = |query: &str| -> Vec<String> {
        let found = server.json(&format!("/lookup?{query}"));
        let names = found["names"].as_array().expect("names").iter();
        names.map(|name| name["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names("build_id=3B43FAD5034874490492495D552C0AF6A5FAB235"), ["Linux/fixture", "Linux/plain"]);
    assert_eq!(names("build_id=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), ["Linux/two"]);
    assert_eq!(
        names("banner=Linux%20version%206.1.0-56-cloud-amd64%20(x@y)%20%231%20SMP%0A%00"),
        ["Linux/two"]
    );
    assert_eq!(names("release=6.1.0-56-cloud-amd64"), ["Linux/two"]);
    assert_eq!(names("release=fixture"), ["Linux/fixture"], "the last part of a name");
    // The fourth number of a file's version may be lacking.
    assert_eq!(names("file_version=6.1.7601.17514"), ["Linux/two"]);
    assert_eq!(names("file_version=6.1.7600"), [""; 0]);
    assert_eq!(names(&format!("sha256={hash}")), ["Linux/two"]);
    let nothing = server.json("/lookup?guid=%7BF8E2A8B5-C9B7-4BF4-A6E4-A48F18009994%7D&age=2&release=2.6.32");
    assert_eq!(nothing["names"], serde_json::json!([]));
    assert_eq!(nothing["tried"][0]["value"], "F8E2A8B5C9B74BF4A6E4A48F180099942");
    assert_eq!(nothing["tried"][1]["by"], "release");
    for bad in ["", "guid=12", "age=x&guid=1", "unknown=1", "build_id="] {
        assert_eq!(server.get(&format!("/lookup?{bad}")).status, 400, "{bad}");
    }
}

#[test]
fn windows_profiles_are_found_by_guid() {
    if !crate::data("rekall").is_dir() {
        crate::skipped("no repository of the original in the test data");
        return;
    }
    let server = Server::start(&crate::data("rekall"));
    let kernel = "nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942";
    // By the age in the name, by that in the file, by any age; and every kernel by the name of its PDB.
    for query in [
        "guid=f8e2a8b5-c9b7-4bf4-a6e4-a48f18009994&age=2",
        "guid=F8E2A8B5C9B74BF4A6E4A48F180099945",
        "guid=F8E2A8B5C9B74BF4A6E4A48F18009994",
        "pdb=NTKRNLMP.PDB",
    ] {
        let found = server.json(&format!("/lookup?{query}"));
        assert_eq!(found["names"][0]["name"], kernel, "{query}: {found}");
    }
}

#[test]
fn slow_and_greedy_clients_are_sent_away() {
    let root = tree();
    let config = "[limits]\nhead_seconds = 1\nconnections = 20\nconnections_per_address = 8\n";
    let server = Server::with(root.path(), config);
    // A head that never ends.
    let mut slow = TcpStream::connect(server.address).expect("a connection");
    let start = Instant::now();
    let mut end = Vec::new();
    slow.write_all(b"GET /healthz HTTP/1.1\r\n").expect("a line");
    slow.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    let _ = slow.read_to_end(&mut end);
    assert!(start.elapsed() < Duration::from_secs(8), "it was cut off");
    // More connections than one address may have.
    let mut held: Vec<_> =
        (0..8).map(|_| TcpStream::connect(server.address).expect("a connection")).collect();
    std::thread::sleep(Duration::from_millis(200));
    let refused = server.get("/healthz");
    assert_eq!((refused.status, refused.header("Retry-After")), (429, Some("1")));
    held.clear();
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.get("/healthz").status != 200 {
        assert!(Instant::now() < deadline, "the places are free again");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_full_server_says_so() {
    let root = tree();
    let server = Server::with(root.path(), "[limits]\nconnections = 4\n");
    let held: Vec<_> = (0..4).map(|_| TcpStream::connect(server.address).expect("a connection")).collect();
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..3 {
        let refused = server.get("/healthz");
        assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("1")));
    }
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.get("/healthz").status != 200 {
        assert!(Instant::now() < deadline, "the places are free again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(server.metric("rekal_refused_connections_total").is_some_and(|refused| refused >= 3.0));
}

#[test]
fn a_client_that_stops_reading_loses_its_connection() {
    let root = tree();
    // Larger than what the system's buffers take.
    let mut large = kernel("large");
    for number in 0..600_000 {
        large.constants.insert(format!("symbol_{number}"), number);
    }
    write(root.path(), "v1.0/large", large.to_canonical_json().as_bytes());
    let server = Server::with(root.path(), "[limits]\nstall_seconds = 1\n");
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    stream.write_all(b"GET /v1.0/large HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request");
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.metric("rekal_connections") != Some(1.0) {
        assert!(Instant::now() < deadline, "only the connection that asks is left");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn operators_see_what_goes_on() {
    let root = tree();
    let server = Server::start(root.path());
    assert_eq!(server.json("/readyz")["profiles"], 3);
    server.get("/v1.0/LinAlias.gz");
    server.get("/v1.0/nothing.gz");
    let count = |labels: &str| server.metric(&format!("rekal_requests_total{{{labels}}}"));
    assert_eq!(count("route=\"document\",status=\"200\""), Some(1.0));
    assert_eq!(count("route=\"document\",status=\"404\""), Some(1.0));
    let capabilities = server.json("/.well-known/rekal-repository");
    assert_eq!(
        (capabilities["version"].as_u64(), capabilities["lookup"].as_str()),
        (Some(1), Some("/lookup"))
    );
    assert_eq!(capabilities["build_on_demand"], false);
}
