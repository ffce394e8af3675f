//! A repo-server: asked by evidence, and for names it does not list but makes.

use profile::names::{BuildId, ProfileName};
use repository::{Answer, Config, Limits, LinuxEvidence, Reason};
use std::time::Duration;

use crate::server::{Page, Server};
use crate::{Session, gz, inventory, kernel, quick};

const GUID: &str = "nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942";
const WELL_KNOWN: &str = "/.well-known/rekal-repository";

fn described(server: &Server) {
    server.serve("/v1.0/inventory.gz", Page::Described(inventory(&[("Linux/fixture", 1.0)])));
    let text = br#"{"version": 1, "lookup": "/lookup", "build_on_demand": true}"#;
    server.serve(WELL_KNOWN, Page::Bare(text.to_vec()));
}

#[test]
fn a_missing_profile_is_made_waited_for_and_kept() {
    let (server, cache) = (Server::start(), tempfile::tempdir().expect("scratch"));
    described(&server);
    let path = format!("/v1.0/{GUID}.gz");
    let later = Page::Later(202, r#"{"state": "building"}"#);
    server.serve(&path, Page::Sequence(vec![later.clone(), later, Page::Bare(gz(&kernel("made")))]));
    let name = ProfileName::new(GUID).expect("a name");
    let session = Session::new(&server.base(), Some(cache.path()));
    let loaded = session.path.load_named(&name).expect("made");
    assert!(loaded.source.contains("made on demand"), "{}", loaded.source);
    assert_eq!(
        server.requests(),
        [
            "GET /v1.0/inventory.gz 200".to_owned(),
            format!("GET {WELL_KNOWN} 200"),
            format!("GET {path} 202"),
            format!("GET {path} 202"),
            format!("GET {path} 200"),
        ]
    );
    assert_eq!(session.path.take_notes().len(), 1, "that it takes a while is said once");
    // The next session has it, also without the server.
    let config = Config {
        entries: vec![server.base()],
        cache_dir: Some(cache.path().to_owned()),
        offline: true,
        ..Config::default()
    };
    assert!(Session::with(&config).path.load_named(&name).is_ok());
    assert!(Session::new(&server.base(), Some(cache.path())).path.load_named(&name).is_ok());
    assert_eq!(server.requests(), ["GET /v1.0/inventory.gz 200"]);
}

#[test]
fn waiting_has_an_end_and_refusals_their_reason() {
    let server = Server::start();
    described(&server);
    let name = ProfileName::new(GUID).expect("a name");
    let path = format!("/v1.0/{GUID}.gz");
    server.serve(&path, Page::Later(202, "{}"));
    let limits = Limits { build_timeout: Duration::from_millis(700), ..quick() };
    let config = Config { entries: vec![server.base()], limits, ..Config::default() };
    let error = Session::with(&config).path.load_named(&name).expect_err("never made");
    assert!(matches!(&error.trace[0].answer, Answer::Unreachable(reason) if reason.contains("still making")));
    server.serve(&path, Page::Later(404, r#"{"error": "no symbol server has it\u001b[2J"}"#));
    let error = Session::with(&config).path.load_named(&name).expect_err("refused");
    let Answer::Refused(reason) = &error.trace[0].answer else { panic!("{error:?}") };
    assert!(reason.contains("no symbol server") && !reason.contains('\u{1b}'), "{reason:?}");
}

#[test]
fn an_announced_profile_is_waited_for_too() {
    let server = Server::start();
    described(&server);
    server.serve("/v1.0/inventory.gz", Page::Described(inventory(&[(GUID, 1.0)])));
    let pages = vec![Page::Later(202, "{}"), Page::Bare(gz(&kernel("made")))];
    server.serve(&format!("/v1.0/{GUID}.gz"), Page::Sequence(pages));
    let name = ProfileName::new(GUID).expect("a name");
    assert!(Session::new(&server.base(), None).path.load_named(&name).is_ok());
}

#[test]
fn only_names_that_can_be_made_are_asked_for() {
    let server = Server::start();
    described(&server);
    let session = Session::new(&server.base(), None);
    for text in ["Linux/none", "nt/GUID/short"] {
        assert!(session.path.load_named(&ProfileName::new(text).expect("a name")).is_err());
    }
    assert_eq!(server.requests(), ["GET /v1.0/inventory.gz 200".to_owned(), format!("GET {WELL_KNOWN} 200")]);
}

#[test]
fn kernels_are_looked_up_by_evidence_where_the_inventory_does_not_tell() {
    let server = Server::start();
    described(&server);
    let id = BuildId::from_hex("3b43fad5034874490492495d552c0af6a5fab235").expect("a build-id");
    let evidence =
        LinuxEvidence { build_id: Some(id.clone()), release: Some("6.1.0-56".to_owned()), banner: None };
    let answer = br#"{"names": [{"name": "Debian/kernel", "by": ["build_id"]}], "tried": []}"#;
    let path = format!("/lookup?build_id={id}&release=6.1.0-56");
    server.serve(&path, Page::Bare(answer.to_vec()));
    let session = Session::new(&server.base(), None);
    let found = session.path.find_linux(&evidence).expect("a candidate");
    assert_eq!((found[0].name.as_str(), found[0].reason), ("Debian/kernel", Reason::BuildId));
    server.serve(&path, Page::Bare(br#"{"names": []}"#.to_vec()));
    assert!(session.path.find_linux(&evidence).is_err());
    server.serve(&path, Page::Bare(b"<html>".to_vec()));
    let error = session.path.find_linux(&evidence).expect_err("nonsense");
    assert!(error.trace.iter().any(|asked| matches!(asked.answer, Answer::Damaged(_))), "{error:?}");
}
