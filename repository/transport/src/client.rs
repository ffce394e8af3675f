//! One HTTP request: bounded in size and time, conditional or resumed, announced before it is made.

use std::error::Error as _;
use std::io;
use std::sync::{Arc, Once};
use std::time::{Duration, SystemTime};

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::guard::{Forbidden, Guard, GuardedResolver, vet};

/// Longest validator that is kept and sent back, in bytes.
const MAX_VALIDATOR: usize = 1024;

/// Longest body of a refusal that is read, in bytes.
const MAX_EXPLANATION: usize = 64 << 10;

/// Told of URLs.
pub type Announce = Arc<dyn Fn(&Url) + Send + Sync>;

/// How a client behaves and what a server may cost it. Every server is untrusted.
#[derive(Clone)]
pub struct Options {
    /// What it calls itself.
    pub user_agent: &'static str,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest silence of a server while it answers.
    pub read_timeout: Duration,
    /// Longest time for one exchange as a whole.
    pub total_timeout: Duration,
    /// Longest chain of redirects. None leads from https to http.
    pub max_redirects: usize,
    /// Called before each request and each redirect that is followed.
    pub announce: Option<Announce>,
    /// Decides what may be reached; with one no proxy is used, because that would connect on its own.
    pub guard: Option<Arc<dyn Guard>>,
}

impl Default for Options {
    /// 10 s for a connection and for silence, 300 s in all, 5 redirects, nobody told, everything allowed.
    fn default() -> Self {
        Self {
            user_agent: concat!("rekal/", env!("CARGO_PKG_VERSION")),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(300),
            max_redirects: 5,
            announce: None,
            guard: None,
        }
    }
}

/// What a server gave to recognise a body by, verbatim (RFC 9110, 8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

impl Validators {
    /// The one that proves a body to be the same byte for byte, as `If-Range` needs it: a strong tag, else the date.
    #[must_use]
    pub fn strong(&self) -> Option<&str> {
        let tag = self.etag.as_deref().filter(|tag| tag.starts_with('"'));
        tag.or(self.last_modified.as_deref())
    }
}

/// What to ask for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Where.
    pub url: &'a Url,
    /// Validators of a body the caller has: the server may answer 304.
    pub earlier: Option<&'a Validators>,
    /// Bytes the caller has of a body with these validators: the server may answer 206 with the rest. Without a strong
    /// validator the whole body is asked for.
    pub resume: Option<(u64, &'a Validators)>,
    /// Largest body in bytes, what the caller has included.
    pub max_body: u64,
}

impl<'a> Request<'a> {
    /// A plain request for a body of at most `max_body` bytes.
    #[must_use]
    pub fn new(url: &'a Url, max_body: u64) -> Self {
        Self { url, earlier: None, resume: None, max_body }
    }
}

/// What a server answered, without the body.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status: 200 and 206 come with a body; every other is for the caller to judge.
    pub status: u16,
    /// What to recognise the body by later.
    pub validators: Validators,
    /// Where in the whole the body starts, in bytes; 0 unless the status is 206.
    pub start: u64,
    /// Bytes of the whole, where the server says so.
    pub total: Option<u64>,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The URL that answered, after redirects.
    pub url: Url,
    /// The body of an answer with another status than 200 and 206, where it is JSON of at most 64 KiB: the server's reason.
    pub explanation: Option<Vec<u8>>,
    headers: HeaderMap,
}

impl Head {
    /// A header as text; `None` where it is absent or no text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Takes a body as it comes.
pub trait Receiver: Send {
    /// Once, before the first chunk, for status 200 and 206.
    fn begin(&mut self, head: &Head) -> io::Result<()>;

    /// The next bytes.
    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Receiver for Vec<u8> {
    fn begin(&mut self, _head: &Head) -> io::Result<()> {
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// There is no connection: no such name, no route, no TLS.
    #[error("{0}")]
    Unreachable(String),
    /// The connection broke or fell silent; another attempt may succeed.
    #[error("{0}")]
    Interrupted(String),
    /// A redirect that is not followed, or the guard forbids the address.
    #[error("{0}")]
    Refused(String),
    /// The body is larger than the caller takes.
    #[error("larger than the limit of {0} bytes")]
    TooLarge(u64),
    /// The receiver cannot take the body.
    #[error("cannot keep what is fetched: {0}")]
    Receiver(io::Error),
}

/// An HTTP client with its own current-thread runtime; connections are kept between requests.
pub struct Client {
    /// Present until dropped.
    runtime: Option<Runtime>,
    http: reqwest::Client,
    options: Options,
}

impl Client {
    /// A client for one server. Loopback addresses are never reached through a proxy; others through that of the system
    /// (`HTTPS_PROXY` and so on), unless there is a guard.
    pub fn new(base: &Url, options: Options) -> Result<Self, HttpError> {
        static PROVIDER: Once = Once::new();
        // An error means that the program installed a provider before; that one serves as well.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| HttpError::Unreachable(error.to_string()))?;
        // Without any certificate on the machine the TLS set-up fails; plain http must work all the same.
        let http = builder(base, &options).build().or_else(|error| match base.scheme() {
            "http" => builder(base, &options).tls_certs_only([]).build(),
            _ => Err(error),
        });
        let http = http.map_err(|error| HttpError::Unreachable(reason(&error, &options)))?;
        Ok(Self { runtime: Some(runtime), http, options })
    }

    /// Makes a request and hands the body to the receiver. An error may come after a part of the body.
    pub fn get(&self, request: &Request<'_>, receiver: &mut dyn Receiver) -> Result<Head, HttpError> {
        let Some(runtime) = self.runtime.as_ref() else {
            return Err(HttpError::Unreachable("the client is closed".to_owned()));
        };
        if Handle::try_current().is_err() {
            return runtime.block_on(self.exchange(request, receiver));
        }
        // One runtime cannot be driven from inside another, but from another thread it can.
        std::thread::scope(|scope| {
            let exchange = scope.spawn(|| runtime.block_on(self.exchange(request, receiver)));
            exchange.join().unwrap_or_else(|_| Err(HttpError::Interrupted("the request failed".to_owned())))
        })
    }

    async fn exchange(&self, request: &Request<'_>, receiver: &mut dyn Receiver) -> Result<Head, HttpError> {
        let failed = |error: reqwest::Error| classify(&error, &self.options);
        if let Some(guard) = &self.options.guard {
            vet(&**guard, request.url).map_err(|Forbidden(reason)| HttpError::Refused(reason))?;
        }
        if let Some(announce) = &self.options.announce {
            announce(request.url);
        }
        let sent = self.http.get(request.url.clone()).headers(conditions(request)).send();
        let mut response = sent.await.map_err(failed)?;
        let mut head = head(&response);
        if !matches!(head.status, 200 | 206) {
            head.explanation = explanation(&mut response).await;
            return Ok(head);
        }
        let max = request.max_body;
        if head.total.is_some_and(|total| total > max) {
            return Err(HttpError::TooLarge(max));
        }
        receiver.begin(&head).map_err(HttpError::Receiver)?;
        let mut end = head.start;
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            end = end.saturating_add(chunk.len() as u64);
            if end > max {
                return Err(HttpError::TooLarge(max));
            }
            receiver.chunk(&chunk).map_err(HttpError::Receiver)?;
        }
        Ok(head)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop waits for name lookups still running, and panics inside an async task.
            runtime.shutdown_background();
        }
    }
}

fn builder(base: &Url, options: &Options) -> reqwest::ClientBuilder {
    let mut headers = HeaderMap::new();
    // What is fetched is stored compressed; a second compression on the way would only hide that, and break ranges.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let builder = reqwest::Client::builder()
        .user_agent(options.user_agent)
        .default_headers(headers)
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.read_timeout)
        .timeout(options.total_timeout)
        .referer(false)
        .redirect(redirects(options));
    let builder = match &options.guard {
        Some(guard) => builder.dns_resolver(Arc::new(GuardedResolver(Arc::clone(guard)))),
        None => builder,
    };
    if options.guard.is_some() || is_loopback(base) { builder.no_proxy() } else { builder }
}

fn redirects(options: &Options) -> Policy {
    let max = options.max_redirects;
    let (announce, guard) = (options.announce.clone(), options.guard.clone());
    Policy::custom(move |attempt| {
        let downgrade = attempt.previous().last().is_some_and(|from| from.scheme() == "https")
            && attempt.url().scheme() != "https";
        if attempt.previous().len() > max {
            return attempt.error(format!("more than {max} redirects"));
        }
        if downgrade {
            return attempt.error("redirected from https to an unencrypted address");
        }
        if let Some(Err(forbidden)) = guard.as_ref().map(|guard| vet(&**guard, attempt.url())) {
            return attempt.error(forbidden);
        }
        if let Some(announce) = &announce {
            announce(attempt.url());
        }
        attempt.follow()
    })
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn conditions(request: &Request<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: HeaderName, value: Option<&str>| {
        if let Some(value) = value.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(name, value);
        }
    };
    if let Some(earlier) = request.earlier {
        add(IF_NONE_MATCH, earlier.etag.as_deref());
        add(IF_MODIFIED_SINCE, earlier.last_modified.as_deref());
    }
    if let Some((have, validators)) = request.resume.filter(|(have, _)| *have > 0)
        && let Some(validator) = validators.strong()
    {
        add(IF_RANGE, Some(validator));
        add(RANGE, Some(&format!("bytes={have}-")));
    }
    headers
}

fn head(response: &reqwest::Response) -> Head {
    let headers = response.headers();
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let kept = |name| text(name).filter(|value| value.len() <= MAX_VALIDATOR).map(str::to_owned);
    let range = text(CONTENT_RANGE).filter(|_| response.status() == StatusCode::PARTIAL_CONTENT);
    let (start, total) = match range {
        Some(range) => content_range(range),
        None => (0, response.content_length()),
    };
    Head {
        status: response.status().as_u16(),
        validators: Validators { etag: kept(ETAG), last_modified: kept(LAST_MODIFIED) },
        start,
        total,
        retry_after: text(RETRY_AFTER).and_then(retry_after),
        url: response.url().clone(),
        explanation: None,
        headers: headers.clone(),
    }
}

async fn explanation(response: &mut reqwest::Response) -> Option<Vec<u8>> {
    let kind = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    if !kind.starts_with("application/json") {
        return None;
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if bytes.len() + chunk.len() > MAX_EXPLANATION {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    Some(bytes)
}

/// `bytes FIRST-LAST/TOTAL`, where the total may be `*` (RFC 9110, 14.4).
fn content_range(value: &str) -> (u64, Option<u64>) {
    let parts = value.trim().strip_prefix("bytes ").and_then(|range| range.split_once('/'));
    let Some((range, total)) = parts else { return (0, None) };
    let first = range.split('-').next().and_then(|first| first.trim().parse().ok());
    (first.unwrap_or_default(), total.trim().parse().ok())
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value.trim()).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// A URL as it may be shown and logged: without credentials and query.
#[must_use]
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Fails only for URLs without a host, which hold no credentials.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

fn classify(error: &reqwest::Error, options: &Options) -> HttpError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(forbidden) = cause.downcast_ref::<Forbidden>() {
            return HttpError::Refused(forbidden.to_string());
        }
        source = cause.source();
    }
    let reason = reason(error, options);
    if error.is_redirect() {
        HttpError::Refused(reason)
    } else if error.is_connect() || error.is_builder() {
        HttpError::Unreachable(reason)
    } else {
        HttpError::Interrupted(reason)
    }
}

/// The innermost cause, which is what a user can act on, without the URL (it may hold a password).
fn reason(error: &reqwest::Error, options: &Options) -> String {
    if error.is_timeout() {
        return if error.is_connect() {
            format!("no connection within {} s", options.connect_timeout.as_secs_f64())
        } else {
            format!("no answer within {} s", options.read_timeout.as_secs_f64())
        };
    }
    let mut innermost: &dyn std::error::Error = error;
    let mut source = error.source();
    while let Some(cause) = source {
        innermost = cause;
        source = cause.source();
    }
    if error.source().is_none() { "the request failed".to_owned() } else { innermost.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_pauses_are_read_as_written_or_not_at_all() {
        assert_eq!(content_range("bytes 4000-9999/10000"), (4000, Some(10_000)));
        assert_eq!(content_range("bytes 0-1/*"), (0, None));
        for odd in ["", "bytes", "bytes */10", "items 1-2/3", "bytes -5/x", "bytes 99999999999999999999-/1"] {
            assert_eq!(content_range(odd).0, 0, "{odd}");
        }
        assert_eq!(retry_after(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("-1").or(retry_after("soon")), None);
    }

    #[test]
    fn only_strong_validators_prove_a_body_to_be_the_same() {
        let validators = |etag: Option<&str>, date: Option<&str>| Validators {
            etag: etag.map(str::to_owned),
            last_modified: date.map(str::to_owned),
        };
        assert_eq!(validators(Some("\"1\""), Some("date")).strong(), Some("\"1\""));
        assert_eq!(validators(Some("W/\"1\""), Some("date")).strong(), Some("date"));
        assert_eq!(validators(Some("W/\"1\""), None).strong(), None);
    }
}
