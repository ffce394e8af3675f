//! A server on the loopback and a client that sees every byte.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;

use repo_server::{Config, Service};
use tokio::sync::oneshot;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `root` with the defaults.
    pub(crate) fn start(root: &Path) -> Self {
        Self::with(root, "")
    }

    /// Serves `root` with a configuration in TOML.
    pub(crate) fn with(root: &Path, config: &str) -> Self {
        let file = tempfile::NamedTempFile::new().expect("scratch");
        std::fs::write(file.path(), config).expect("a configuration");
        let mut config = Config::read(file.path()).expect("a valid configuration");
        config.log.requests = false;
        let tls = config.tls.as_ref().map(|files| repo_server::acceptor(files).expect("a certificate"));
        let service = Service::open(root, config).expect("a repository");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("a non-blocking socket");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                repo_server::serve(listener, service, tls, async { drop(stopped.await) }).await;
            });
            runtime.shutdown_background();
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server thread");
        }
    }

    /// One request with the headers original clients send, and more.
    pub(crate) fn ask(&self, method: &str, target: &str, more: &str) -> Answer {
        self.exchange(&format!(
            "{method} {target} HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: {}\r\nConnection: close\r\n\
             User-Agent: Python-urllib/3.6\r\n{more}\r\n",
            self.address
        ))
    }

    /// One request with these headers only.
    pub(crate) fn fetch(&self, method: &str, target: &str, more: &str) -> Answer {
        self.exchange(&format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{more}\r\n",
            self.address
        ))
    }

    /// One request with a body. A server that refuses it early need not read it.
    pub(crate) fn send(&self, method: &str, target: &str, head: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{head}\r\n",
            self.address
        );
        self.exchange_bytes(&[head.as_bytes(), body].concat())
    }

    fn exchange(&self, request: &str) -> Answer {
        self.exchange_bytes(request.as_bytes())
    }

    fn exchange_bytes(&self, request: &[u8]) -> Answer {
        let stream = TcpStream::connect(self.address).expect("a connection");
        let mut writer = stream.try_clone().expect("a second handle");
        let request = request.to_vec();
        let sent = std::thread::spawn(move || writer.write_all(&request));
        let answer = Self::answer(stream);
        // A refusal may come before everything is sent.
        let _ = sent.join().expect("the writer");
        answer
    }

    fn answer(mut stream: TcpStream) -> Answer {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
        Answer { status: head[9..12].parse().expect("a status"), head, body: bytes[end..].to_vec() }
    }

    pub(crate) fn json(&self, target: &str) -> serde_json::Value {
        let answer = self.get(target);
        assert_eq!(answer.status, 200, "{target}: {}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// A value of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = String::from_utf8(self.get("/metrics").body).expect("text");
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}
