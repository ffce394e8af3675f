//! Every form in which stores keep files.

use std::collections::VecDeque;
use std::fs;
use std::time::Duration;

use profile_gen::symbol_server::{Answer, ExecutableFile, Failure, Limits, Options};

use crate::samples::{GUID, executable, lzx, mszip, pdb};
use crate::server::{Page, Server};
use crate::{AT, AT_COMPRESSED, AT_POINTER, Lab, answers, wanted, write};

const KEPT: &str = "a.pdb/0123456789ABCDEF00112233445566771/a.pdb";

#[test]
fn the_plain_file_is_kept_and_asked_for_once() {
    let (server, lab) = (Server::start(), Lab::new());
    server.serve(AT, Page::file(pdb(3)));
    let fetched = lab.fetch(&server.base()).expect("fetched");
    assert_eq!(fetched.bytes, pdb(3));
    assert_eq!(fetched.source, format!("{}{AT}", server.base()));
    assert_eq!(fetched.path, Some(lab.below("store").join(KEPT)));
    assert_eq!(fs::read(lab.below("store").join(KEPT)).expect("kept"), pdb(3));
    assert_eq!(lab.asked(), [format!("{}{AT}", server.base())], "announced");
    assert_eq!(server.requests(), [format!("{AT} 200")]);
    assert_eq!(server.agents(), ["Microsoft-Symbol-Server/10.0.0.0"]);
    assert_eq!((lab.stored(), lab.partial()), (vec![KEPT.to_owned()], vec![]));

    let again = lab.fetch(&server.base()).expect("from the store");
    assert_eq!((again.bytes, again.path.as_deref()), (pdb(3), fetched.path.as_deref()));
    assert_eq!((server.requests(), lab.asked()), (vec![], vec![]));
}

#[test]
fn compressed_files_are_expanded_and_kept_plain() {
    // A name inside that leads elsewhere, as one file or among others.
    let evil = "..\\..\\..\\evil.pdb";
    for cabinet in [
        mszip(&[("A.PDB", &pdb(3))]),
        mszip(&[(evil, &pdb(3))]),
        mszip(&[("/etc/x.txt", b"text"), (evil, &pdb(3))]),
        lzx("a.pdb", &pdb(3)),
    ] {
        let (server, lab) = (Server::start(), Lab::new());
        server.serve(AT_COMPRESSED, Page::file(cabinet));
        let fetched = lab.fetch(&server.base()).expect("fetched");
        assert_eq!(fetched.bytes, pdb(3));
        assert_eq!(server.requests(), [format!("{AT} 404"), format!("{AT_COMPRESSED} 200")]);
        assert_eq!(crate::files_below(lab.scratch.path()), [format!("store/{KEPT}")]);
    }
}

#[test]
fn a_compressed_file_under_the_plain_name_is_expanded_too() {
    let (server, lab) = (Server::start(), Lab::new());
    server.serve(AT, Page::file(mszip(&[("a.pdb", &pdb(0))])));
    assert_eq!(lab.fetch(&server.base()).expect("fetched").bytes, pdb(0));
}

#[test]
fn pointers_lead_to_urls_and_into_directories_of_the_path() {
    let (server, lab) = (Server::start(), Lab::new());
    server.serve(AT_POINTER, Page::file(format!("PATH:{}/builds/7/a.pdb\r\n", server.base())));
    server.serve("/builds/7/a.pdb", Page::file(pdb(1)));
    let fetched = lab.fetch(&server.base()).expect("by way of a pointer");
    assert_eq!(fetched.source, format!("{}/builds/7/a.pdb", server.base()));
    assert_eq!(lab.asked().len(), 4, "each request is announced");

    let lab = Lab::new();
    let share = lab.below("share/builds/a.pdb");
    write(&share, &pdb(2));
    server.serve(AT_POINTER, Page::file(format!("PATH:{}", share.display())));
    let fetched =
        lab.client(&format!("srv*{};@/share", server.base())).fetch_pdb(&wanted()).expect("in the share");
    assert_eq!((fetched.bytes, fetched.path), (pdb(2), Some(share.clone())));

    // The same file, outside the path: even a right one is not read, whoever points to it.
    let error = lab.client(&format!("srv*{}", server.base())).fetch_pdb(&wanted()).expect_err("outside");
    assert!(matches!(answers(&error)[2], Answer::Refused(reason) if reason.contains("outside")), "{error:?}");
    write(&lab.below("local").join(KEPT).with_file_name("file.ptr"), share.display().to_string().as_bytes());
    let error = lab.client("srv*@/local").fetch_pdb(&wanted()).expect_err("outside");
    assert!(matches!(answers(&error)[0], Answer::Refused(reason) if reason.contains("outside")), "{error:?}");
}

#[test]
fn a_message_says_why_there_is_no_file() {
    let (server, lab) = (Server::start(), Lab::new());
    server.serve(AT_POINTER, Page::file("MSG: removed on request\x1b[2J"));
    let error = lab.fetch(&server.base()).expect_err("a message");
    assert_eq!(error.failure, Failure::Withheld("removed on request\\u{1b}[2J".to_owned()));
}

#[test]
fn two_tiers_are_found_and_remembered() {
    let (server, lab) = (Server::start(), Lab::new());
    server.serve("/index2.txt", Page::file(""));
    server.serve(&format!("/a.{AT}"), Page::file(pdb(0)));
    let client = lab.client(&format!("srv*{}", server.base()));
    for _ in 0..2 {
        assert_eq!(client.fetch_pdb(&wanted()).expect("below the first letters").bytes, pdb(0));
    }
    assert_eq!(
        server.requests(),
        [
            format!("{AT} 404"),
            format!("{AT_COMPRESSED} 404"),
            format!("{AT_POINTER} 404"),
            "/index2.txt 200".to_owned(),
            format!("/a.{AT} 200"),
            format!("/a.{AT} 200"),
        ]
    );
    // A store of this machine: it is read and filled in its own layout.
    write(&lab.below("store/index2.txt"), b"");
    lab.fetch(&server.base()).expect("fetched");
    assert_eq!(lab.stored(), [format!("a./{KEPT}"), "index2.txt".to_owned()]);
    server.requests();
    assert_eq!(lab.fetch(&server.base()).expect("from the store").bytes, pdb(0));
    assert!(server.requests().is_empty());
}

#[test]
fn executables_by_time_stamp_and_size() {
    let (server, lab) = (Server::start(), Lab::new());
    let id = ExecutableFile::new("b.exe", 0x4A5B_C600, 0x5D_C000).expect("an identifier");
    let right = executable(0x4A5B_C600, 0x5D_C000);
    server.serve("/b.exe/4A5BC6005dc000/b.exe", Page::file(executable(1, 0x5D_C000)));
    server.serve("/b.exe/4A5BC6005dc000/b.ex_", Page::file(mszip(&[("b.exe", &right)])));
    let client = lab.client(&format!("srv*@/store*{}", server.base()));
    assert_eq!(client.fetch_executable(&id).expect("the second form").bytes, right);
    assert_eq!(lab.stored(), ["b.exe/4A5BC6005dc000/b.exe"]);
    server.serve("/b.exe/4A5BC6005dc000/b.ex_", Page::Status(404, None));
    let error =
        lab.client(&format!("srv*{}", server.base())).fetch_executable(&id).expect_err("another build");
    assert!(matches!(&error.failure, Failure::Wrong(reason) if reason.contains("000000015dc000")), "{error}");
}

#[test]
fn directories_hold_stores_or_loose_files() {
    let lab = Lab::new();
    let loose =
        |path: &str| lab.client("@/plain").fetch_pdb(&wanted()).map(|f| f.path == Some(lab.below(path)));
    for path in ["plain/symbols/pdb/a.pdb", "plain/pdb/A.PDB", "plain/a.pdb"] {
        write(&lab.below(path), &pdb(0));
        assert!(loose(path).expect("loose"), "{path}");
    }
    // Other files of the same name are passed by and do not count as wrong.
    let mut other = pdb(0);
    other[5 * 512 + 12] ^= 1;
    for path in ["plain/symbols/pdb/a.pdb", "plain/pdb/A.PDB", "plain/a.pdb"] {
        write(&lab.below(path), &other);
    }
    let error = lab.client("@/plain").fetch_pdb(&wanted()).expect_err("another build");
    assert_eq!((error.failure.clone(), error.trace.len()), (Failure::NotFound, 3), "{error:?}");
    // In the layout of a store, written in whatever case, compressed too.
    let at = format!("plain/A.pdb/{}1/a.pd_", GUID.to_lowercase());
    write(&lab.below(&at), &mszip(&[("a.pdb", &pdb(4))]));
    assert_eq!(lab.client("@/plain").fetch_pdb(&wanted()).expect("in the store").bytes, pdb(4));
    assert_eq!(lab.client("srv*@/plain").fetch_pdb(&wanted()).expect("in the store").bytes, pdb(4));
}

#[test]
fn what_is_found_is_copied_to_the_stores_left_of_it() {
    let (server, lab) = (Server::start(), Lab::new());
    server.serve(AT, Page::file(pdb(0)));
    let path = format!("cache*@/c;srv*@/1*@/2*{};@/plain", server.base());
    let fetched = lab.client(&path).fetch_pdb(&wanted()).expect("fetched");
    assert_eq!(fetched.path, Some(lab.below("c").join(KEPT)));
    for store in ["c", "1", "2"] {
        assert!(lab.below(store).join(KEPT).is_file(), "{store}");
    }
    assert!(!lab.below("plain").exists());
    // A cache in front of a directory is filled from it.
    let lab = Lab::new();
    write(&lab.below("plain/a.pdb"), &pdb(0));
    lab.client("cache*@/c;@/plain").fetch_pdb(&wanted()).expect("found");
    assert!(lab.below("c").join(KEPT).is_file());
}

#[test]
fn stores_are_asked_in_order_and_bad_ones_say_so() {
    let (empty, server, lab) = (Server::start(), Server::start(), Lab::new());
    server.serve(AT, Page::file(pdb(0)));
    let path = format!("\\\\server\\share;srv*@/none*{};ftp://x;{}", empty.base(), server.base());
    let fetched = lab.client(&path).fetch_pdb(&wanted()).expect("the last one has it");
    let told: Vec<String> = fetched.trace.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 7, "{told:#?}");
    assert!(
        told[0].contains("UNC") && told[1].contains("not there") && told[5].contains("http"),
        "{told:#?}"
    );
    let error = lab.client("").fetch_pdb(&wanted()).expect_err("no stores");
    assert_eq!(error.failure, Failure::NoStores);
}

#[test]
fn offline_opens_no_socket() {
    let (server, mut lab) = (Server::start(), Lab::new());
    server.serve(AT, Page::file(pdb(0)));
    lab.options.offline = true;
    let error = lab.fetch(&server.base()).expect_err("offline");
    assert_eq!(error.failure, Failure::Offline);
    lab.options.offline = false;
    lab.fetch(&server.base()).expect("online");
    lab.options.offline = true;
    lab.fetch(&server.base()).expect("from the store");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn misses_are_remembered_for_a_time() {
    let (server, mut lab) = (Server::start(), Lab::new());
    let error = lab.fetch(&server.base()).expect_err("not there");
    assert_eq!(error.failure, Failure::NotFound);
    assert_eq!(server.requests().len(), 4, "three forms and index2.txt");
    // Another run does not ask again, and says so; unless told to.
    let error = lab.fetch(&server.base()).expect_err("still not");
    assert!(matches!(answers(&error)[1], Answer::Remembered(_)), "{error:?}");
    assert!(server.requests().is_empty());
    server.serve(AT, Page::file(pdb(0)));
    lab.options.ask_again = true;
    lab.fetch(&server.base()).expect("there now");
    // What is found is forgotten as a miss; what expires is asked again.
    let mut lab = Lab::new();
    lab.options.limits = Limits { remember_missing: Duration::ZERO, ..lab.options.limits };
    server.serve(AT, Page::Sequence(VecDeque::from([Page::Status(404, None), Page::file(pdb(0))])));
    lab.fetch(&server.base()).expect_err("not there");
    lab.fetch(&server.base()).expect("asked again");
}

#[test]
fn one_client_serves_threads_and_async_tasks() {
    let (server, lab) = (Server::start(), Lab::new());
    server.serve(AT, Page::file(pdb(50)));
    let client = lab.client(&format!("srv*@/store*{}", server.base()));
    std::thread::scope(|scope| {
        let fetch = || scope.spawn(|| client.fetch_pdb(&wanted()).expect("fetched").bytes);
        let fetches: Vec<_> = (0..8).map(|_| fetch()).collect();
        for fetch in fetches {
            assert_eq!(fetch.join().expect("a thread"), pdb(50));
        }
    });
    assert_eq!((lab.stored(), lab.partial()), (vec![KEPT.to_owned()], vec![]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let client = lab.client(&format!("srv*{}", server.base()));
    runtime.block_on(async { client.fetch_pdb(&wanted()).expect("inside a task") });
}

#[test]
fn a_client_without_a_place_for_its_state_works() {
    let (server, mut lab) = (Server::start(), Lab::new());
    server.serve(AT, Page::file(pdb(0)));
    lab.options = Options { state_dir: None, ..lab.options };
    let fetched = lab.client(&format!("srv*{}", server.base())).fetch_pdb(&wanted()).expect("fetched");
    assert_eq!(fetched.path, None);
    assert_eq!(crate::files_below(lab.scratch.path()), [""; 0]);
}
