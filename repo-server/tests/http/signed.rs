//! The signature of the inventory. Truth: the `minisign` program, where it is installed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use repository::{Config, Inventory, Limits, PublicKey, SearchPath, SecretKey};

use crate::server::{Answer, Server};
use crate::{gunzip, kernel, skipped, tree, upload, write};

const SIGNATURE: &str = "/v1.0/inventory.gz.minisig";

fn key() -> (SecretKey, PublicKey) {
    let secret = SecretKey::generate().expect("a key");
    let public = secret.public().expect("its public key");
    (secret, public)
}

/// The names of an inventory that is signed by a key, or what the server says instead of a signature.
fn signed(server: &Server, key: &PublicKey) -> Result<Vec<String>, Answer> {
    let (inventory, signature) = (server.get("/v1.0/inventory.gz"), server.get(SIGNATURE));
    if signature.status != 200 {
        return Err(signature);
    }
    let text = String::from_utf8(signature.body).expect("text");
    key.verify(&inventory.body, &text).expect("the signature of what is served");
    check_with_minisign(&inventory.body, &text, key);
    let inventory = Inventory::parse(&inventory.body, 1 << 20).expect("an inventory");
    Ok(inventory.entries.keys().map(ToString::to_string).collect())
}

fn check_with_minisign(file: &[u8], signature: &str, key: &PublicKey) {
    let scratch = tempfile::tempdir().expect("scratch");
    let path = scratch.path().join("inventory.gz");
    fs::write(&path, file).expect("a file");
    fs::write(scratch.path().join("inventory.gz.minisig"), signature).expect("a signature");
    match Command::new("minisign").arg("-V").arg("-P").arg(key.to_string()).arg("-m").arg(&path).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => skipped("minisign is not installed"),
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_with_a_key_signs_what_it_publishes() {
    let root = tempfile::tempdir().expect("scratch");
    write(root.path(), "v1.0/Linux/a", kernel("a").to_canonical_json().as_bytes());
    let (secret, public) = key();
    write(root.path(), "key", secret.to_file().as_bytes());
    let config = format!("signing_key = {:?}\n{}", root.path().join("key"), upload::config(""));
    let mut server = Server::with(root.path(), &config);
    assert!(signed(&server, &public).is_ok_and(|names| names == ["Linux/a"]));
    let answer = server.get(SIGNATURE);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    for symbol in ["b", "c"] {
        let body = kernel(symbol).to_canonical_json();
        let target = format!("/v1.0/Linux/{symbol}");
        assert_eq!(upload::send(&server, "PUT", &target, "profiles", body.as_bytes()).status, 201);
        let names = signed(&server, &public).map_err(|answer| answer.status).expect("signed anew");
        assert!(names.contains(&format!("Linux/{symbol}")), "{names:?}");
    }
    // What rekal makes of it, with the right key and with another one.
    let load = |key: &PublicKey| {
        let entries = vec![format!("http://{}/#minisign={key}", server.address)];
        let config = Config { entries, ..Config::default() };
        SearchPath::open(&config).expect("a search path").load("Linux/b").map(|loaded| loaded.name)
    };
    assert_eq!(load(&public).expect("signed").as_str(), "Linux/b");
    let error = load(&key().1).expect_err("signed by somebody else");
    assert!(format!("{error:?}").contains("the signature is not of this file"), "{error:?}");
    // What is stored for those who read the directory is signed as well.
    server.stop();
    let file = |name: &str| fs::read(root.path().join("v1.0").join(name)).expect("a stored file");
    let text = String::from_utf8(file("inventory.gz.minisig")).expect("text");
    assert_eq!(public.verify(&file("inventory.gz"), &text), Ok(()));
    assert!(gunzip(&file("inventory.gz")).contains("Linux/c"));
}

#[test]
fn a_key_that_is_none_is_told() {
    let root = tree();
    for (text, why) in [(None, "No such file"), (Some("RWQ"), "not a minisign secret key")] {
        let path = root.path().join("key");
        if let Some(text) = text {
            fs::write(&path, text).expect("a file");
        }
        let config = repo_server::Config { signing_key: Some(path), ..repo_server::Config::default() };
        let error = repo_server::Service::open(root.path(), config).err().expect("no key").to_string();
        assert!(error.contains(why) && error.contains("signing key"), "{error}");
    }
}

/// Indexes and signs a tree as `rekal repo index` and `rekal repo sign` do.
fn sign(root: &Path, secret: &SecretKey) {
    repository::build_inventory(root, &Limits::default()).expect("an inventory");
    repository::sign(root, secret, &Limits::default()).expect("a signature");
}

#[test]
fn a_signature_in_the_tree_is_served_until_it_is_stale() {
    let root = tree();
    let (secret, public) = key();
    sign(root.path(), &secret);
    let server = Server::with(root.path(), "[limits]\nrescan_seconds = 1\n");
    let names = signed(&server, &public).map_err(|answer| answer.status).expect("as it lies there");
    assert_eq!(names, ["LinAlias", "Linux/fixture", "Linux/plain"]);
    write(root.path(), "v1.0/Linux/new", kernel("new").to_canonical_json().as_bytes());
    until("a stale signature is not served", || {
        signed(&server, &public).is_err_and(|answer| answer.status == 404)
    });
    assert!(gunzip(&server.get("/v1.0/inventory.gz").body).contains("Linux/new"));
    sign(root.path(), &secret);
    until("the new one is noticed", || signed(&server, &public).is_ok_and(|names| names.len() == 4));
}

#[test]
fn a_server_without_a_key_leaves_no_stale_signature_behind() {
    let root = tree();
    let (secret, public) = key();
    sign(root.path(), &secret);
    let signature = root.path().join("v1.0/inventory.gz.minisig");
    let stored = fs::read(&signature).expect("a signature");
    let mut server = Server::with(root.path(), &upload::config(""));
    assert!(signed(&server, &public).is_ok());
    server.stop();
    assert!(fs::read(&signature).is_ok_and(|now| now == stored), "nothing was changed");
    let mut server = Server::with(root.path(), &upload::config(""));
    let body = kernel("b").to_canonical_json();
    assert_eq!(upload::send(&server, "PUT", "/v1.0/Linux/b", "profiles", body.as_bytes()).status, 201);
    assert!(signed(&server, &public).is_err_and(|answer| answer.status == 404));
    server.stop();
    assert!(!signature.exists());
}
