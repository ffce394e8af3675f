//! Building on demand, from real PDBs and from servers that misbehave.
//!
//! Truth: GUIDs as `llvm-pdbutil dump --summary` prints them; what each PDB holds is tested in `profile-gen`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use profile::Profile;
use repository::Inventory;

use crate::server::Server;
use crate::upstream::{Page, Upstream};
use crate::{data, gunzip, skipped};

/// GUID and age of `omap_stretched.pdb`.
const STRETCHED: &str = "ABDA3C53D8074326AA40F41DD53824571";
/// GUID and age of `vs2019_cpp_override.pdb`.
const OVERRIDE: &str = "5E2A1B471FA94370907E67AAFB4A94C32";

fn pdb(name: &str) -> Option<Vec<u8>> {
    let bytes = fs::read(data("pdb").join(name)).ok();
    if bytes.is_none() {
        skipped("no PDBs in the test data");
    }
    bytes
}

/// A configuration that builds from `upstream`.
fn building(upstream: &Upstream, more: &str) -> String {
    format!(
        "{more}\n[build]\nsymbol_servers = [\"{}\"]\nprivate_addresses = true\nworker = \"{}\"\n\
         allow = [\"omap_stretched.pdb\", \"vs2019_cpp_override.pdb\", \"ntkrnlmp.pdb\", \"ntoskrnl.pdb\"]\n",
        upstream.url(),
        env!("CARGO_BIN_EXE_repo-server"),
    )
}

fn files(root: &Path) -> Vec<String> {
    let mut pending = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else {
                files.push(path.strip_prefix(root).expect("inside").display().to_string());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn fifty_ask_at_once_and_one_profile_is_built() {
    let Some(bytes) = pdb("omap_stretched.pdb") else { return };
    let upstream = Upstream::start();
    let path = format!("omap_stretched.pdb/{STRETCHED}/omap_stretched.pdb");
    upstream.serve(&path, Page::Slow(Duration::from_millis(300), bytes.clone()));
    let root = tempfile::tempdir().expect("scratch");
    let server = Server::with(root.path(), &building(&upstream, ""));
    let target = format!("/v1.0/omap_stretched/GUID/{STRETCHED}.gz");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..50).map(|_| scope.spawn(|| server.get(&target))).collect();
        asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    });
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.body, answers[0].body);
        assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"));
    }
    assert_eq!(upstream.asked(), [format!("/symbols/{path}")]);
    assert!(server.metric("rekal_builds_total{outcome=\"built\"}") == Some(1.0), "one build");
    let profile = Profile::parse_text(gunzip(&answers[0].body)).expect("a profile");
    assert_eq!(profile.metadata_str("GUID_AGE"), Some(STRETCHED));
    // It is stored, listed and found now.
    let name = format!("omap_stretched/GUID/{STRETCHED}");
    let inventory = Inventory::parse(&server.get("/v1.0/inventory.gz").body, 1 << 20).expect("an inventory");
    assert_eq!(
        inventory.entries.keys().map(ToString::to_string).collect::<Vec<_>>(),
        std::slice::from_ref(&name)
    );
    let found = server.json(&format!("/lookup?guid={}&age=1&pdb=omap_stretched.pdb", &STRETCHED[..32]));
    assert_eq!(found["names"][0]["name"], name.as_str());
    assert_eq!(found["names"][0]["by"], serde_json::json!(["guid", "pdb"]));
    // A debugger gets the PDB itself, and the upstream server is not asked again.
    let symbols = server.get(&format!("/{path}"));
    assert_eq!((symbols.status, symbols.body == bytes), (200, true));
    assert_eq!(upstream.asked().len(), 1);
    drop(server);
    let kept = files(root.path());
    assert_eq!(kept, [format!("symbols/{path}"), "v1.0/inventory.gz".to_owned(), format!("v1.0/{name}.gz")]);
}

#[test]
fn what_takes_longer_comes_later() {
    let Some(bytes) = pdb("vs2019_cpp_override.pdb") else { return };
    let upstream = Upstream::start();
    let path = format!("vs2019_cpp_override.pdb/{OVERRIDE}/vs2019_cpp_override.pdb");
    upstream.serve(&path, Page::Slow(Duration::from_secs(2), bytes));
    let root = tempfile::tempdir().expect("scratch");
    let server = Server::with(root.path(), &building(&upstream, ""));
    // Asked for in lower case, which is another spelling of the same name.
    let target = format!("/v1.0/vs2019_cpp_override/GUID/{}.gz", OVERRIDE.to_lowercase());
    let answer = server.fetch("GET", &target, "User-Agent: rekal\r\nPrefer: respond-async\r\n");
    assert_eq!((answer.status, answer.header("retry-after")), (202, Some("3")));
    let status = answer.header("location").expect("where to ask").to_owned();
    assert_eq!(server.json(&status)["state"], "building");
    // An original client would take 202 for the profile.
    let answer = server.ask("GET", &target, "Prefer: wait=0\r\n");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("3")));
    // It asks again without `.gz` then, and is kept waiting.
    assert_eq!(server.get(target.trim_end_matches(".gz")).status, 200);
    assert_eq!(server.json(&status)["state"], "ready");
    assert_eq!(server.get(&target).status, 200);
}

#[test]
fn every_kind_of_miss_is_told_apart_and_remembered() {
    let Some(other) = pdb("omap_stretched.pdb") else { return };
    let upstream = Upstream::start();
    let id = |digit: char| format!("{}1", digit.to_string().repeat(32));
    let path = |digit| format!("ntkrnlmp.pdb/{}/ntkrnlmp.pdb", id(digit));
    upstream.serve(&path('1'), Page::Body(b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0".to_vec()));
    upstream.serve(&path('2'), Page::Body(other.clone()));
    upstream.serve(&path('3'), Page::Status(500));
    upstream.serve(&path('4'), Page::Body(b"<!DOCTYPE html><html>Please log in</html>".to_vec()));
    upstream.serve(&path('5'), Page::Broken(other));
    let root = tempfile::tempdir().expect("scratch");
    let server = Server::with(root.path(), &building(&upstream, ""));
    let ask = |module: &str, digit| {
        let answer = server.get(&format!("/v1.0/{module}/GUID/{}.gz", id(digit)));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert!(answer.header("retry-after").is_some(), "{body}");
        (answer.status, body["kind"].as_str().unwrap_or_default().to_owned(), body)
    };
    // A server that fails is left alone for a while, so that comes last.
    for (digit, status, kind) in [
        ('1', 502, "malformed"),
        ('2', 502, "malformed"),
        ('6', 404, "not found"),
        ('5', 503, "upstream down"),
        ('4', 503, "upstream down"),
        ('3', 503, "upstream down"),
    ] {
        let (answered, name, body) = ask("nt", digit);
        assert_eq!((answered, name.as_str()), (status, kind), "{body}");
        assert!(body["tried"].as_array().is_some_and(|tried| !tried.is_empty()), "who was asked: {body}");
        let asked = upstream.asked().len();
        assert_eq!(ask("nt", digit).0, status, "remembered");
        assert_eq!(upstream.asked().len(), asked, "not asked again for {digit}");
    }
    // The second name of kernels that is allowed is tried, the others are not.
    let asked: Vec<_> = upstream.asked().into_iter().filter(|path| path.contains(&id('6'))).collect();
    assert!(asked.iter().any(|path| path.contains("ntoskrnl.pdb")), "{asked:?}");
    assert!(!asked.iter().any(|path| path.contains("ntkrnlpa")), "{asked:?}");
    let asked = upstream.asked().len();
    assert_eq!(ask("tcpip", '7').1, "refused");
    assert_eq!(server.get("/tcpip.pdb/77777777777777777777777777777777A/tcpip.pdb").status, 404);
    for malformed in ["nt/GUID/1234", "nt/GUID/000000000000000000000000000000001", "a/b/c", "nt/GUID/../x"] {
        assert_eq!(server.get(&format!("/v1.0/{malformed}.gz")).status, 404, "{malformed}");
    }
    assert_eq!(upstream.asked().len(), asked);
    assert!(files(&root.path().join("v1.0")).iter().all(|file| file == "inventory.gz"));
}

#[test]
fn no_upstream_leads_to_a_private_address() {
    let inside = Upstream::start();
    let id = "1".repeat(33);
    inside.serve(&format!("ntkrnlmp.pdb/{id}/ntkrnlmp.pdb"), Page::Body(b"secret".to_vec()));
    let port = inside.address.port();
    let root = tempfile::tempdir().expect("scratch");
    for server in [
        format!("http://127.0.0.1:{port}/symbols"),
        format!("http://localhost:{port}/symbols"),
        format!("http://[::1]:{port}/symbols"),
        format!("http://[::ffff:127.0.0.1]:{port}/symbols"),
        format!("http://0.0.0.0:{port}/symbols"),
        format!("http://2130706433:{port}/symbols"),
        format!("http://0x7f.1:{port}/symbols"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        format!("ftp://127.0.0.1:{port}/symbols"),
        format!("file://{}", root.path().display()),
    ] {
        let config = format!("[build]\nsymbol_servers = [\"{server}\"]\n");
        let served = Server::with(root.path(), &config);
        let answer = served.get(&format!("/v1.0/nt/GUID/{id}.gz"));
        assert!(matches!(answer.status, 404 | 503), "{server}: {}", answer.head);
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    }
    assert_eq!(inside.asked(), Vec::<String>::new(), "nobody was asked");
}

#[test]
fn announced_names_are_listed_before_they_are_built() {
    let Some(bytes) = pdb("omap_stretched.pdb") else { return };
    let upstream = Upstream::start();
    let path = format!("omap_stretched.pdb/{STRETCHED}/omap_stretched.pdb");
    upstream.serve(&path, Page::Body(bytes));
    let root = tempfile::tempdir().expect("scratch");
    let names = root.path().join("announced.txt");
    let name = format!("omap_stretched/GUID/{STRETCHED}");
    fs::write(
        &names,
        format!(
            "# what the lab's machines run\n{}\nnonsense\n../../etc/passwd\n",
            name.to_lowercase().replace("guid", "GUID")
        ),
    )
    .expect("a file");
    fs::create_dir(root.path().join("v1.0")).expect("a tree");
    let config = building(&upstream, "") + &format!("announce = \"{}\"\n", names.display());
    let server = Server::with(root.path(), &config);
    // As an original client: only what the inventory lists is asked for; a time in the future would be fetched forever.
    let inventory = Inventory::parse(&server.get("/v1.0/inventory.gz").body, 1 << 20).expect("an inventory");
    let listed: Vec<_> = inventory.entries.iter().collect();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].0.as_str(), name);
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs_f64();
    assert!(listed[0].1.last_modified > 1.0e9 && listed[0].1.last_modified <= now);
    assert_eq!(upstream.asked().len(), 0, "nothing is built before it is asked for");
    assert_eq!(server.get(&format!("/v1.0/{name}.gz")).status, 200);
    let inventory = Inventory::parse(&server.get("/v1.0/inventory.gz").body, 1 << 20).expect("an inventory");
    let entry = inventory.entries.values().next().expect("listed");
    assert_eq!((entry.text("Announced"), entry.sha256().is_some()), (None, true));
}

#[test]
fn one_address_cannot_cause_builds_without_end() {
    let upstream = Upstream::start();
    let root = tempfile::tempdir().expect("scratch");
    let server = Server::with(root.path(), &(building(&upstream, "") + "per_address_per_minute = 3\n"));
    let statuses: Vec<_> =
        (1..=5).map(|n| server.get(&format!("/v1.0/nt/GUID/{n:032x}1.gz")).status).collect();
    assert_eq!(statuses, [404, 404, 404, 429, 429]);
}

#[test]
fn a_server_that_stops_does_not_wait_for_builds() {
    let upstream = Upstream::start();
    let path = format!("ntkrnlmp.pdb/{}/ntkrnlmp.pdb", "1".repeat(33));
    upstream.serve(&path, Page::Slow(Duration::from_secs(20), Vec::new()));
    let root = tempfile::tempdir().expect("scratch");
    let mut server = Server::with(root.path(), &building(&upstream, "[limits]\ndrain_seconds = 1\n"));
    let target = format!("/v1.0/nt/GUID/{}.gz", "1".repeat(33));
    assert_eq!(server.fetch("GET", &target, "Prefer: respond-async\r\n").status, 202);
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
