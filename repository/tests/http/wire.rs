//! The requests made, in order, against what original clients were recorded to make.

use std::net::TcpListener;

use profile::Document;
use profile::names::{BuildId, ProfileName};
use repository::{Answer, Config, Inventory, InventoryEntry, LinuxEvidence, LoadFailure};

use crate::server::{Page, Server};
use crate::{Session, gz, inventory, kernel, quick};

const INVENTORY: &str = "/v1.0/inventory.gz";
const FIXTURE: &str = "/v1.0/Linux/fixture.gz";

fn serve_fixture(server: &Server, listed: f64) {
    server.serve(INVENTORY, Page::Tagged(inventory(&[("Linux/fixture", listed)]), "\"i1\""));
    server.serve(FIXTURE, Page::Tagged(gz(&kernel("one")), "\"p1\""));
}

#[test]
fn cold_then_warm() {
    let server = Server::start();
    let cache = tempfile::tempdir().expect("scratch");
    serve_fixture(&server, 1000.0);

    let session = Session::new(&server.base(), Some(cache.path()));
    let loaded = session.path.load("Linux/fixture").expect("fetched");
    assert_eq!(loaded.profile.symbol("one"), Some(1));
    assert_eq!(server.requests(), ["GET /v1.0/inventory.gz 200", "GET /v1.0/Linux/fixture.gz 200"]);
    let base = server.base();
    assert_eq!(session.announced(), [format!("{base}{INVENTORY}"), format!("{base}{FIXTURE}")]);
    // The inventory is asked once a session, the profile comes from the cache.
    session.path.load("Linux/fixture").expect("cached");
    assert_eq!(server.requests(), [""; 0]);

    let session = Session::new(&server.base(), Some(cache.path()));
    let loaded = session.path.load("Linux/fixture").expect("cached");
    assert_eq!(loaded.profile.symbol("one"), Some(1));
    assert!(loaded.source.contains("cached in"), "{}", loaded.source);
    assert_eq!(server.requests(), ["GET /v1.0/inventory.gz [etag \"i1\"] 304"]);
}

#[test]
fn without_a_cache_every_session_fetches() {
    let server = Server::start();
    serve_fixture(&server, 1000.0);
    for _ in 0..2 {
        Session::new(&server.base(), None).path.load("Linux/fixture").expect("fetched");
        assert_eq!(server.requests().len(), 2);
    }
}

#[test]
fn a_symlink_costs_one_request_per_hop() {
    let server = Server::start();
    server.serve(INVENTORY, Page::Bare(inventory(&[("Linux/fixture", 1.0), ("LinAlias", 1.0)])));
    server.serve(FIXTURE, Page::Bare(gz(&kernel("one"))));
    server.serve("/v1.0/LinAlias.gz", Page::Bare(gz(&Document::symlink("Linux/fixture"))));
    let loaded = Session::new(&server.base(), None).path.load("LinAlias").expect("two hops");
    assert_eq!((loaded.name.as_str(), loaded.chain), ("Linux/fixture", vec!["LinAlias".to_owned()]));
    assert_eq!(
        server.requests(),
        ["GET /v1.0/inventory.gz 200", "GET /v1.0/LinAlias.gz 200", "GET /v1.0/Linux/fixture.gz 200"]
    );
}

#[test]
fn a_name_that_is_not_listed_is_never_requested() {
    let server = Server::start();
    serve_fixture(&server, 1.0);
    server.serve("/v1.0/Linux/unlisted.gz", Page::Bare(gz(&kernel("one"))));
    let session = Session::new(&server.base(), None);
    let error = session.path.load("Linux/unlisted").expect_err("not listed");
    assert_eq!(error.failure, LoadFailure::NotFound);
    assert_eq!(error.trace[1].answer, Answer::NotListed);
    assert_eq!(server.requests(), ["GET /v1.0/inventory.gz 200"]);
}

#[test]
fn any_http_error_on_gz_falls_back_to_plain_json() {
    for status in [404, 500, 403] {
        let server = Server::start();
        let cache = tempfile::tempdir().expect("scratch");
        server.serve(INVENTORY, Page::Bare(inventory(&[("Linux/fixture", 1.0)])));
        server.serve(FIXTURE, Page::Status(status));
        let plain = kernel("plain").to_canonical_json().into_bytes();
        server.serve("/v1.0/Linux/fixture", Page::Tagged(plain, "\"p\""));
        for requests in [3, 1] {
            let session = Session::new(&server.base(), Some(cache.path()));
            let loaded = session.path.load("Linux/fixture").expect("the plain one");
            assert_eq!(loaded.profile.symbol("plain"), Some(1));
            assert_eq!(server.requests().len(), requests);
        }
    }
}

#[test]
fn an_inventory_may_be_stored_plain_too() {
    let server = Server::start();
    let plain = Inventory::parse(&inventory(&[("Linux/fixture", 1.0)]), 1 << 20).expect("an inventory");
    let plain = plain.to_document().to_canonical_json().into_bytes();
    server.serve("/v1.0/inventory", Page::Bare(plain));
    server.serve(FIXTURE, Page::Bare(gz(&kernel("one"))));
    Session::new(&server.base(), None).path.load("Linux/fixture").expect("fetched");
    assert_eq!(
        server.requests(),
        ["GET /v1.0/inventory.gz 404", "GET /v1.0/inventory 200", "GET /v1.0/Linux/fixture.gz 200"]
    );
}

#[test]
fn listed_but_gone_is_said_so() {
    let server = Server::start();
    server.serve(INVENTORY, Page::Bare(inventory(&[("Linux/fixture", 1.0)])));
    let error = Session::new(&server.base(), None).path.load("Linux/fixture").expect_err("gone");
    assert_eq!(error.trace[1].answer, Answer::NotFound);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_newer_listing_revalidates_and_only_a_change_is_transferred() {
    let server = Server::start();
    let cache = tempfile::tempdir().expect("scratch");
    let load = || {
        let session = Session::new(&server.base(), Some(cache.path()));
        let loaded = session.path.load("Linux/fixture").expect("loaded");
        (loaded.profile.symbol("one").is_some(), server.requests())
    };
    serve_fixture(&server, 1000.0);
    load();
    // Listed as newer, but the same bytes.
    server.serve(INVENTORY, Page::Tagged(inventory(&[("Linux/fixture", 2000.0)]), "\"i2\""));
    assert_eq!(
        load(),
        (
            true,
            vec![
                "GET /v1.0/inventory.gz [etag \"i1\"] 200".to_owned(),
                "GET /v1.0/Linux/fixture.gz [etag \"p1\"] 304".to_owned()
            ]
        )
    );
    // That is remembered; a time in the future does not refetch for ever.
    assert_eq!(load().1, ["GET /v1.0/inventory.gz [etag \"i2\"] 304"]);
    // Listed as newer, other bytes.
    server
        .serve(INVENTORY, Page::Dated(inventory(&[("Linux/fixture", 4e9)]), "Wed, 21 Oct 2015 07:28:00 GMT"));
    server.serve(FIXTURE, Page::Tagged(gz(&kernel("two")), "\"p2\""));
    assert_eq!(
        load(),
        (
            false,
            vec![
                "GET /v1.0/inventory.gz [etag \"i2\"] 200".to_owned(),
                "GET /v1.0/Linux/fixture.gz [etag \"p1\"] 200".to_owned()
            ]
        )
    );
    assert_eq!(
        load(),
        (false, vec!["GET /v1.0/inventory.gz [since Wed, 21 Oct 2015 07:28:00 GMT] 304".to_owned()])
    );
}

#[test]
fn an_outage_with_a_warm_cache_still_works() {
    let mut server = Server::start();
    let cache = tempfile::tempdir().expect("scratch");
    serve_fixture(&server, 1000.0);
    let base = server.base();
    Session::new(&base, Some(cache.path())).path.load("Linux/fixture").expect("fetched");
    server.stop();

    let session = Session::new(&base, Some(cache.path()));
    let loaded = session.path.load("Linux/fixture").expect("from the cache");
    assert_eq!(loaded.profile.symbol("one"), Some(1));
    let notes = session.path.take_notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("did not answer") && notes[0].contains("only what the cache holds"),
        "{notes:?}"
    );
    let error = session.path.load("Linux/other").expect_err("never fetched");
    assert_eq!(error.trace[1].answer, Answer::NotListed);

    let session = Session::new(&base, None);
    let error = session.path.load("Linux/fixture").expect_err("no cache");
    assert!(
        matches!(&error.trace[1].answer, Answer::Unreachable(reason) if reason.contains("refused")),
        "{error:?}"
    );
}

#[test]
fn an_outage_in_the_middle_uses_the_older_copy_and_says_so() {
    let server = Server::start();
    let cache = tempfile::tempdir().expect("scratch");
    serve_fixture(&server, 1000.0);
    Session::new(&server.base(), Some(cache.path())).path.load("Linux/fixture").expect("fetched");
    serve_fixture(&server, 2000.0);
    server.serve(INVENTORY, Page::Bare(inventory(&[("Linux/fixture", 2000.0)])));
    server.serve(FIXTURE, Page::Status(503));
    let session = Session::new(&server.base(), Some(cache.path()));
    let loaded = session.path.load("Linux/fixture").expect("the older copy");
    let answers: Vec<_> = loaded.trace.iter().map(|asked| asked.answer.clone()).collect();
    assert_eq!(answers, [Answer::NotFound, Answer::Refused("HTTP status 503".to_owned()), Answer::Found]);
}

#[test]
fn offline_opens_no_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.set_nonblocking(true).expect("a non-blocking socket");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let session = Session::with(&Config { entries: vec![base], offline: true, ..Config::default() });
    let error = session.path.load("Linux/fixture").expect_err("nothing cached");
    assert_eq!(error.trace[1].answer, Answer::Offline);
    let evidence = LinuxEvidence { release: Some("6.1.0-56".to_owned()), ..LinuxEvidence::default() };
    assert!(session.path.find_linux(&evidence).is_err());
    assert_eq!(session.announced(), [""; 0]);
    assert_eq!(session.path.take_notes(), [""; 0]);
    let accepted = listener.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(accepted, Err(std::io::ErrorKind::WouldBlock), "somebody connected");
}

#[test]
fn offline_answers_from_the_cache() {
    let server = Server::start();
    let cache = tempfile::tempdir().expect("scratch");
    serve_fixture(&server, 1000.0);
    let base = server.base();
    Session::new(&base, Some(cache.path())).path.load("Linux/fixture").expect("fetched");
    server.requests();
    let cache_dir = Some(cache.path().to_owned());
    let session = Session::with(&Config {
        entries: vec![base],
        cache_dir,
        offline: true,
        limits: quick(),
        ..Config::default()
    });
    session.path.load("Linux/fixture").expect("from the cache");
    assert_eq!(server.requests(), [""; 0]);
}

#[test]
fn kernels_are_found_in_an_inventory_without_fetching_profiles() {
    let server = Server::start();
    let id = "3b43fad5034874490492495d552c0af6a5fab235";
    let mut listed = Inventory::default();
    let mut add = |name: &str, key: &str, value: &str| {
        let mut entry = InventoryEntry { last_modified: 1.0, ..InventoryEntry::default() };
        entry.keys.insert(key.to_owned(), value.into());
        listed.entries.insert(ProfileName::new(name).expect("a name"), entry);
    };
    add("Linux/a", "BuildID", id);
    add("Debian/6.1.0-56-cloud-amd64", "ProfileClass", "Linux");
    server.serve(INVENTORY, Page::Bare(listed.to_gzip()));
    let session = Session::new(&server.base(), None);
    let evidence = LinuxEvidence {
        build_id: BuildId::from_hex(id),
        banner: Some("Linux version 6.1.0-56-cloud-amd64 (x) #1".to_owned()),
        release: None,
    };
    let names: Vec<_> = session
        .path
        .find_linux(&evidence)
        .expect("two")
        .into_iter()
        .map(|found| found.name.to_string())
        .collect();
    assert_eq!(names, ["Linux/a", "Debian/6.1.0-56-cloud-amd64"]);
    assert_eq!(server.requests(), ["GET /v1.0/inventory.gz 200"]);
}

#[test]
fn base_urls_with_slash_and_query_work() {
    let server = Server::start();
    serve_fixture(&server, 1.0);
    server.serve("/sub/v1.0/inventory.gz?key=a", Page::Bare(inventory(&[("Linux/fixture", 1.0)])));
    server.serve("/sub/v1.0/Linux/fixture.gz?key=a", Page::Bare(gz(&kernel("one"))));
    let base = server.base();
    Session::new(&format!("{base}/"), None).path.load("Linux/fixture").expect("with a slash");
    assert_eq!(server.requests(), ["GET /v1.0/inventory.gz 200", "GET /v1.0/Linux/fixture.gz 200"]);
    let session = Session::new(&format!("{base}/sub/?key=a"), None);
    session.path.load("Linux/fixture").expect("with a query");
    assert_eq!(session.announced()[0], format!("{base}/sub/v1.0/inventory.gz"), "the key is not shown");
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let server = Server::start();
    server.serve(INVENTORY, Page::Redirect("/elsewhere".to_owned()));
    server.serve("/elsewhere", Page::Bare(inventory(&[("Linux/fixture", 1.0)])));
    server.serve(FIXTURE, Page::Redirect(FIXTURE.to_owned()));
    let session = Session::new(&server.base(), None);
    let error = session.path.load("Linux/fixture").expect_err("a redirect loop");
    assert!(
        matches!(&error.trace[1].answer, Answer::Unreachable(reason) if reason.contains("redirects")),
        "{error:?}"
    );
    assert!(server.requests().len() < 12);
}

#[test]
fn a_withdrawn_profile_is_not_served_from_the_cache() {
    let server = Server::start();
    let cache = tempfile::tempdir().expect("scratch");
    serve_fixture(&server, 1.0);
    Session::new(&server.base(), Some(cache.path())).path.load("Linux/fixture").expect("fetched");
    server.serve(INVENTORY, Page::Bare(inventory(&[])));
    server.remove(FIXTURE);
    let error =
        Session::new(&server.base(), Some(cache.path())).path.load("Linux/fixture").expect_err("withdrawn");
    assert_eq!(error.trace[1].answer, Answer::NotListed);
}
