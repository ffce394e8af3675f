//! The requests of original clients, as recorded on the wire, over a tree the original wrote.
//!
//! Truth: the traces of original Rekall 1.6.0 and 1.7.2rc1 (cold, warm, symlink, missing, uncompressed only, outage), and
//! the profiles of its repository in the test data. What the client does with an answer is done here as it does it: a
//! `.gz` body is gunzipped whatever the headers say, an error of any kind makes it ask again without `.gz`, and a name the
//! inventory does not list is never asked for.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use serde_json::Value;

use crate::server::Server;
use crate::{data, gunzip, kernel, skipped, write};

/// An original client with its cache.
struct Original<'a> {
    server: &'a Server,
    /// What it has, by name, with the time of the file.
    cache: HashMap<String, (f64, Value)>,
    trace: Vec<String>,
}

impl<'a> Original<'a> {
    fn new(server: &'a Server) -> Self {
        Self { server, cache: HashMap::new(), trace: Vec::new() }
    }

    fn get(&mut self, path: &str) -> Option<Vec<u8>> {
        let answer = self.server.get(path);
        self.trace.push(format!("{} {path}", answer.status));
        assert_eq!(answer.header("content-encoding"), None, "{path}: it does not know that header");
        // Python's library takes any 2xx for the document.
        (200..300).contains(&answer.status).then_some(answer.body)
    }

    fn document(&mut self, name: &str) -> Option<Value> {
        let text = match self.get(&format!("/v1.0/{name}.gz")) {
            Some(body) => gunzip(&body),
            None => String::from_utf8(self.get(&format!("/v1.0/{name}"))?).expect("text"),
        };
        Some(serde_json::from_str(&text).expect("JSON"))
    }

    /// One session that loads a profile; `None` where the client finds none.
    fn load(&mut self, name: &str) -> Option<Value> {
        let inventory = self.document("inventory")?;
        let kind = |key| inventory["$METADATA"][key].as_str();
        assert_eq!((kind("Type"), kind("ProfileClass")), (Some("Inventory"), Some("Inventory")));
        let listed: BTreeMap<&String, f64> = inventory["$INVENTORY"]
            .as_object()
            .expect("a list")
            .iter()
            .map(|(name, entry)| (name, entry["LastModified"].as_f64().expect("a time in every entry")))
            .collect();
        let mut name = name.to_owned();
        loop {
            let modified = *listed.get(&name)?;
            let document = match self.cache.get(&name) {
                Some((kept, document)) if *kept >= modified => document.clone(),
                _ => {
                    let document = self.document(&name)?;
                    assert!(document["$METADATA"].is_object(), "it keeps nothing without metadata");
                    self.cache.insert(name.clone(), (modified, document.clone()));
                    document
                }
            };
            match document["$METADATA"]["Target"].as_str() {
                Some(target) if document["$METADATA"]["Type"] == "Symlink" => name = target.to_owned(),
                _ => return Some(document),
            }
        }
    }

    fn traced(&mut self) -> Vec<String> {
        std::mem::take(&mut self.trace)
    }
}

const KERNEL: &str = "nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942";

#[test]
fn traces_over_the_original_s_own_tree() {
    let tree = data("rekall");
    if !tree.join("v1.0/inventory.gz").is_file() {
        skipped("no repository of the original in the test data");
        return;
    }
    let stored = |name: &str| fs::read(tree.join(format!("v1.0/{name}.gz"))).expect("a file of the original");
    let mut server = Server::start(&tree);
    let mut client = Original::new(&server);
    // Cold.
    let document = client.load(KERNEL).expect("the kernel's profile");
    assert_eq!(document["$METADATA"]["ProfileClass"], "Nt");
    assert_eq!(client.traced(), ["200 /v1.0/inventory.gz".to_owned(), format!("200 /v1.0/{KERNEL}.gz")]);
    // Warm.
    assert!(client.load(KERNEL).is_some());
    assert_eq!(client.traced(), ["200 /v1.0/inventory.gz"]);
    // Detection reads the indexes; each is the very file of the original.
    for name in ["nt/index", "nt/eprocess_index", "tcpip/index", "win32k/index", "pe", KERNEL] {
        assert!(client.load(name).is_some(), "{name}");
        assert_eq!(server.get(&format!("/v1.0/{name}.gz")).body, stored(name), "{name}");
        let plain = server.get(&format!("/v1.0/{name}")).body;
        assert_eq!(String::from_utf8(plain).expect("text"), gunzip(&stored(name)), "{name}");
    }
    // What its inventory says of the files that are there is said again, number for number.
    let ours: Value = serde_json::from_str(&gunzip(&server.get("/v1.0/inventory.gz").body)).expect("JSON");
    let theirs: Value = serde_json::from_str(&gunzip(&stored("inventory"))).expect("JSON");
    assert_eq!(ours["$METADATA"], theirs["$METADATA"]);
    let mut compared = 0;
    for (name, entry) in ours["$INVENTORY"].as_object().expect("a list") {
        // Written after the inventory was: described anew.
        if entry.get("SHA256").is_none() {
            assert_eq!(*entry, theirs["$INVENTORY"][name], "{name}");
            compared += 1;
        }
        assert!(tree.join(format!("v1.0/{name}.gz")).is_file(), "{name} is there");
    }
    assert!(compared > 0 || ours["$INVENTORY"].as_object().is_some_and(|list| list.len() == 8));
    client.traced();
    // Not listed, so never asked for.
    assert!(client.load("nt/GUID/00000000000000000000000000000000F").is_none());
    assert_eq!(client.traced(), ["200 /v1.0/inventory.gz"]);
    // Outage with a warm cache: the client goes on without us; when we are back it is as before.
    let cache = client.cache;
    server.stop();
    let server = Server::start(&tree);
    let mut client = Original { server: &server, cache, trace: Vec::new() };
    assert!(client.load(KERNEL).is_some());
    assert_eq!(client.traced(), ["200 /v1.0/inventory.gz"]);
}

#[test]
fn traces_of_symlinks_missing_and_uncompressed_files() {
    let root = tempfile::tempdir().expect("scratch");
    write(root.path(), "v1.0/Linux/fixture.gz", &profile::gzip(kernel("one").to_canonical_json().as_bytes()));
    write(root.path(), "v1.0/Linux/plain", kernel("plain").to_canonical_json().as_bytes());
    let link = profile::Document::symlink("Linux/fixture").to_canonical_json();
    write(root.path(), "v1.0/LinAlias.gz", &profile::gzip(link.as_bytes()));
    let server = Server::start(root.path());
    let mut client = Original::new(&server);
    // Symlink: one request per hop.
    let document = client.load("LinAlias").expect("by the alias");
    assert_eq!(document["$CONSTANTS"]["one"], 1);
    assert_eq!(
        client.traced(),
        ["200 /v1.0/inventory.gz", "200 /v1.0/LinAlias.gz", "200 /v1.0/Linux/fixture.gz"]
    );
    // Uncompressed only: the first request is answered already; the second one, should it come, too.
    let document = client.load("Linux/plain").expect("stored plain");
    assert_eq!(document["$CONSTANTS"]["plain"], 1);
    assert_eq!(client.traced(), ["200 /v1.0/inventory.gz", "200 /v1.0/Linux/plain.gz"]);
    assert!(client.get("/v1.0/Linux/plain").is_some());
    client.traced();
    // Listed, but gone since: both requests fail, and the client moves on.
    let listed = client.document("inventory").expect("an inventory");
    assert!(listed["$INVENTORY"]["Linux/fixture"].is_object());
    fs::remove_file(root.path().join("v1.0/Linux/fixture.gz")).expect("gone");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    client.cache.clear();
    client.traced();
    assert!(client.document("Linux/fixture").is_none());
    assert_eq!(client.traced(), ["404 /v1.0/Linux/fixture.gz", "404 /v1.0/Linux/fixture"]);
}
