//! Uploads: who may, what is taken, what is refused, and what the audit log says of it.
//!
//! The attacks tried on the server, each refused with the server up afterwards:
//!
//! | attack | test |
//! |---|---|
//! | no token, a wrong, an expired one, one for other actions or names | `tokens_missing_wrong_expired_or_for_something_else_are_refused` |
//! | gzip, JSON, zip and CAB bombs, oversized bodies | `bombs_are_refused_and_the_server_stays_up` |
//! | damaged PDB | `a_pdb_becomes_a_profile_and_stays_a_pdb` |
//! | bodies without end, announced as huge, a byte at a time, silent, broken off | `a_body_without_end_or_without_haste_is_cut_off` |
//! | heads a byte at a time, thousands of idle connections | `wire::` (slow-loris, limits) |
//! | traversal in every encoding, symbolic links out of the repository, for reading | `nothing_but_documents_below_the_root_is_served` |
//! | the same for writing, hidden and reserved names | `no_name_leads_out_of_the_repository` |
//! | symlink documents to nowhere, out, in loops, over profiles | `symlinks_are_for_admins_and_lead_somewhere` |
//! | upstream at a private address, redirects without end | `upstreams_that_lead_astray_are_refused` |
//! | upstream redirect and pointer to a private address | `profile-gen`: `a_guard_is_asked_for_addresses_names_redirects_and_pointers` |
//! | markup in names of profiles, structs and fields | `page::` |

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use profile::Document;
use sha2::{Digest as _, Sha256};

use crate::server::{Answer, Server};
use crate::upstream::{Page, Upstream};
use crate::{data, kernel, skipped};

const ID: &str = "3b43fad5034874490492495d552c0af6a5fab235";

/// A configuration with a token of each kind; the token is its name.
pub(crate) fn config(more: &str) -> String {
    let mut text = format!("[build]\nworker = {:?}\n[uploads]\n{more}\n", env!("CARGO_BIN_EXE_repo-server"));
    for (name, scopes, rest) in [
        ("profiles", "\"profile\"", ""),
        ("pdbs", "\"pdb\"", ""),
        ("kernels", "\"linux\"", ""),
        ("boss", "\"admin\"", ""),
        ("debian", "\"profile\", \"linux\"", "prefixes = [\"Debian/\"]"),
        ("late", "\"admin\"", "expires = \"2020-01-01T00:00:00Z\""),
    ] {
        let hash: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!(
            "[[uploads.tokens]]\nname = {name:?}\nsha256 = {hash:?}\nscopes = [{scopes}]\n{rest}\n"
        ));
    }
    text
}

pub(crate) fn open(more: &str) -> (tempfile::TempDir, Server) {
    let root = tempfile::tempdir().expect("scratch");
    fs::create_dir(root.path().join("v1.0")).expect("the tree");
    let server = Server::with(root.path(), &config(more));
    (root, server)
}

pub(crate) fn send(server: &Server, method: &str, target: &str, token: &str, body: &[u8]) -> Answer {
    let head = format!("Authorization: Bearer {token}\r\nContent-Length: {}\r\n", body.len());
    server.send(method, target, &head, body)
}

fn put(server: &Server, name: &str, token: &str, document: &Document) -> u16 {
    send(server, "PUT", &format!("/v1.0/{name}"), token, document.to_canonical_json().as_bytes()).status
}

fn audit(root: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(root.join("audit.jsonl")).expect("an audit log");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn a_profile_is_published_once_listed_and_noted() {
    let (root, server) = open("");
    let name = format!("Linux/BuildID/{ID}");
    assert_eq!(put(&server, &format!("{name}.gz"), "profiles", &kernel("one")), 201);
    assert_eq!(put(&server, &name, "profiles", &kernel("one")), 200, "the same again");
    assert_eq!(put(&server, &name, "profiles", &kernel("two")), 409, "published profiles do not change");
    let gzip = profile::gzip(kernel("one").to_canonical_json().as_bytes());
    assert_eq!(
        send(&server, "PUT", &format!("/v1.0/{name}"), "profiles", &gzip).status,
        200,
        "also compressed"
    );
    assert_eq!(server.get(&format!("/v1.0/{name}")).body, kernel("one").to_canonical_json().into_bytes());
    let found = server.json(&format!("/lookup?build_id={ID}"));
    assert_eq!(found["names"][0]["name"], name);
    let outcomes: Vec<_> = audit(root.path()).iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes.len(), 8, "a line before and after each: {outcomes:?}");
    assert_eq!(
        (&outcomes[0], &outcomes[1], &outcomes[3]),
        (&"begun".into(), &"stored".into(), &"unchanged".into())
    );
    assert!(audit(root.path()).iter().all(|line| line["token"] == "profiles" && line["peer"] == "127.0.0.1"));
    assert_eq!(
        fs::read_dir(root.path().join("staging")).expect("staging").count(),
        0,
        "nothing is left over"
    );
    // Replacing and deleting is for admins.
    let replace = format!("/v1.0/{name}?replace=true");
    let two = kernel("two").to_canonical_json().into_bytes();
    assert_eq!(send(&server, "PUT", &replace, "profiles", &two).status, 403);
    assert_eq!(send(&server, "PUT", &replace, "boss", &two).status, 201);
    assert_eq!(server.get(&format!("/v1.0/{name}")).body, two);
    assert_eq!(send(&server, "DELETE", &format!("/v1.0/{name}"), "profiles", b"").status, 403);
    assert_eq!(send(&server, "DELETE", &format!("/v1.0/{name}.gz"), "boss", b"").status, 200);
    assert_eq!(send(&server, "DELETE", &format!("/v1.0/{name}"), "boss", b"").status, 404);
    assert_eq!(server.get(&format!("/v1.0/{name}")).status, 404);
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let (root, mut server) = open("");
    assert_eq!(put(&server, "Linux/a", "profiles", &kernel("a")), 201);
    server.stop();
    let server = Server::with(root.path(), &config(""));
    assert_eq!(server.get("/v1.0/Linux/a").status, 200);
    assert_eq!(put(&server, "Linux/a", "profiles", &kernel("a")), 200);
}

#[test]
fn symlinks_are_for_admins_and_lead_somewhere() {
    let (_root, server) = open("");
    assert_eq!(put(&server, "Linux/a", "profiles", &kernel("a")), 201);
    assert_eq!(put(&server, "Linux/b", "profiles", &kernel("b")), 201);
    let to = Document::symlink;
    assert_eq!(put(&server, "Newest", "profiles", &to("Linux/a")), 403);
    assert_eq!(put(&server, "Newest", "boss", &to("Linux/none")), 422);
    assert_eq!(put(&server, "Newest", "boss", &to("../../etc/passwd")), 422);
    assert_eq!(put(&server, "Newest", "boss", &to("Newest")), 422);
    assert_eq!(put(&server, "Newest", "boss", &to("Linux/a")), 201);
    assert_eq!(put(&server, "Newest", "boss", &to("Linux/b")), 201, "a symlink may be moved");
    assert_eq!(put(&server, "Best", "boss", &to("Newest")), 201);
    assert_eq!(put(&server, "Newest", "boss", &to("Best")), 422, "no loops");
    assert_eq!(put(&server, "Linux/a", "boss", &to("Linux/b")), 409, "a profile does not become a symlink");
}

#[test]
fn tokens_missing_wrong_expired_or_for_something_else_are_refused() {
    let (_root, server) = open("");
    let document = kernel("a").to_canonical_json().into_bytes();
    for token in ["", "wrong", "late", "profiles2"] {
        let answer = send(&server, "PUT", "/v1.0/Linux/a", token, &document);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{token}");
    }
    assert_eq!(server.send("PUT", "/v1.0/Linux/a", "Content-Length: 0\r\n", b"").status, 401);
    for (method, target, token) in [
        ("PUT", "/v1.0/Linux/a", "pdbs"),
        ("PUT", "/v1.0/Linux/a", "debian"),
        ("DELETE", "/v1.0/Linux/a", "kernels"),
        ("POST", "/upload/pdb?name=a.pdb", "profiles"),
        ("POST", "/upload/linux", "pdbs"),
    ] {
        assert_eq!(send(&server, method, target, token, &document).status, 403, "{method} {target} {token}");
    }
    assert_eq!(put(&server, "Debian/a", "debian", &kernel("a")), 201);
    assert_eq!(server.get("/v1.0/Linux/a").status, 404);
    // Without tokens nothing is taken from anybody.
    let root = tempfile::tempdir().expect("scratch");
    let closed = Server::start(root.path());
    assert_eq!(send(&closed, "PUT", "/v1.0/Linux/a", "boss", &document).status, 403);
}

#[test]
fn a_pdb_becomes_a_profile_and_stays_a_pdb() {
    let path = data("pdb");
    let Ok(file) = fs::read(path.join("dump_syms_regtest64.pdb")) else {
        return skipped("no PDBs in the test data");
    };
    let (_root, server) = open("");
    let answer = send(&server, "POST", "/upload/pdb?name=Regtest.pdb", "pdbs", &file);
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let name = told["names"][0].as_str().expect("a name").to_owned();
    let id = name.strip_prefix("regtest/GUID/").expect("module, GUID and age");
    assert_eq!(server.get(&format!("/v1.0/{name}.gz")).status, 200);
    assert!(server.get(&format!("/regtest.pdb/{id}/regtest.pdb")).body == file, "symbol clients get it too");
    assert_eq!(send(&server, "POST", "/upload/pdb?name=regtest.pdb", "pdbs", &file).status, 200);
    for name in ["", "?name=", "?name=../x.pdb", "?name=x.exe"] {
        let status = send(&server, "POST", &format!("/upload/pdb{name}"), "pdbs", &file).status;
        assert!(matches!(status, 400 | 422), "{name}: {status}");
    }
    let fuzzed = fs::read(path.join("fuzzed.pdb")).expect("a PDB");
    let status = send(&server, "POST", "/upload/pdb?name=f.pdb", "pdbs", &fuzzed).status;
    assert!(matches!(status, 413 | 422), "{status}");
    assert_eq!(server.get("/healthz").status, 200);
}

/// A file of a real kernel in the lab that `tools/guest-image` fills.
fn lab(path: &str) -> Option<Vec<u8>> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let lab = variable("GUEST_LAB").unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME");
        cache.unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".cache")).join("rekal-guest-lab")
    });
    fs::read(lab.join(path)).ok()
}

/// Truth: the kernel's own `System.map`, which lies in the zip.
#[test]
fn a_real_kernel_becomes_a_profile() {
    const RELEASE: &str = "6.1.0-56-cloud-amd64";
    let Some(file) = lab(&format!("zips/{RELEASE}-dwarf5.zip")) else {
        return skipped("no kernels in the guest lab; tools/guest-image makes it");
    };
    let (_root, server) = open("");
    for status in [201, 200] {
        let answer = send(&server, "POST", &format!("/upload/linux?build_id={ID}"), "kernels", &file);
        assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
    }
    for name in [format!("Linux/BuildID/{ID}"), format!("Linux/{RELEASE}")] {
        assert_eq!(server.get(&format!("/v1.0/{name}.gz")).status, 200, "{name}");
    }
    let text = String::from_utf8(server.get(&format!("/v1.0/Linux/BuildID/{ID}")).body).expect("text");
    let profile = profile::Profile::parse_text(text).expect("a profile");
    assert!(profile.has_struct("task_struct") && profile.has_struct("mm_struct"));
    let mut map = String::new();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&file)).expect("a zip");
    zip.by_name(&format!("boot/System.map-{RELEASE}"))
        .expect("a member")
        .read_to_string(&mut map)
        .expect("text");
    for symbol in ["init_task", "linux_banner", "modules"] {
        let line = map.lines().find(|line| line.ends_with(&format!(" {symbol}"))).expect("a symbol");
        let address = u64::from_str_radix(&line[..16], 16).expect("an address");
        assert_eq!(profile.symbol(symbol), Some(address), "{symbol}");
    }
    let found = server.json(&format!("/lookup?release={RELEASE}"));
    assert!(found["names"].as_array().is_some_and(|names| !names.is_empty()), "{found}");
    // Types alone, without addresses, are no profile to work with.
    if let Some(btf) = lab(&format!("build/k/{RELEASE}/vmlinux.btf")) {
        let answer = send(&server, "POST", "/upload/linux?release=types-only", "kernels", &btf);
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 422, "{told}");
        assert!(told.contains("no symbol addresses"), "{told}");
        // With addresses beside them they are.
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in [("vmlinux.btf", btf.as_slice()), ("System.map-types", map.as_bytes())] {
            zip.start_file(name, zip::write::SimpleFileOptions::default()).expect("a member");
            zip.write_all(bytes).expect("bytes");
        }
        let zip = zip.finish().expect("a zip").into_inner();
        let answer = send(&server, "POST", "/upload/linux?release=types-and-addresses", "kernels", &zip);
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        let text = server.get("/v1.0/Linux/types-and-addresses").body;
        let other = profile::Profile::parse_text(String::from_utf8(text).expect("text")).expect("a profile");
        assert!(other.has_struct("task_struct") && other.has_struct("mm_struct"));
        assert_eq!(other.symbol("init_task"), profile.symbol("init_task"));
    }
    assert_eq!(send(&server, "POST", "/upload/linux?build_id=x", "kernels", &file).status, 400);
    let cut = &file[..file.len() / 2];
    assert_eq!(send(&server, "POST", "/upload/linux", "kernels", cut).status, 422);
}

#[test]
fn bombs_are_refused_and_the_server_stays_up() {
    let (_root, server) = open("profile_mib = 4\nprofile_text_mib = 8\nlinux_mib = 8\npdb_mib = 8");
    // gzip: 64 MiB of blanks in 64 KiB.
    let gzip = profile::gzip(&vec![b' '; 64 << 20]);
    // JSON: nesting without end, and a number of keys.
    let deep = [vec![b'['; 1 << 20], vec![b']'; 1 << 20]].concat();
    let types = format!(
        "{{\"$METADATA\":{{\"Type\":\"Profile\"}},\"$STRUCTS\":{{\"a\":[8,{{\"b\":[0,{}\"c\"{}]}}]}}}}",
        "[\"Pointer\",{\"target\":".repeat(100),
        "}]".repeat(100)
    );
    let mut zip = std::io::Cursor::new(Vec::new());
    let mut writer = zip::ZipWriter::new(&mut zip);
    for file in ["module.ko", "boot/System.map-1"] {
        writer.start_file(file, zip::write::SimpleFileOptions::default()).expect("a member");
        writer.write_all(&vec![0; 200 << 20]).expect("zeros");
    }
    writer.finish().expect("a zip");
    let zip = zip.into_inner();
    assert!(zip.len() < 1 << 20, "a bomb is small");
    let cab = [&b"MSCF\0\0\0\0"[..], &[0xff; 4096]].concat();
    let huge = vec![b'x'; 9 << 20];
    for (what, method, target, token, body, expected) in [
        ("gzip bomb", "PUT", "/v1.0/Linux/a", "profiles", &gzip, &[413][..]),
        ("nested JSON", "PUT", "/v1.0/Linux/a", "profiles", &deep, &[422]),
        ("nested types", "PUT", "/v1.0/Linux/a", "profiles", &types.into_bytes(), &[422]),
        ("no JSON", "PUT", "/v1.0/Linux/a", "profiles", &b"<html>".to_vec(), &[422]),
        ("no document", "PUT", "/v1.0/Linux/a", "profiles", &b"{}".to_vec(), &[422]),
        ("zip bomb", "POST", "/upload/linux?release=1", "kernels", &zip, &[413, 422]),
        ("gzip bomb as kernel", "POST", "/upload/linux?release=1", "kernels", &gzip, &[413, 422]),
        ("CAB as PDB", "POST", "/upload/pdb?name=a.pdb", "pdbs", &cab, &[422]),
        ("oversized", "PUT", "/v1.0/Linux/a", "profiles", &huge, &[413]),
        ("oversized PDB", "POST", "/upload/pdb?name=a.pdb", "pdbs", &huge, &[413]),
    ] {
        let start = Instant::now();
        let status = send(&server, method, target, token, body).status;
        assert!(expected.contains(&status), "{what}: {status}");
        assert!(start.elapsed() < Duration::from_secs(30), "{what} took {:?}", start.elapsed());
    }
    assert_eq!(server.get("/v1.0/Linux/a").status, 404);
    assert_eq!(put(&server, "Linux/a", "profiles", &kernel("a")), 201, "and honest ones are taken as before");
}

#[test]
fn a_body_without_end_or_without_haste_is_cut_off() {
    let (root, server) = open("profile_mib = 1\nsilence_seconds = 1\nslowest_kib = 64");
    let begin = |head: &str| {
        let mut stream = TcpStream::connect(server.address).expect("a connection");
        let request = format!(
            "PUT /v1.0/Linux/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer profiles\r\n{head}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("a head");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream
    };
    let status = |stream: &mut TcpStream| {
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("an answer");
        String::from_utf8_lossy(&head[9..]).into_owned()
    };
    // Chunks without end: cut off at the limit.
    let mut endless = begin("Transfer-Encoding: chunked");
    let chunk = [&b"10000\r\n"[..], &vec![b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..40 {
        if endless.write_all(&chunk).is_err() {
            break;
        }
    }
    let mut answer = String::new();
    let _ = endless.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    // Nothing after the head; a byte at a time.
    assert_eq!(status(&mut begin("Content-Length: 1000")), "408");
    let mut drip = begin("Content-Length: 1000");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) && drip.write_all(b" ").is_ok() {
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(start.elapsed() < Duration::from_secs(7), "a drip is no upload: {:?}", start.elapsed());
    // Announced as too large: refused before it is sent.
    assert_eq!(status(&mut begin("Content-Length: 99999999999")), "413");
    // Broken off.
    drop(begin("Content-Length: 1000"));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(
        fs::read_dir(root.path().join("staging")).expect("staging").count(),
        0,
        "nothing is left over"
    );
    assert_eq!(server.get("/v1.0/Linux/a").status, 404);
}

#[test]
fn no_name_leads_out_of_the_repository() {
    let (root, server) = open("");
    let document = kernel("a").to_canonical_json().into_bytes();
    #[cfg(unix)]
    {
        let outside = root.path().join("outside");
        fs::create_dir(&outside).expect("a directory");
        std::os::unix::fs::symlink("/tmp", root.path().join("v1.0/tmp")).expect("a link");
    }
    for target in [
        "/v1.0/../x",
        "/v1.0/%2e%2e/x",
        "/v1.0/..%2fx",
        "/v1.0/a%2f..%2f..%2fx",
        "/v1.0/..%5cx",
        "/v1.0/%2fetc%2fx",
        "/v1.0//etc/x",
        "/v1.0/a%00b",
        "/v1.0/a%0ab",
        "/v1.0/.hidden",
        "/v1.0/a/.hidden",
        "/v1.0/inventory.gz",
        "/v1.0/tmp/rekal-escape",
        "/v1.0/%c0%ae%c0%ae/x",
        "/v1.0/%252e%252e/x",
    ] {
        let answer = send(&server, "PUT", target, "boss", &document);
        assert!((400..600).contains(&answer.status), "{target}: {}", answer.status);
    }
    assert!(!Path::new("/tmp/rekal-escape.gz").exists() && !root.path().join("x.gz").exists());
    assert_eq!(server.json("/list")["names"], serde_json::json!([]));
}

#[test]
fn upstreams_that_lead_astray_are_refused() {
    let (root, upstream) = (tempfile::tempdir().expect("scratch"), Upstream::start());
    fs::create_dir(root.path().join("v1.0")).expect("the tree");
    let id = "F8E2A8B5C9B74BF4A6E4A48F180099942";
    let file = format!("ntkrnlmp.pdb/{id}/ntkrnlmp.pdb");
    upstream.serve(&file, Page::Redirect(format!("/symbols/{file}")));
    let config = |private| {
        format!(
            "[build]\nsymbol_servers = [{:?}]\nprivate_addresses = {private}\nwait_seconds = 30\n",
            upstream.url()
        )
    };
    let ask = |private| {
        let server = Server::with(root.path(), &config(private));
        let answer = server.get(&format!("/v1.0/nt/GUID/{id}.gz"));
        assert_eq!(server.get("/healthz").status, 200);
        (answer.status, String::from_utf8(answer.body).expect("text"))
    };
    let (status, why) = ask(false);
    assert!(status >= 400 && why.contains("not a public address"), "{status} {why}");
    assert_eq!(upstream.asked(), [""; 0], "a private address is not asked unless configured");
    let (status, why) = ask(true);
    assert!(status >= 400, "{status} {why}");
    let asked = upstream.asked().iter().filter(|path| path.ends_with(&file)).count();
    assert!((1..50).contains(&asked), "redirects end: {asked}");
}
