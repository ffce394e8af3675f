//! Servers and networks that give something else than a profile.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use repository::{Answer, Config, Inventory, InventoryEntry, Limits, LoadError};

use crate::server::{Page, Server};
use crate::{Session, gz, inventory, kernel, quick};

const INVENTORY: &str = "/v1.0/inventory.gz";
const FIXTURE: &str = "/v1.0/Linux/fixture.gz";
const PORTAL: &[u8] = b"<!DOCTYPE html>\n<html><body>Please log in to use this network</body></html>";

fn listed(server: &Server) {
    server.serve(INVENTORY, Page::Bare(inventory(&[("Linux/fixture", 1.0)])));
}

fn last(error: &LoadError) -> &Answer {
    &error.trace.last().expect("somebody was asked").answer
}

#[test]
fn a_captive_portal_switches_the_repository_off_once() {
    let server = Server::start();
    for path in [INVENTORY, FIXTURE, "/v1.0/Linux/b.gz"] {
        server.serve(path, Page::Bare(PORTAL.to_vec()));
    }
    let session = Session::new(&server.base(), None);
    for name in ["Linux/fixture", "Linux/b"] {
        let error = session.path.load(name).expect_err("a portal");
        assert!(
            matches!(last(&error), Answer::Refused(reason) if reason.contains("captive portal")),
            "{error:?}"
        );
    }
    assert_eq!(server.requests(), ["GET /v1.0/inventory.gz 200"]);
    let notes = session.path.take_notes();
    assert_eq!(notes.len(), 1, "one warning a session: {notes:?}");
}

#[test]
fn a_captive_portal_does_not_spoil_a_warm_cache() {
    let server = Server::start();
    let cache = tempfile::tempdir().expect("scratch");
    listed(&server);
    server.serve(FIXTURE, Page::Bare(gz(&kernel("one"))));
    Session::new(&server.base(), Some(cache.path())).path.load("Linux/fixture").expect("fetched");
    // The portal answers everything; then only the profile, listed as newer; then it is gone.
    server.serve(INVENTORY, Page::Bare(PORTAL.to_vec()));
    server.serve(FIXTURE, Page::Bare(PORTAL.to_vec()));
    Session::new(&server.base(), Some(cache.path())).path.load("Linux/fixture").expect("from the cache");
    server.serve(INVENTORY, Page::Bare(inventory(&[("Linux/fixture", 9.0)])));
    let loaded =
        Session::new(&server.base(), Some(cache.path())).path.load("Linux/fixture").expect("from the cache");
    assert!(matches!(&loaded.trace[1].answer, Answer::Damaged(reason) if reason.contains("HTML")));
    server.serve(FIXTURE, Page::Bare(gz(&kernel("two"))));
    let loaded =
        Session::new(&server.base(), Some(cache.path())).path.load("Linux/fixture").expect("fetched");
    assert_eq!(loaded.profile.symbol("two"), Some(1));
}

#[test]
fn no_inventory_means_no_repository() {
    let server = Server::start();
    server.serve(FIXTURE, Page::Bare(gz(&kernel("one"))));
    let session = Session::new(&server.base(), None);
    let error = session.path.load("Linux/fixture").expect_err("no inventory");
    assert_eq!(last(&error), &Answer::Refused("it has no v1.0/inventory.gz".to_owned()));
    assert_eq!(server.requests(), ["GET /v1.0/inventory.gz 404", "GET /v1.0/inventory 404"]);
}

#[test]
fn a_truncated_body_is_damaged_and_not_kept() {
    let server = Server::start();
    let cache = tempfile::tempdir().expect("scratch");
    listed(&server);
    let whole = gz(&kernel("one"));
    server.serve(FIXTURE, Page::Bare(whole[..whole.len() - 10].to_vec()));
    let error =
        Session::new(&server.base(), Some(cache.path())).path.load("Linux/fixture").expect_err("half");
    assert!(matches!(last(&error), Answer::Damaged(reason) if reason.contains("gzip")), "{error:?}");
    server.serve(FIXTURE, Page::Bare(whole));
    Session::new(&server.base(), Some(cache.path())).path.load("Linux/fixture").expect("whole");
}

#[test]
fn json_that_is_no_profile_is_not_kept() {
    let server = Server::start();
    listed(&server);
    server.serve(FIXTURE, Page::Bare(br#"{"error": "please authenticate"}"#.to_vec()));
    let error = Session::new(&server.base(), None).path.load("Linux/fixture").expect_err("an API error");
    assert!(matches!(last(&error), Answer::Damaged(reason) if reason.contains("$METADATA")), "{error:?}");
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let server = Server::start();
    listed(&server);
    // 50 MB of blanks in 50 KB.
    server.serve(FIXTURE, Page::Bare(profile::gzip(&vec![b' '; 50 << 20])));
    let limits = Limits { max_text: 1 << 20, max_body: 1 << 20, ..quick() };
    let config = Config { entries: vec![server.base()], limits, ..Config::default() };
    let error = Session::with(&config).path.load("Linux/fixture").expect_err("a bomb");
    assert!(matches!(last(&error), Answer::Damaged(reason) if reason.contains("limit")), "{error:?}");
    // The same as the body itself.
    server.serve(FIXTURE, Page::Bare(vec![b' '; 50 << 20]));
    let error = Session::with(&config).path.load("Linux/fixture").expect_err("a large body");
    assert!(matches!(last(&error), Answer::Damaged(reason) if reason.contains("limit")), "{error:?}");
    // And as the inventory.
    server.serve(INVENTORY, Page::Bare(profile::gzip(&vec![b' '; 50 << 20])));
    let limits = Limits { max_inventory: 1 << 20, ..limits };
    let error = Session::with(&Config { limits, ..config }).path.load("Linux/fixture").expect_err("a bomb");
    assert!(matches!(last(&error), Answer::Refused(reason) if reason.contains("limit")), "{error:?}");
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let list = inventory(&[("Linux/fixture", 1.0)]);
    // The inventory whole, of the profile two bytes; then the connection stays open until the client gives up.
    let server = std::thread::spawn(move || {
        for (body, promised) in [(list.as_slice(), list.len()), (b"{\n".as_slice(), 1000)] {
            let (mut connection, _) = listener.accept().expect("a connection");
            let mut request = [0; 4096];
            assert!(connection.read(&mut request).expect("a request") > 0);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {promised}\r\nConnection: close\r\n\r\n");
            connection
                .write_all(head.as_bytes())
                .and_then(|()| connection.write_all(body))
                .expect("an answer");
            if body.len() < promised {
                let _ = connection.read(&mut request);
            }
        }
    });
    let start = Instant::now();
    let error = Session::new(&base, None).path.load("Linux/fixture").expect_err("silence");
    assert_eq!(last(&error), &Answer::Unreachable("no answer within 0.5 s".to_owned()));
    assert!(start.elapsed() < Duration::from_secs(8), "the limit is half a second");
    server.join().expect("the server thread");
}

#[test]
fn a_body_that_is_not_the_one_listed_is_refused() {
    let server = Server::start();
    let mut list = Inventory::default();
    let mut entry = InventoryEntry { last_modified: 1.0, ..InventoryEntry::default() };
    entry.keys.insert("SHA256".to_owned(), kernel("one").content_hash().into());
    list.entries.insert(profile::names::ProfileName::new("Linux/fixture").expect("a name"), entry);
    server.serve(INVENTORY, Page::Bare(list.to_gzip()));
    server.serve(FIXTURE, Page::Bare(gz(&kernel("one"))));
    Session::new(&server.base(), None).path.load("Linux/fixture").expect("the right one");
    server.serve(FIXTURE, Page::Bare(gz(&kernel("forged"))));
    let error = Session::new(&server.base(), None).path.load("Linux/fixture").expect_err("another one");
    assert!(matches!(last(&error), Answer::Damaged(reason) if reason.contains("SHA-256")), "{error:?}");
}

#[test]
fn a_cache_that_cannot_be_written_costs_a_note_only() {
    let server = Server::start();
    listed(&server);
    server.serve(FIXTURE, Page::Bare(gz(&kernel("one"))));
    let file = tempfile::NamedTempFile::new().expect("scratch");
    let session = Session::new(&server.base(), Some(&file.path().join("below/a/file")));
    session.path.load("Linux/fixture").expect("fetched");
    let notes = session.path.take_notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("cannot write the profile cache"), "{notes:?}");
}

#[test]
fn https_never_falls_back_to_an_unencrypted_answer() {
    let server = Server::start();
    listed(&server);
    let base = server.base().replace("http://", "https://");
    let error =
        Session::new(&base, None).path.load("Linux/fixture").expect_err("the server speaks plain http");
    assert!(matches!(last(&error), Answer::Unreachable(_)), "{error:?}");
    assert_eq!(server.requests(), [""; 0]);
}
