//! The page in headless Chromium, by WebDriver: it lists, searches and shows structs, with the keyboard alone.
//!
//! Truth: the sizes and offsets of `_EPROCESS` in the original's own profile of Windows 7. Skipped where there is no
//! Chromium. With `REKAL_SCREENSHOT=FILE` it writes a picture.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use profile::Document;
use serde_json::{Value, json};

use crate::server::Server;
use crate::{data, kernel, skipped, write};

const NT: &str = "nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942";

/// A browser under WebDriver's control.
struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn start() -> Option<Self> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("successfully on port")));
        let line = line.expect("a started driver").expect("text");
        let port =
            line.rsplit(' ').next().and_then(|port| port.trim_end_matches('.').parse().ok()).expect("a port");
        let profile = tempfile::tempdir().expect("scratch");
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        let directory = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1100,720",
            directory.as_str(),
        ];
        let wanted =
            json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": arguments } } } });
        let started = browser.post("", &wanted);
        browser.session = started["sessionId"].as_str().expect("a session").to_owned();
        Some(browser)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the driver");
        let session = if self.session.is_empty() { String::new() } else { format!("/{}", self.session) };
        write!(
            stream,
            "{method} /session{session}{path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        )
        .expect("a command");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let mut lines = BufReader::new(stream);
        let mut length = 0;
        let mut line = String::new();
        // The driver keeps the connection open, whatever it is asked.
        while lines.read_line(&mut line).expect("a head") > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            line.clear();
        }
        let mut answer = vec![0; length];
        lines.read_exact(&mut answer).expect("a body");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert!(answer["value"].get("error").is_none(), "{path}: {answer}");
        answer["value"].clone()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, &body.to_string())
    }

    fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Types into whatever has the focus.
    fn keys(&self, keys: &str) {
        let down = |key: char| {
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        };
        let actions: Vec<Value> = keys.chars().flat_map(down).collect();
        self.post(
            "/actions",
            &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }),
        );
    }

    /// Waits until the script gives what is expected.
    fn expect(&self, script: &str, expected: &Value) {
        let start = Instant::now();
        loop {
            let found = self.run(script);
            if found == *expected {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{script}\nfound {found}\nexpected {expected}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            self.ask("DELETE", "", "");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[test]
fn the_page_lists_searches_and_shows_structs_by_keyboard() {
    let rekall = data("rekall");
    if !rekall.is_dir() {
        return skipped("no profiles of the original");
    }
    let Some(browser) = Browser::start() else { return skipped("no Chromium with its driver") };
    let root = tempfile::tempdir().expect("scratch");
    for name in [NT, "nt/index", "tcpip/GUID/934479AAD5A64C60AACA8E22BA50DDC02", "pe"] {
        let bytes = fs::read(rekall.join(format!("v1.0/{name}.gz"))).expect("a profile");
        write(root.path(), &format!("v1.0/{name}.gz"), &bytes);
    }
    let alias = Document::symlink(NT).to_canonical_json();
    write(root.path(), "v1.0/Win7SP1x64", alias.as_bytes());
    // Names of structs and fields are whatever somebody wrote into a profile.
    let attack = "<img src=x onerror=\"document.title='attacked'\">";
    let text = kernel("x").to_canonical_json();
    let text = text.replacen(
        '{',
        &format!(
            "{{{}: {{{}: [1, {{{}: [0, [{}]]}}]}},",
            json!("$STRUCTS"),
            json!(attack),
            json!(attack),
            json!(attack)
        ),
        1,
    );
    write(root.path(), "v1.0/Linux/attack", text.as_bytes());
    let server = Server::start(root.path());

    let page = server.get("/");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(
        page.body.len() + server.get("/page.js").body.len() + server.get("/page.css").body.len() < 20_000
    );

    browser.post("/url", &json!({ "url": format!("http://{}/", server.address) }));
    let listed = "return document.querySelectorAll('#profiles li a').length";
    browser.expect(listed, &json!(6));
    // Search, go down into the list, open.
    browser.keys("win7");
    browser.expect(listed, &json!(1));
    browser.keys("\u{e015}\u{e007}");
    browser.expect(
        "return document.querySelector('#profile h2').textContent",
        &json!(format!("Win7SP1x64 → {NT}")),
    );
    browser.expect("return document.activeElement.id", &json!("filter"));
    browser.keys("_eproc\u{e007}");
    browser
        .expect("return document.querySelector('#struct h2')?.textContent", &json!("_EPROCESS  0x4d0 bytes"));
    let row = "return [...document.querySelectorAll('#struct tr')].map(row => [...row.children].map(cell => \
               cell.textContent)).find(cells => cells[1] === 'ActiveProcessLinks')";
    browser.expect(row, &json!(["0x188", "ActiveProcessLinks", "_LIST_ENTRY"]));
    if let Some(file) = std::env::var_os("REKAL_SCREENSHOT") {
        let picture = browser.ask("GET", "/screenshot", "");
        let picture = base64::engine::general_purpose::STANDARD.decode(picture.as_str().expect("text"));
        fs::write(file, picture.expect("base64")).expect("a picture");
    }
    // A type leads to its struct; escape leads back.
    browser.run("document.querySelector('#struct td a').focus()");
    browser.keys("\u{e007}");
    browser.expect(
        "return document.querySelector('#struct h2')?.textContent.split(' ')[0]",
        &json!("_KPROCESS"),
    );
    browser.keys("\u{e00c}");
    browser.expect("return document.querySelector('#profile').hidden", &json!(true));
    // Markup in names is text.
    browser.post(
        "/url",
        &json!({ "url": format!("http://{}/#Linux%2Fattack&{}", server.address, escape(attack)) }),
    );
    browser.expect("return document.querySelector('#struct td:nth-child(2)')?.textContent", &json!(attack));
    browser.expect("return document.images.length", &json!(0));
    assert_ne!(browser.run("return document.title"), json!("attacked"));
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
