//! Connections: how many, how long, and how they end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Most connections served at a time; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 256;

/// Longest time a client may take to send the head of a request, also while it keeps a connection idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Largest request head in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Longest life of a connection; ends clients that do not read.
const MAX_LIFE: Duration = Duration::from_secs(600);

/// Longest wait for running answers when the server stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves `app` on `listener` until `shutdown` completes, then lets running answers finish.
pub async fn serve(listener: TcpListener, app: Router, shutdown: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accept = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, app.clone(), stopped.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            // Out of file descriptors, or the client is gone already: try again, but not in a tight loop.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    // Without receivers there are no connections to stop.
    let _ = stop.send(());
    let finish = async { while connections.join_next().await.is_some() {} };
    // What is still running after the wait is cut off when the set is dropped.
    let _ = tokio::time::timeout(DRAIN, finish).await;
}

async fn connection(stream: TcpStream, app: Router, mut stopped: watch::Receiver<()>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    // How a connection ends (reset, timeout, nonsense for a request) is the client's business only.
    tokio::select! {
        _ = tokio::time::timeout(MAX_LIFE, connection.as_mut()) => {}
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
