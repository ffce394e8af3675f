//! Servers that misbehave: each ends as a clear error or a right file, with nothing half-written.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profile_gen::symbol_server::{Answer, Failure, FetchError, Guard, Limits};

use crate::samples::{mszip, pdb};
use crate::server::{Page, Server};
use crate::{AT, AT_COMPRESSED, AT_POINTER, Lab, answers, wanted, write};

/// Fetches, and makes sure that a failure leaves nothing behind.
fn fails(lab: &Lab, server: &Server) -> FetchError {
    let started = Instant::now();
    let error = lab.fetch(&server.base()).expect_err("a failure");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!((lab.stored(), lab.partial()), (vec![], vec![]), "{error:?}");
    error
}

fn unreachable(error: &FetchError) -> &str {
    let Failure::Unreachable(reason) = &error.failure else { panic!("{error:?}") };
    reason
}

fn wrong(error: &FetchError) -> &str {
    let Failure::Wrong(reason) = &error.failure else { panic!("{error:?}") };
    reason
}

#[test]
fn another_build_is_refused_in_every_form() {
    let mut other = pdb(0);
    other[5 * 512 + 12] ^= 1;
    let (server, lab) = (Server::start(), Lab::new());
    server.serve(AT, Page::file(other.clone()));
    server.serve(AT_COMPRESSED, Page::file(mszip(&[("a.pdb", &other)])));
    server.serve(AT_POINTER, Page::file(format!("PATH:{}/x", server.base())));
    server.serve("/x", Page::file(other));
    let error = fails(&lab, &server);
    assert!(wrong(&error).contains("another build, 01234566"), "{error}");
    assert_eq!(answers(&error).iter().filter(|answer| matches!(answer, Answer::Wrong(_))).count(), 3);
    // Remembered, but for another time than what is missing.
    server.requests();
    assert_eq!(fails(&lab, &server).failure, Failure::NotFound);
    assert!(server.requests().is_empty());
}

#[test]
fn what_is_no_pdb_says_what_it_is() {
    for (bytes, what) in [
        (b"".to_vec(), "empty"),
        (b"Microsoft C/C++ program database 2.00".to_vec(), "2.00"),
        (b"BSJB".to_vec(), "portable PDB"),
        (b"some text".to_vec(), "something else"),
        (pdb(3)[..900].to_vec(), "truncated"),
        (pdb(0)[..512].to_vec(), "truncated"),
        (b"MSCF\0\0\0\0".to_vec(), "ends early"),
    ] {
        let (server, lab) = (Server::start(), Lab::new());
        server.serve(AT, Page::file(bytes));
        let error = fails(&lab, &server);
        assert!(wrong(&error).contains(what), "{what}: {error}");
    }
}

#[test]
fn a_captive_portal_is_named_and_neither_kept_nor_remembered() {
    let portal = Page::file("\r\n <!DOCTYPE html><html><body>Please log in</body></html>");
    let (server, lab) = (Server::start(), Lab::new());
    server.serve_everything(portal);
    let error = fails(&lab, &server);
    assert!(unreachable(&error).contains("captive portal"), "{error}");
    assert_eq!(server.requests(), [format!("{AT} 200")], "asked no further");
    server.serve(AT, Page::file(pdb(0)));
    lab.fetch(&server.base()).expect("logged in");
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let (server, other, lab) = (Server::start(), Server::start(), Lab::new());
    server.serve(AT, Page::Redirect(format!("{}/blob?token=secret", other.base())));
    other.serve("/blob?token=secret", Page::file(pdb(0)));
    lab.fetch(&server.base()).expect("by way of a redirect");
    let base = server.base();
    assert_eq!(
        lab.asked(),
        [format!("{base}{AT}"), format!("{}/blob", other.base())],
        "each hop is announced"
    );

    let lab = Lab::new();
    for (from, to) in [(AT, AT), (AT_COMPRESSED, AT_POINTER), (AT_POINTER, AT_COMPRESSED)] {
        server.serve(from, Page::Redirect(to.to_owned()));
    }
    let error = fails(&lab, &server);
    assert!(unreachable(&error).contains("more than 5 redirects"), "{error}");
}

#[test]
fn a_broken_connection_is_continued_where_the_file_is_known() {
    let (server, lab) = (Server::start(), Lab::new());
    let whole = pdb(20);
    server.serve(AT, Page::Broken { bytes: whole.clone(), tag: Some("\"1\""), after: 4000 });
    let fetched = lab.fetch(&server.base()).expect("in three parts");
    assert_eq!(fetched.bytes, whole);
    assert_eq!(
        server.requests(),
        [
            format!("{AT} 200"),
            format!("{AT} [bytes=4000-] 206"),
            format!("{AT} [bytes=8000-] 206"),
            format!("{AT} [bytes=12000-] 206")
        ]
    );
    assert_eq!(lab.partial(), [""; 0]);
    // Without a tag nothing proves that the rest belongs to the start.
    let lab = Lab::new();
    server.serve(AT, Page::Broken { bytes: whole, tag: None, after: 4000 });
    let error = fails(&lab, &server);
    assert!(matches!(error.failure, Failure::Unreachable(_)), "{error}");
    assert_eq!(server.requests(), vec![format!("{AT} 200"); 4]);
}

#[test]
fn a_later_run_continues_and_a_changed_file_starts_over() {
    let whole = pdb(20);
    let broken = |tag| Page::Broken { bytes: whole.clone(), tag, after: 4000 };
    let down = Page::Status(503, None);
    for (tag, expected) in [("\"1\"", "206"), ("\"2\"", "200")] {
        let (server, lab) = (Server::start(), Lab::new());
        server.serve(AT, Page::Sequence(VecDeque::from([broken(Some("\"1\"")), down.clone()])));
        let error = lab.fetch(&server.base()).expect_err("broken");
        assert!(matches!(error.failure, Failure::Unreachable(_)), "{error}");
        assert_eq!(lab.stored(), [""; 0]);
        assert_eq!(lab.partial().len(), 2, "the bytes and what they belong to");
        server.requests();
        server.serve(AT, Page::File { bytes: whole.clone(), tag: Some(tag) });
        assert_eq!(lab.fetch(&server.base()).expect("whole").bytes, whole);
        assert_eq!(server.requests(), [format!("{AT} [bytes=4000-] {expected}")]);
        assert_eq!((lab.stored().len(), lab.partial().len()), (1, 0));
    }
}

#[test]
fn a_continued_file_that_proves_wrong_is_fetched_whole() {
    let (server, lab) = (Server::start(), Lab::new());
    let whole = pdb(20);
    server.serve(
        AT,
        Page::Sequence(VecDeque::from([
            Page::Broken { bytes: vec![0; whole.len()], tag: Some("\"1\""), after: 4000 },
            Page::File { bytes: whole.clone(), tag: Some("\"1\"") },
        ])),
    );
    assert_eq!(lab.fetch(&server.base()).expect("whole").bytes, whole);
    let requests = server.requests();
    assert_eq!(requests.last(), Some(&format!("{AT} 200")), "{requests:?}");
}

#[test]
fn slow_and_silent_servers_are_given_up() {
    for (page, reason) in [
        (Page::Silence, "no answer within"),
        (Page::Drip(pdb(20), Duration::from_millis(20)), "no answer within"),
    ] {
        let (server, mut lab) = (Server::start(), Lab::new());
        lab.options.limits = Limits { attempts: 2, deadline: Duration::from_secs(2), ..lab.options.limits };
        server.serve(AT, page);
        let error = fails(&lab, &server);
        assert!(unreachable(&error).contains(reason), "{error}");
    }
}

#[test]
fn a_server_that_is_down_is_asked_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let lab = Lab::new();
    let client = lab.client(&format!("srv*{base}"));
    for _ in 0..3 {
        let error = client.fetch_pdb(&wanted()).expect_err("nobody listens");
        assert!(matches!(error.failure, Failure::Unreachable(_)), "{error}");
    }
    assert_eq!(lab.asked().len(), 1, "left alone for a while");
}

#[test]
fn huge_files_stop_at_the_limit() {
    let (server, mut lab) = (Server::start(), Lab::new());
    lab.options.limits = Limits { max_file: 100_000, ..lab.options.limits };
    // By the length it says, by what comes, and as a cabinet that says so or not.
    let mut lying = mszip(&[("a.pdb", &vec![0; 1 << 20])]);
    let size = 36 + 8;
    lying[size..size + 4].copy_from_slice(&5000_u32.to_le_bytes());
    for page in
        [Page::file(pdb(1000)), Page::Short(pdb(1000)), Page::file(mszip(&[("a.pdb", &vec![0; 1 << 20])]))]
    {
        server.serve(AT, page);
        let error = fails(&lab, &server);
        assert!(error.to_string().contains("limit of 100000 bytes"), "{error}");
        let _ = std::fs::remove_dir_all(lab.below("state"));
    }
    server.serve(AT, Page::file(lying));
    fails(&lab, &server);
}

#[test]
fn busy_servers_are_asked_again_when_they_say() {
    let (server, lab) = (Server::start(), Lab::new());
    let pages = [Page::Status(429, Some("1")), Page::Status(503, None), Page::file(pdb(0))];
    server.serve(AT, Page::Sequence(VecDeque::from(pages)));
    let started = Instant::now();
    lab.fetch(&server.base()).expect("in the end");
    assert!(started.elapsed() >= Duration::from_secs(1));
    let told: Vec<String> = lab.asked().into_iter().filter(|line| line.contains("waiting")).collect();
    assert_eq!(told, ["HTTP status 429, waiting 1000 ms", "HTTP status 503, waiting 20 ms"]);
    // Longer than anyone waits, in both spellings.
    for wait in ["3600", "Tue, 31 Dec 2199 23:59:59 GMT"] {
        let lab = Lab::new();
        server.serve(AT, Page::Status(503, Some(wait)));
        let error = fails(&lab, &server);
        assert!(unreachable(&error).contains("asks to come back in"), "{error}");
        server.requests();
    }
    // In the past: at once.
    let lab = Lab::new();
    let pages = [Page::Status(503, Some("Fri, 31 Dec 1999 23:59:59 GMT")), Page::file(pdb(0))];
    server.serve(AT, Page::Sequence(VecDeque::from(pages)));
    lab.fetch(&server.base()).expect("at once");
}

#[test]
fn errors_of_the_server_are_told_and_not_remembered() {
    for (status, requests) in [(403, 4), (500, 4), (418, 4)] {
        let (server, lab) = (Server::start(), Lab::new());
        server.serve(AT, Page::Status(status, None));
        let error = fails(&lab, &server);
        assert!(unreachable(&error).contains(&status.to_string()), "{error}");
        assert_eq!(server.requests().len(), requests, "{status}");
        server.serve(AT, Page::file(pdb(0)));
        lab.fetch(&server.base()).expect("works now");
    }
}

#[test]
fn pointers_that_lead_astray_are_refused() {
    let (server, lab) = (Server::start(), Lab::new());
    let (secret, inside) = (lab.below("secret/a.pdb"), lab.below("store/link"));
    write(&secret, &pdb(0));
    std::fs::create_dir_all(lab.below("store")).expect("a directory");
    #[cfg(unix)]
    std::os::unix::fs::symlink(lab.below("secret"), &inside).expect("a link");
    for target in [
        "/etc/passwd".to_owned(),
        "\\\\server\\share\\a.pdb".to_owned(),
        "../secret/a.pdb".to_owned(),
        format!("{}/../secret/a.pdb", lab.below("store").display()),
        format!("{}/a.pdb", inside.display()),
        "ftp://host/a.pdb".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        server.serve(AT_POINTER, Page::file(format!("PATH:{target}")));
        let error = lab.fetch(&server.base()).expect_err("astray");
        assert!(unreachable(&error).contains("outside the directories"), "{target}: {error}");
    }
    for (text, reason) in [("", "names no path"), ("\u{1}\u{2}", "names no path")] {
        let lab = Lab::new();
        server.serve(AT_POINTER, Page::file(text));
        assert!(wrong(&fails(&lab, &server)).contains(reason));
    }
    // To itself: the file there is the pointer, and that is no PDB.
    let lab = Lab::new();
    server.serve(AT_POINTER, Page::file(format!("PATH:{}{AT_POINTER}", server.base())));
    assert!(wrong(&fails(&lab, &server)).contains("not a PDB"));
    // Too long for a pointer.
    let lab = Lab::new();
    server.serve(AT_POINTER, Page::file(vec![b'a'; 5000]));
    assert!(unreachable(&fails(&lab, &server)).contains("limit of 4096 bytes"));
}

#[test]
fn a_store_that_cannot_be_written_costs_a_warning() {
    let (server, lab) = (Server::start(), Lab::new());
    server.serve(AT, Page::file(pdb(0)));
    write(&lab.below("store"), b"a file, not a directory");
    let fetched = lab.fetch(&server.base()).expect("fetched");
    assert_eq!(fetched.path, None);
    assert!(
        matches!(fetched.warnings.as_slice(), [warning] if warning.contains("cannot keep it")),
        "{:?}",
        fetched.warnings
    );
}

#[test]
fn a_place_for_the_state_that_cannot_be_written_costs_nothing() {
    let (server, lab) = (Server::start(), Lab::new());
    write(&lab.below("state"), b"a file, not a directory");
    lab.fetch(&server.base()).expect_err("not there");
    server.serve(AT, Page::Broken { bytes: pdb(20), tag: Some("\"1\""), after: 4000 });
    assert_eq!(lab.fetch(&server.base()).expect("in parts").bytes, pdb(20));
}

#[test]
fn trouble_with_the_second_tier_is_not_remembered() {
    let (server, mut lab) = (Server::start(), Lab::new());
    lab.options.limits = Limits { attempts: 1, ..lab.options.limits };
    server.serve("/index2.txt", Page::Sequence(VecDeque::from([Page::Status(503, None), Page::file(".")])));
    server.serve(&format!("/a.{AT}"), Page::file(pdb(0)));
    assert!(unreachable(&fails(&lab, &server)).contains("503"));
    lab.fetch(&server.base()).expect("below the first letters");
}

struct Public;

impl Guard for Public {
    fn url(&self, url: &transport::Url) -> Result<(), String> {
        if url.path().contains("internal") { Err("an internal address".to_owned()) } else { Ok(()) }
    }

    fn address(&self, address: IpAddr) -> Result<(), String> {
        if address == IpAddr::from([127, 0, 0, 1]) || address.to_string() == "::1" {
            return Err(format!("a loopback address: {address}"));
        }
        Ok(())
    }
}

/// Allows the loopback as a literal address, so that a redirect from it can be tried.
struct NoNames;

impl Guard for NoNames {
    fn url(&self, url: &transport::Url) -> Result<(), String> {
        let ok = url.host_str() != Some("localhost") && !url.path().contains("internal");
        if ok { Ok(()) } else { Err(format!("forbidden: {}", url.path())) }
    }

    fn address(&self, _address: IpAddr) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn a_guard_is_asked_for_addresses_names_redirects_and_pointers() {
    let server = Server::start();
    server.serve(AT, Page::file(pdb(0)));
    let port = server.base().rsplit_once(':').expect("a port").1.to_owned();
    for base in [server.base(), format!("http://localhost:{port}"), format!("http://2130706433:{port}")] {
        let mut lab = Lab::new();
        lab.options.guard = Some(Arc::new(Public));
        let error = lab.fetch(&base).expect_err("loopback");
        assert!(unreachable(&error).contains("a loopback address"), "{base}: {error:?}");
        assert!(server.requests().is_empty(), "{base}");
    }
    let mut lab = Lab::new();
    lab.options.guard = Some(Arc::new(NoNames));
    server.serve(AT, Page::Redirect("/internal".to_owned()));
    server.serve("/internal", Page::file(pdb(0)));
    let error = fails(&lab, &server);
    assert!(unreachable(&error).contains("forbidden: /internal"), "{error}");
    server.serve(AT, Page::Status(404, None));
    server.serve(AT_POINTER, Page::file(format!("PATH:{}/internal", server.base())));
    let error = fails(&lab, &server);
    assert!(unreachable(&error).contains("forbidden: /internal"), "{error}");
    assert!(server.requests().iter().all(|request| !request.contains("internal")));
}
