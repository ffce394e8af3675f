//! One HTTP request: bounded in size and time, conditional, announced before it is made.

use std::error::Error as _;
use std::sync::Once;

use reqwest::header::{
    ACCEPT_ENCODING, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::config::Limits;

/// Longest validator that is kept and sent back, in bytes.
const MAX_VALIDATOR: usize = 1024;

/// What a server gave to recognise a body by, verbatim (RFC 9110, 8.8).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Validators {
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) enum Reply {
    Body {
        bytes: Vec<u8>,
        validators: Validators,
    },
    /// The body the validators belong to is still current.
    NotModified,
    /// Any status but 200 and 304.
    Status(u16),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{0}")]
    Unreachable(String),
    #[error("larger than the limit of {0} bytes")]
    TooLarge(usize),
}

/// An HTTP client with its own current-thread runtime; connections are kept between requests.
pub(crate) struct Client {
    /// Present until dropped.
    runtime: Option<Runtime>,
    http: reqwest::Client,
    limits: Limits,
}

impl Client {
    /// A client for one server. Loopback addresses are never reached through a proxy.
    pub(crate) fn new(base: &Url, limits: &Limits) -> Result<Self, HttpError> {
        static PROVIDER: Once = Once::new();
        // An error means that the program installed a provider before; that one serves as well.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unreachable_because(&error))?;
        // Without any certificate on the machine the TLS set-up fails; plain http must work all the same.
        let http = builder(base, limits).build().or_else(|error| match base.scheme() {
            "http" => builder(base, limits).tls_certs_only([]).build(),
            _ => Err(error),
        });
        let http = http.map_err(|error| HttpError::Unreachable(reason(&error, limits)))?;
        Ok(Self { runtime: Some(runtime), http, limits: *limits })
    }

    /// Asks for `url`, conditionally where there are validators of an earlier body.
    pub(crate) fn get(&self, url: &Url, earlier: Option<&Validators>) -> Result<Reply, HttpError> {
        let Some(runtime) = self.runtime.as_ref().filter(|_| Handle::try_current().is_err()) else {
            return Err(HttpError::Unreachable("asked from inside an async task".to_owned()));
        };
        runtime.block_on(self.exchange(url, earlier))
    }

    async fn exchange(&self, url: &Url, earlier: Option<&Validators>) -> Result<Reply, HttpError> {
        let unreachable = |error: reqwest::Error| HttpError::Unreachable(reason(&error, &self.limits));
        let headers = earlier.map(conditions).unwrap_or_default();
        let mut response = self.http.get(url.clone()).headers(headers).send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if earlier.is_some() => return Ok(Reply::NotModified),
            status => return Ok(Reply::Status(status.as_u16())),
        }
        let max = self.limits.max_body;
        if response.content_length().is_some_and(|length| length > max as u64) {
            return Err(HttpError::TooLarge(max));
        }
        let validators = validators(response.headers());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > max {
                return Err(HttpError::TooLarge(max));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Reply::Body { bytes, validators })
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

fn builder(base: &Url, limits: &Limits) -> reqwest::ClientBuilder {
    let mut headers = HeaderMap::new();
    // Profiles are stored compressed; a second compression on the way would only hide that.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let builder = reqwest::Client::builder()
        .user_agent(concat!("rekal/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .connect_timeout(limits.connect_timeout)
        .read_timeout(limits.read_timeout)
        .timeout(limits.total_timeout)
        .referer(false)
        .redirect(redirects(limits.max_redirects));
    if is_loopback(base) { builder.no_proxy() } else { builder }
}

fn redirects(max: usize) -> Policy {
    Policy::custom(move |attempt| {
        let downgrade = attempt.previous().last().is_some_and(|from| from.scheme() == "https")
            && attempt.url().scheme() != "https";
        if attempt.previous().len() > max {
            attempt.error(format!("more than {max} redirects"))
        } else if downgrade {
            attempt.error("redirected from https to an unencrypted address")
        } else {
            attempt.follow()
        }
    })
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn conditions(earlier: &Validators) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: HeaderName, value: &Option<String>| {
        if let Some(value) = value.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(name, value);
        }
    };
    add(IF_NONE_MATCH, &earlier.etag);
    add(IF_MODIFIED_SINCE, &earlier.last_modified);
    headers
}

fn validators(headers: &HeaderMap) -> Validators {
    let text = |name: HeaderName| {
        let value = headers.get(name)?.to_str().ok()?;
        (value.len() <= MAX_VALIDATOR).then(|| value.to_owned())
    };
    Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
}

fn unreachable_because(error: &std::io::Error) -> HttpError {
    HttpError::Unreachable(error.to_string())
}

/// The innermost cause, which is what a user can act on, without the URL (it may hold a password).
fn reason(error: &reqwest::Error, limits: &Limits) -> String {
    if error.is_timeout() {
        return if error.is_connect() {
            format!("no connection within {} s", limits.connect_timeout.as_secs_f64())
        } else {
            format!("no answer within {} s", limits.read_timeout.as_secs_f64())
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
