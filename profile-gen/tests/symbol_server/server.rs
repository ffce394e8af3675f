//! A server that answers from a table, well or badly, and writes down what it was asked.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, header};
use hyper::body::Frame;
use tokio::sync::{mpsc, oneshot};

/// What is served at one path.
#[derive(Clone)]
pub(crate) enum Page {
    /// A body; parts of it where asked for, if it has a tag.
    File { bytes: Vec<u8>, tag: Option<&'static str> },
    /// The same, but every answer breaks off after this many bytes.
    Broken { bytes: Vec<u8>, tag: Option<&'static str>, after: usize },
    /// A body that ends early, without a length that would tell.
    Short(Vec<u8>),
    /// One byte now and then.
    Drip(Vec<u8>, Duration),
    /// The head of an answer, and nothing more.
    Silence,
    /// An HTTP error; with `Retry-After`.
    Status(u16, Option<&'static str>),
    /// A redirect to another path or URL.
    Redirect(String),
    /// Each answer once, the last one for ever.
    Sequence(VecDeque<Page>),
}

impl Page {
    pub(crate) fn file(bytes: impl Into<Vec<u8>>) -> Self {
        Self::File { bytes: bytes.into(), tag: None }
    }
}

#[derive(Default)]
struct Site {
    pages: HashMap<String, Page>,
    /// What everything else gets.
    other: Option<Page>,
    log: Vec<String>,
    agents: Vec<String>,
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

    pub(crate) fn serve_everything(&self, page: Page) {
        self.site().other = Some(page);
    }

    /// The requests since the last call: path, what was asked to be resumed, status.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.site().log)
    }

    pub(crate) fn agents(&self) -> Vec<String> {
        self.site().agents.clone()
    }

    fn site(&self) -> MutexGuard<'_, Site> {
        self.site.lock().expect("a lock")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server thread");
        }
    }
}

async fn answer(State(site): State<Arc<Mutex<Site>>>, request: Request) -> Response<Body> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut site = site.lock().expect("a lock");
    let page = match site.pages.get_mut(&path) {
        Some(Page::Sequence(pages)) if pages.len() > 1 => pages.pop_front(),
        Some(Page::Sequence(pages)) => pages.front().cloned(),
        Some(page) => Some(page.clone()),
        None => site.other.clone(),
    };
    let response = render(page.unwrap_or(Page::Status(404, None)), request.headers());
    let mut line = path;
    if let Some(range) = text(request.headers(), &header::RANGE) {
        line.push_str(&format!(" [{range}]"));
    }
    line.push_str(&format!(" {}", response.status().as_u16()));
    site.log.push(line);
    site.agents.extend(text(request.headers(), &header::USER_AGENT));
    response
}

fn render(page: Page, request: &HeaderMap) -> Response<Body> {
    match page {
        Page::Sequence(_) => unreachable!("resolved before"),
        Page::Status(status, wait) => {
            let response = Response::builder().status(status);
            let response = match wait {
                Some(wait) => response.header(header::RETRY_AFTER, wait),
                None => response,
            };
            response.body(Body::empty()).expect("a response")
        }
        Page::Redirect(to) => {
            let response = Response::builder().status(302).header(header::LOCATION, to);
            response.body(Body::empty()).expect("a response")
        }
        Page::File { bytes, tag } => file(&bytes, tag, usize::MAX, request),
        Page::Broken { bytes, tag, after } => file(&bytes, tag, after, request),
        Page::Short(bytes) => Response::new(chunks(vec![bytes], Duration::ZERO, false)),
        Page::Drip(bytes, pause) => {
            Response::new(chunks(bytes.iter().map(|byte| vec![*byte]).collect(), pause, false))
        }
        Page::Silence => Response::new(chunks(vec![Vec::new()], Duration::from_secs(3600), false)),
    }
}

/// A file, or the rest of it where the client has the start (RFC 9110, 13.1.5 and 14.2); at most `after` bytes of it.
fn file(bytes: &[u8], tag: Option<&'static str>, after: usize, request: &HeaderMap) -> Response<Body> {
    let mut response = Response::builder();
    if let Some(tag) = tag {
        response = response.header(header::ETAG, tag);
    }
    let range = text(request, &header::RANGE)
        .filter(|_| tag.is_some() && text(request, &header::IF_RANGE).as_deref() == tag);
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let body = match start {
        Some(start) if start >= bytes.len() => {
            return response.status(416).body(Body::empty()).expect("a response");
        }
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            response = response.status(206).header(header::CONTENT_RANGE, range);
            &bytes[start..]
        }
        None => bytes,
    };
    let response = response.header(header::CONTENT_LENGTH, body.len());
    let sent = &body[..body.len().min(after)];
    let body = chunks(vec![sent.to_vec()], Duration::ZERO, sent.len() < body.len());
    response.body(body).expect("a response")
}

/// A body in pieces, with pauses between them; `broken` cuts the connection at the end.
fn chunks(pieces: Vec<Vec<u8>>, pause: Duration, broken: bool) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for piece in pieces {
            if sender.send(Ok(Bytes::from(piece))).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
        if broken {
            // The pieces must be on the wire before the connection is cut.
            tokio::time::sleep(Duration::from_millis(30)).await;
            let _ = sender.send(Err(io::Error::other("cut"))).await;
        }
    });
    Body::new(Chunks(receiver))
}

struct Chunks(mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
