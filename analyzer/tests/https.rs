//! Symbol servers over TLS by way of the system's proxy, which is asked with `CONNECT`.
//!
//! `openssl` makes the certificate; without it, or without `rekall-golden/` of the test data, the test says so and passes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const HOST: &str = "symbols.test";

/// A proxy that answers for every host itself: whole responses by path.
struct Proxy {
    address: String,
    /// What was asked: `CONNECT` of the proxy, then what came through.
    log: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(scratch: &Path, responses: HashMap<String, Vec<u8>>) -> Self {
        let certificates = CertificateDer::pem_file_iter(scratch.join("cert.pem")).unwrap();
        let certificates = certificates.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(scratch.join("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .unwrap();
        let (config, log) = (Arc::new(config), Arc::<Mutex<Vec<String>>>::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, told) = (listener.local_addr().unwrap().to_string(), Arc::clone(&log));
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let Some(connect) = head(&mut connection) else { continue };
                told.lock().unwrap().push(connect);
                connection.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(session, connection);
                // A client that does not trust the certificate leaves.
                let Some(request) = head(&mut stream) else { continue };
                let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let path = request.split(' ').nth(1).unwrap_or_default();
                let response = responses.get(path).map_or(&missing[..], Vec::as_slice);
                told.lock().unwrap().push(request);
                let _ = stream.write_all(response);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        Self { address, log }
    }
}

/// The first line of a request, read up to the empty line and no further.
fn head(stream: &mut impl Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()?.lines().next().map(str::to_owned)
}

fn response(status: &str, header: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\n{header}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Makes `cert.pem` and `key.pem`.
fn certificate(scratch: &Path) -> bool {
    let names = format!("subjectAltName=DNS:{HOST}");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=test", "-addext", &names, "-addext", "basicConstraints=CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(scratch)
        .output();
    made.is_ok_and(|output| output.status.success())
}

#[test]
fn https_by_way_of_a_proxy_and_never_down_to_http() {
    let skip = |what: &str| {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
    };
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from);
    let Ok(pdb) = fs::read(data.join("rekall-golden/inputs/types_x64.pdb")) else {
        return skip("no rekall-golden in the test data");
    };
    let home = tempfile::tempdir().unwrap();
    if !certificate(home.path()) {
        return skip("no openssl that makes certificates");
    }
    let id = profile_gen::pdb::identify(&pdb).unwrap().id.to_string();
    let at = |name: &str, file: &str| format!("/s/{name}/{id}/{file}");
    let elsewhere = "http://127.0.0.1:9/types_x64.pdb";
    let proxy = Proxy::start(
        home.path(),
        HashMap::from([
            (at("right.pdb", "right.pdb"), response("200 OK", "", &pdb)),
            (at("down.pdb", "down.pdb"), response("302 Found", &format!("Location: {elsewhere}\r\n"), b"")),
            (at("ptr.pdb", "file.ptr"), response("200 OK", "", format!("PATH:{elsewhere}").as_bytes())),
        ]),
    );
    let run = |name: &str, trusted: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekal"));
        command.env_clear().env("HOME", home.path()).current_dir(home.path());
        command.env("https_proxy", format!("http://{}", proxy.address));
        if trusted {
            command.env("SSL_CERT_FILE", home.path().join("cert.pem"));
        }
        let output = command.args(["--symbol_path", &format!("https://{HOST}/s"), "fetch_pdb", name, &id]);
        let output = output.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stderr) = run("right.pdb", true);
    assert_eq!(code, 0, "{stderr}");
    assert!(fs::read(home.path().join("right.pdb")).unwrap() == pdb);
    let log = std::mem::take(&mut *proxy.log.lock().unwrap());
    assert_eq!(
        log,
        [format!("CONNECT {HOST}:443 HTTP/1.1"), format!("GET {} HTTP/1.1", at("right.pdb", "right.pdb"))]
    );

    let (code, stderr) = run("down.pdb", true);
    assert!(code == 1 && stderr.contains("from https to an unencrypted address"), "{stderr}");
    let (code, stderr) = run("ptr.pdb", true);
    assert!(code == 1 && stderr.contains("it points from https to an unencrypted address"), "{stderr}");
    // A certificate that nobody signed.
    let (code, stderr) = run("other.pdb", false);
    assert!(code == 1 && stderr.contains("certificate"), "{stderr}");
}
