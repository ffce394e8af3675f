//! Connections: how many, how long, how they end; and what is noted of every request.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::http::header::USER_AGENT;
use axum::http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

use crate::app::{Peer, Service, routes};
use crate::blob::{Blob, header};
use crate::log::{self, RequestLine, shortened};
use crate::outlet::{Outlet, Sending};
use crate::upkeep;

/// Most clients that are told at a time that they are turned away; others are just closed.
const REFUSALS: usize = 64;

/// Largest request head in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Serves until `shutdown` completes, then lets running answers finish.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    tls: Option<TlsAcceptor>,
    shutdown: impl Future<Output = ()>,
) {
    let app = TowerToHyperService::new(routes(Arc::clone(&service)));
    let upkeep = tokio::spawn(upkeep::run(Arc::clone(&service)));
    let door = Arc::new(Door::default());
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match door.enter(peer, &service) {
                Ok(guest) => {
                    let connection = Connection {
                        service: Arc::clone(&service),
                        app: app.clone(),
                        peer: peer.ip(),
                        stopped: stopped.clone(),
                    };
                    let tls = tls.clone();
                    connections.spawn(async move {
                        connection.open(stream, tls).await;
                        drop(guest);
                    });
                }
                Err(refusal) => {
                    service.metrics.refused_connections.inc();
                    if let Ok(turn) = Arc::clone(&refusals).try_acquire_owned()
                        && tls.is_none()
                    {
                        connections.spawn(async move {
                            refuse(stream, refusal).await;
                            drop(turn);
                        });
                    }
                }
            },
            // Out of file descriptors, or the client is gone already: try again, but not in a tight loop.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        while connections.try_join_next().is_some() {}
    }
    service.drain();
    drop(listener);
    // Without receivers there are no connections to stop.
    let _ = stop.send(());
    let finish = async { while connections.join_next().await.is_some() {} };
    // What is still running after the wait is cut off when the set is dropped.
    let _ = tokio::time::timeout(Duration::from_secs(service.config.limits.drain_seconds), finish).await;
    upkeep.abort();
    let last = tokio::task::spawn_blocking(move || upkeep::save(&service));
    // A panic in there was reported already.
    let _ = last.await;
}

/// Tells a client that it is turned away. What it sends is read for a moment: closing a connection with unread data
/// resets it, and the answer is lost.
async fn refuse(mut stream: TcpStream, refusal: &'static str) {
    let tell = async {
        stream.write_all(refusal.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        for _ in 0..16 {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    // However it ends, the client is gone.
    let _ = tokio::time::timeout(Duration::from_secs(1), tell).await;
}

/// Counts who is inside.
#[derive(Default)]
struct Door {
    inside: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection that is inside; leaves when dropped.
struct Guest {
    door: Arc<Door>,
    address: IpAddr,
    service: Arc<Service>,
}

impl Door {
    /// Lets a connection in, or says with which answer it is turned away.
    fn enter(self: &Arc<Self>, peer: SocketAddr, service: &Arc<Service>) -> Result<Guest, &'static str> {
        const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        const GREEDY: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let limits = &service.config.limits;
        let address = network(peer.ip());
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if usize::try_from(service.metrics.connections.get()).unwrap_or(0) >= limits.connections {
            return Err(FULL);
        }
        let count = inside.entry(address).or_default();
        if *count >= limits.connections_per_address {
            return Err(GREEDY);
        }
        *count += 1;
        service.metrics.connections.inc();
        Ok(Guest { door: Arc::clone(self), address, service: Arc::clone(service) })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut inside = self.door.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inside.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.address);
            }
        }
        self.service.metrics.connections.dec();
    }
}

/// What counts as one client: an IPv4 address, or the 64 bits of an IPv6 address that name a network.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

struct Connection {
    service: Arc<Service>,
    app: TowerToHyperService<Router>,
    peer: IpAddr,
    stopped: watch::Receiver<()>,
}

impl Connection {
    async fn open(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Answers are written in one piece; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let limits = &self.service.config.limits;
        let sending = Sending::default();
        let mut stream = TimeoutStream::new(Outlet::new(stream, Arc::clone(&sending)));
        stream.set_write_timeout(Some(Duration::from_secs(limits.stall_seconds)));
        match tls {
            None => self.run(Box::pin(stream), sending).await,
            Some(tls) => {
                let handshake = tls.accept(Box::pin(stream));
                if let Ok(Ok(stream)) = tokio::time::timeout(limits.head_timeout(), handshake).await {
                    self.run(stream, sending).await;
                }
            }
        }
    }

    async fn run(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, sending: Sending) {
        let Self { service, app, peer, mut stopped } = self;
        let limits = service.config.limits.clone();
        let answer = service_fn(|request| observed(&service, &app, peer, &sending, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout())
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), answer);
        let mut connection = std::pin::pin!(connection);
        // How a connection ends (reset, timeout, nonsense for a request) is the client's business only.
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = stopped.changed() => {}
            () = tokio::time::sleep(Duration::from_secs(limits.connection_seconds)) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Answers a request; gives it an identity, counts it and logs it.
async fn observed(
    service: &Arc<Service>,
    app: &TowerToHyperService<Router>,
    peer: IpAddr,
    sending: &Sending,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let start = Instant::now();
    let id = request_id(&request);
    let (method, path) = (request.method().clone(), request.uri().clone());
    let agent = request.headers().get(USER_AGENT).cloned();
    request.extensions_mut().insert(Peer(peer));
    let mut response = app.call(request).await?;
    let status = response.status().as_u16();
    let took = start.elapsed();
    service.metrics.request(path.path(), status, took);
    if service.config.log.requests || status >= 500 {
        service.log.request(&RequestLine {
            time: log::now(),
            event: "request",
            id: id.to_str().unwrap_or_default(),
            peer,
            method: method.as_str(),
            path: shortened(path.path_and_query().map_or("", |path| path.as_str())),
            status,
            bytes: response.body().size_hint().exact(),
            microseconds: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            agent: agent.as_ref().and_then(|agent| agent.to_str().ok()).map(shortened),
        });
    }
    if let Some(blob) = response.extensions_mut().remove::<Arc<Blob>>() {
        *sending.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&blob);
    }
    response.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
    Ok(response)
}

/// The client's own `X-Request-Id` where it is a plain word, else a new one.
fn request_id(request: &Request<Incoming>) -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static PROCESS: LazyLock<u32> = LazyLock::new(std::process::id);
    let plain = |id: &&HeaderValue| {
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=64).contains(&id.len()) && id.as_bytes().iter().all(word)
    };
    match request.headers().get("x-request-id").filter(plain) {
        Some(id) => id.clone(),
        None => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            header(&format!("{:x}-{number:x}", *PROCESS))
        }
    }
}
