//! A server that answers from a table and writes down what it was asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use tokio::sync::oneshot;

/// What is served at one path.
#[derive(Clone)]
pub(crate) enum Page {
    /// A body with a strong ETag; answers conditional requests.
    Tagged(Vec<u8>, &'static str),
    /// A body without any validator, as a plain file server without dates gives.
    Bare(Vec<u8>),
    /// A body with `Last-Modified` only.
    Dated(Vec<u8>, &'static str),
    /// An inventory with the header of a repo-server.
    Described(Vec<u8>),
    /// A status with `Retry-After: 0` and a JSON body.
    Later(u16, &'static str),
    /// Several answers, one after the other; the last one stays.
    Sequence(Vec<Page>),
    /// An HTTP error.
    Status(u16),
    /// A redirect to another path or URL.
    Redirect(String),
}

#[derive(Default)]
struct Site {
    pages: HashMap<String, Page>,
    log: Vec<String>,
}

/// A running server; stopped when dropped.
pub(crate) struct Server {
    site: Arc<Mutex<Site>>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let site = Arc::new(Mutex::new(Site::default()));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&site));
        let (stop, stopped) = oneshot::channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("a non-blocking socket");
        let address = listener.local_addr().expect("an address");
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let serve = axum::serve(listener, app).into_future();
                tokio::select! { _ = serve => {}, _ = stopped => {} }
            });
        });
        Self { site, address, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn serve(&self, path: &str, page: Page) {
        self.site().pages.insert(path.to_owned(), page);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.site().pages.remove(path);
    }

    /// The requests since the last call: path, conditional headers, status.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.site().log)
    }

    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server thread");
        }
    }

    fn site(&self) -> MutexGuard<'_, Site> {
        self.site.lock().expect("a lock")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn answer(State(site): State<Arc<Mutex<Site>>>, request: Request) -> Response<Body> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let header = |name: header::HeaderName| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let (etag, date) = (header(header::IF_NONE_MATCH), header(header::IF_MODIFIED_SINCE));
    let mut site = site.lock().expect("a lock");
    let mut page = site.pages.get(&path).cloned();
    if let Some(Page::Sequence(mut pages)) = page {
        page = pages.first().cloned();
        if pages.len() > 1 {
            pages.remove(0);
        }
        site.pages.insert(path.clone(), Page::Sequence(pages));
    }
    let response = match page {
        Some(Page::Sequence(_)) => status(500),
        Some(Page::Described(bytes)) => {
            with(header::HeaderName::from_static("rekal-inventory"), "full", bytes)
        }
        Some(Page::Later(code, json)) => {
            let response = Response::builder().status(code).header(header::RETRY_AFTER, "0");
            let response = response.header(header::CONTENT_TYPE, "application/json");
            response.body(Body::from(json)).expect("a response")
        }
        None => status(404),
        Some(Page::Status(code)) => status(code),
        Some(Page::Tagged(_, tag)) if etag.as_deref() == Some(tag) => status(304),
        Some(Page::Tagged(bytes, tag)) => with(header::ETAG, tag, bytes),
        Some(Page::Dated(_, since)) if date.as_deref() == Some(since) => status(304),
        Some(Page::Dated(bytes, since)) => with(header::LAST_MODIFIED, since, bytes),
        Some(Page::Bare(bytes)) => Response::new(Body::from(bytes)),
        Some(Page::Redirect(to)) => {
            let response = Response::builder().status(302).header(header::LOCATION, to);
            response.body(Body::empty()).expect("a response")
        }
    };
    let mut line = format!("{} {path}", request.method());
    for (name, value) in [("etag", etag), ("since", date)] {
        if let Some(value) = value {
            line.push_str(&format!(" [{name} {value}]"));
        }
    }
    line.push_str(&format!(" {}", response.status().as_u16()));
    site.log.push(line);
    response
}

fn status(code: u16) -> Response<Body> {
    let code = StatusCode::from_u16(code).expect("a status");
    Response::builder().status(code).body(Body::empty()).expect("a response")
}

fn with(name: header::HeaderName, value: &str, bytes: Vec<u8>) -> Response<Body> {
    Response::builder().header(name, value).body(Body::from(bytes)).expect("a response")
}
