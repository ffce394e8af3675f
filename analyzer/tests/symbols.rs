//! `fetch_pdb`, `build_local_profile` and profiles made on demand, against a symbol store on the loopback.
//!
//! Reads `rekall-golden/` of the test data (an executable and its PDB, made by clang and lld); without it the tests say so
//! and pass. Truth: the file itself, and the profile that `parse_pdb` makes of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use analyzer::module_profile;
use analyzer::session::{Config, Session};
use profile::names::PdbId;
use profile_gen::symbol_server::{Defaults, SymbolPath};
use tempfile::TempDir;

/// Serves a directory over HTTP and writes down the requests; asked as a proxy, too. Stops with the test.
struct Server {
    root: TempDir,
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (directory, log) = (root.path().to_owned(), Arc::clone(&requests));
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
                let target = lines.next().unwrap().unwrap().split(' ').nth(1).unwrap().to_owned();
                // The head ends with an empty line; nothing follows a GET.
                lines.find(|line| line.as_ref().unwrap().is_empty());
                let path = target
                    .split_once("://")
                    .map_or(target.as_str(), |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
                let (status, body) = match fs::read(directory.join(path.trim_start_matches('/'))) {
                    Ok(body) => ("200 OK", body),
                    Err(_) => ("404 Not Found", Vec::new()),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                log.lock().unwrap().push(target);
                let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&body));
            }
        });
        Self { root, address, requests }
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// The executable and its PDB; `None`, with a message, where the test data is absent.
fn golden() -> Option<(PathBuf, Vec<u8>, PdbId)> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from);
    let inputs = data.join("rekall-golden/inputs");
    let Ok(pdb) = fs::read(inputs.join("types_x64.pdb")) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no rekall-golden in the test data");
        return None;
    };
    let id = profile_gen::pdb::identify(&pdb).unwrap().id;
    Some((inputs.join("types_x64.exe"), pdb, id))
}

/// Runs the program in a scratch directory that is also its home.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, environment: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekal"));
        command.env_clear().env("HOME", self.0.path()).current_dir(self.0.path()).args(arguments);
        let output = command.envs(environment.iter().copied()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Names of the files beside the home's own.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".cache");
        names.sort();
        names
    }
}

#[test]
fn every_form_of_fetch_pdb() {
    let Some((executable, pdb, id)) = golden() else { return };
    let server = Server::start();
    server.put(&format!("types_x64.pdb/{id}/types_x64.pdb"), &pdb);
    let (executable, text) = (executable.to_str().unwrap(), id.to_string());
    let lower = text.to_lowercase();
    let base = server.base();
    for arguments in [
        &["fetch_pdb", "--dump-dir", "out", "--filename", "types_x64.pdb", "--guid", &lower][..],
        &["fetch_pdb", "--filename", executable, "-D", "out"],
        &["fetch_pdb", executable, "--dump_dir", "out"],
        &["fetch_pdb", "types_x64.pdb", &text, "-D", "out"],
        &["fetch_pdb", "types_x64", &text, "-D", "out"],
        &["-D", "out", "fetch_pdb", "--pdb_filename", "types_x64.pdb", "--guid", &text],
        &["-f", executable, "fetch_pdb", "-D", "out"],
    ] {
        let home = Home::new();
        fs::create_dir(home.path("out")).unwrap();
        let arguments: Vec<&str> =
            ["--symbol_path", &base].into_iter().chain(arguments.iter().copied()).collect();
        let (code, stdout, stderr) = home.run(&[], &arguments);
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        assert!(fs::read(home.path("out/types_x64.pdb")).unwrap() == pdb, "{arguments:?}");
        assert!(stdout.contains(&text), "{stdout}");
        let announced = format!("rekal: info: asking {base}/types_x64.pdb/{id}/types_x64.pdb\n");
        assert_eq!(stderr, announced, "{arguments:?}");
    }
}

#[test]
fn what_is_fetched_gives_the_profile_of_the_file_itself() {
    let Some((executable, pdb, id)) = golden() else { return };
    let (server, home) = (Server::start(), Home::new());
    server.put(&format!("types_x64.pdb/{id}/types_x64.pdb"), &pdb);
    let (code, _, stderr) =
        home.run(&[], &["--symbol_path", &server.base(), "fetch_pdb", executable.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    let original = executable.with_extension("pdb");
    let (_, fetched, _) = home.run(&[], &["parse_pdb", "types_x64.pdb"]);
    let (_, direct, _) = home.run(&[], &["parse_pdb", original.to_str().unwrap()]);
    assert!(fetched.len() > 1000 && fetched == direct);
}

#[test]
fn settings_come_from_options_configuration_and_the_environment() {
    let Some((executable, pdb, id)) = golden() else { return };
    let server = Server::start();
    server.put(&format!("types_x64.pdb/{id}/types_x64.pdb"), &pdb);
    let executable = executable.to_str().unwrap();
    let chain = format!("srv*~/symbols*{}", server.base());
    let kept = format!("symbols/types_x64.pdb/{id}/types_x64.pdb");

    let home = Home::new();
    let (code, _, stderr) = home.run(&[("_NT_SYMBOL_PATH", &chain)], &["fetch_pdb", executable]);
    assert_eq!(code, 0, "{stderr}");
    assert!(fs::read(home.path(&kept)).unwrap() == pdb);
    // Once fetched, it comes from the store; offline, too.
    server.requests();
    fs::remove_file(home.path("types_x64.pdb")).unwrap();
    let (code, _, stderr) = home.run(&[("_NT_SYMBOL_PATH", &chain)], &["--offline", "fetch_pdb", executable]);
    assert_eq!((code, stderr.as_str(), server.requests().len()), (0, "", 0));
    // The file is not overwritten unasked.
    let (code, _, stderr) = home.run(&[("_NT_SYMBOL_PATH", &chain)], &["fetch_pdb", executable]);
    assert!(code == 2 && stderr.contains("file exists"), "{stderr}");

    let home = Home::new();
    fs::create_dir_all(home.path(".config/rekal")).unwrap();
    fs::write(home.path(".config/rekal/config.toml"), format!("symbol_path = \"{chain}\"")).unwrap();
    let (code, _, stderr) = home.run(&[("_NT_SYMBOL_PATH", "/nowhere")], &["fetch_pdb", executable]);
    assert_eq!(code, 0, "{stderr}");
    let (code, _, stderr) = home.run(&[], &["--symbol_path", "", "fetch_pdb", executable, "-D", "."]);
    assert!(code != 0 && !stderr.contains("asking"), "an empty path asks nobody: {stderr}");
}

#[test]
fn the_proxy_of_the_system_is_used() {
    let Some((executable, pdb, id)) = golden() else { return };
    let (server, home) = (Server::start(), Home::new());
    server.put(&format!("store/types_x64.pdb/{id}/types_x64.pdb"), &pdb);
    let (executable, proxy) = (executable.to_str().unwrap(), server.base());
    let arguments = ["--symbol_path", "http://symbols.invalid/store", "fetch_pdb", executable];
    let (code, _, stderr) = home.run(&[("http_proxy", &proxy)], &arguments);
    assert_eq!(code, 0, "{stderr}");
    let asked = format!("http://symbols.invalid/store/types_x64.pdb/{id}/types_x64.pdb");
    assert_eq!(server.requests(), [asked]);
}

#[test]
fn failures_say_who_was_asked_and_leave_nothing() {
    let Some((executable, _, id)) = golden() else { return };
    let (server, home) = (Server::start(), Home::new());
    server.put(&format!("types_x64.pdb/{id}/types_x64.pdb"), b"<html>Please log in</html>");
    let executable = executable.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let (code, stdout, stderr) = home.run(&[], arguments);
        assert_eq!(stdout, "", "{stderr}");
        assert_eq!(home.files(), [""; 0], "{stderr}");
        (code, stderr)
    };
    let (code, stderr) = run(&["--symbol_path", &server.base(), "fetch_pdb", executable]);
    assert!(code == 1 && stderr.contains("captive portal") && stderr.contains("\nhint: "), "{stderr}");
    let (code, stderr) = run(&["--symbol_path", &server.base(), "fetch_pdb", "other.pdb", &id.to_string()]);
    assert!(code == 1 && stderr.contains("no symbol store has other.pdb/"), "{stderr}");
    assert_eq!(stderr.matches("    asked: ").count(), 3, "{stderr}");
    let (code, stderr) = run(&["--offline", "fetch_pdb", executable]);
    assert!(code == 1 && stderr.contains("offline") && stderr.contains("msdl.microsoft.com"), "{stderr}");
    for (arguments, message) in [
        (&["fetch_pdb", "x.pdb"][..], "no GUID given"),
        (&["fetch_pdb", "x.pdb", "123"], "not a GUID and age"),
        (&["fetch_pdb"], "no file is named"),
        (&["build_local_profile", "nt"], "no GUID given"),
        (&["build_local_profile", "nt", "123"], "not a GUID and age"),
    ] {
        let (code, stderr) = run(arguments);
        assert!(code == 2 && stderr.contains(message), "{arguments:?}: {stderr}");
    }
}

#[test]
fn build_local_profile_tries_the_names_of_the_kernel_and_files_under_what_was_asked() {
    let Some((_, pdb, id)) = golden() else { return };
    let (server, home) = (Server::start(), Home::new());
    // An executable that was linked before the PDB was rewritten names a lower age.
    let asked = PdbId { age: id.age + 6, ..id };
    server.put(&format!("ntkrnlpa.pdb/{asked}/ntkrnlpa.pdb"), &pdb);
    let name = format!("nt/GUID/{asked}");
    let base = server.base();
    for (number, arguments) in
        [[name.as_str(), "--repository"], ["NT", &asked.to_string().to_lowercase()]].into_iter().enumerate()
    {
        let mut all = vec!["--symbol_path", &base, "build_local_profile", arguments[0], arguments[1]];
        if number == 0 {
            all.push("repository");
        } else {
            all.extend(["--repository", "repository", "--dumpfile", "profile.json"]);
        }
        let (code, stdout, stderr) = home.run(&[], &all);
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains(&name) && stdout.contains("ntkrnlpa.pdb"), "{stdout}");
    }
    let stored = fs::read(home.path(&format!("repository/v1.0/{name}.gz"))).unwrap();
    let stored = profile::json_text(&stored, &profile::Limits::default()).unwrap();
    assert_eq!(fs::read_to_string(home.path("profile.json")).unwrap(), stored);
    assert!(stored.contains(&asked.to_string()), "filed under what was asked");
    // A module that is no kernel; stored in the cache where no directory is named.
    server.put(&format!("Types.pdb/{id}/Types.pdb"), &pdb);
    let (code, _, stderr) =
        home.run(&[], &["--symbol_path", &base, "build_local_profile", "Types", &id.to_string()]);
    assert_eq!(code, 0, "{stderr}");
    assert!(home.path(&format!(".cache/rekal/v1.0/types/GUID/{id}.gz")).is_file());
}

#[test]
fn profiles_are_made_on_demand_and_found_the_next_time() {
    let Some((_, pdb, id)) = golden() else { return };
    let (server, home) = (Server::start(), Home::new());
    server.put(&format!("types_x64.pdb/{id}/types_x64.pdb"), &pdb);
    let config = |offline| Config {
        cache_dir: Some(home.path("cache")),
        symbol_path: SymbolPath::parse(&server.base(), &Defaults::default()),
        offline,
        ..Config::default()
    };
    let find = |session: &Session, age| {
        module_profile::find(session, "types_x64", "types_x64.pdb", PdbId { age, ..id })
    };
    let made = find(&Session::new(config(false)), id.age).unwrap();
    assert!(made.source.contains("made of http") && made.source.contains("kept in"), "{}", made.source);
    assert_eq!(server.requests().len(), 1);
    let found = find(&Session::new(config(true)), id.age).unwrap();
    assert_eq!(
        (found.name, found.profile.struct_names().len()),
        (made.name, made.profile.struct_names().len())
    );
    assert_eq!(server.requests().len(), 0);
    // An image may name thousands of builds; they are not all asked for.
    let session = Session::new(config(false));
    let failures: Vec<_> = (100..120).map(|age| find(&session, age).unwrap_err()).collect();
    assert!(failures.iter().all(|failure| failure.repositories.len() == 1), "{failures:?}");
    assert!(failures[0].error.details().iter().any(|line| line.starts_with("asked: http")), "{failures:?}");
    assert!(failures[19].to_string().contains("more than 8 modules"), "{failures:?}");
    assert_eq!(server.requests().len(), 8 * 3 + 1);
}
