//! https. Truth: the `openssl` program is the client, and makes the certificate.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::Server;
use crate::{kernel, skipped, tree, write};

/// A certificate for localhost and its key, in `directory`; whether there is one.
fn certificate(directory: &Path, name: &str) -> bool {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .arg("-keyout")
        .arg(directory.join(format!("{name}.key")))
        .arg("-out")
        .arg(directory.join(format!("{name}.pem")))
        .output();
    match made {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            true
        }
        Err(_) => {
            skipped("openssl is not installed");
            false
        }
    }
}

fn config(directory: &Path, certificate: &str, key: &str) -> String {
    let file = |name: &str| directory.join(name);
    format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", file(certificate), file(key))
}

/// What the server sends over TLS; nothing where the client refuses it.
fn exchange(server: &Server, trusted: &Path, version: &str, request: &str) -> Vec<u8> {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-ign_eof", "-verify_return_error", "-verify_hostname", "localhost"])
        .args([version, "-connect"])
        .arg(server.address.to_string())
        .arg("-CAfile")
        .arg(trusted)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    // One that was refused reads nothing.
    let _ = client.stdin.take().expect("its input").write_all(request.as_bytes());
    client.wait_with_output().expect("its output").stdout
}

#[test]
fn profiles_come_over_tls() {
    let root = tree();
    if !certificate(root.path(), "own") || !certificate(root.path(), "other") {
        return;
    }
    let mut large = kernel("large");
    for number in 0..60_000 {
        large.constants.insert(format!("symbol_{number}"), number * 7919 % 1_000_003);
    }
    let gzip = profile::gzip(large.to_canonical_json().as_bytes());
    write(root.path(), "v1.0/large.gz", &gzip);
    let server = Server::with(root.path(), &config(root.path(), "own.pem", "own.key"));
    let own = root.path().join("own.pem");
    let request = "GET /v1.0/large.gz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for version in ["-tls1_2", "-tls1_3"] {
        let answer = exchange(&server, &own, version, request);
        assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(&gzip), "{version}");
    }
    assert_eq!(exchange(&server, &own, "-tls1_1", request), b"", "old versions are not spoken");
    assert_eq!(exchange(&server, &root.path().join("other.pem"), "-tls1_3", request), b"");
    // Without TLS there is no answer.
    let mut plain = TcpStream::connect(server.address).expect("a connection");
    plain.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
}

#[test]
fn a_handshake_that_does_not_end_is_cut_off() {
    let root = tree();
    if !certificate(root.path(), "own") {
        return;
    }
    let config = config(root.path(), "own.pem", "own.key") + "[limits]\nhead_seconds = 1\n";
    let server = Server::with(root.path(), &config);
    let mut silent = TcpStream::connect(server.address).expect("a connection");
    silent.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let start = Instant::now();
    assert_eq!(silent.read_to_end(&mut Vec::new()).expect("the end"), 0);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn certificates_that_cannot_be_used_are_told() {
    let directory = tempfile::tempdir().expect("scratch");
    if !certificate(directory.path(), "own") || !certificate(directory.path(), "other") {
        return;
    }
    fs::write(directory.path().join("empty"), "").expect("a file");
    for (certificate, key, why) in [
        ("none.pem", "own.key", "cannot read"),
        ("own.pem", "empty", "cannot read"),
        ("own.key", "own.key", "cannot use certificate and key"),
        ("own.pem", "other.key", "cannot use certificate and key"),
    ] {
        let file = |name: &str| directory.path().join(name);
        let tls = repo_server::Tls { certificate: file(certificate), key: file(key) };
        let error = repo_server::acceptor(&tls).err().expect("unusable").to_string();
        assert!(error.contains(why), "{certificate} {key}: {error}");
    }
}
