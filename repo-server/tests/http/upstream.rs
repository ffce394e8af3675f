//! A symbol server under the test's control.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a path answers.
#[derive(Clone)]
pub(crate) enum Page {
    Body(Vec<u8>),
    Slow(Duration, Vec<u8>),
    Status(u16),
    Redirect(String),
    /// Half of the promised body, then the connection breaks.
    Broken(Vec<u8>),
}

#[derive(Default)]
struct Site {
    pages: HashMap<String, Page>,
    asked: Vec<String>,
}

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    site: Arc<Mutex<Site>>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("an address");
        let site = Arc::<Mutex<Site>>::default();
        let shared = Arc::clone(&site);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let site = Arc::clone(&shared);
                std::thread::spawn(move || answer(&stream, &site));
            }
        });
        Self { address, site }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/symbols", self.address)
    }

    pub(crate) fn serve(&self, path: &str, page: Page) {
        self.site.lock().expect("a site").pages.insert(format!("/symbols/{path}"), page);
    }

    /// Paths asked for so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.site.lock().expect("a site").asked.clone()
    }
}

fn answer(mut stream: &TcpStream, site: &Mutex<Site>) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = first.split(' ').nth(1).expect("a path").to_owned();
    let page = {
        let mut site = site.lock().expect("a site");
        site.asked.push(path.clone());
        site.pages.get(&path).cloned()
    };
    let head = |status: &str, length: usize, more: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")
            .into_bytes()
    };
    let bytes = match page {
        None => head("404 Not Found", 0, ""),
        Some(Page::Body(body)) => [head("200 OK", body.len(), ""), body].concat(),
        Some(Page::Slow(pause, body)) => {
            std::thread::sleep(pause);
            [head("200 OK", body.len(), ""), body].concat()
        }
        Some(Page::Status(status)) => head(&format!("{status} Status"), 0, ""),
        Some(Page::Redirect(to)) => head("302 Found", 0, &format!("Location: {to}\r\n")),
        Some(Page::Broken(body)) => {
            [head("200 OK", body.len(), ""), body[..body.len() / 2].to_vec()].concat()
        }
    };
    let _ = stream.write_all(&bytes);
}
