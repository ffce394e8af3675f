//! Which addresses may be reached: the hook of servers that fetch on behalf of strangers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Decides which addresses may be reached. It is asked for every request and every redirect, with the URL, and with each
/// address before a connection to it, so that no name that resolves to something else the second time gets around it.
pub trait Guard: Send + Sync {
    /// Whether this URL may be asked; the reason where not.
    fn url(&self, url: &Url) -> Result<(), String>;

    /// Whether this address may be connected to; the reason where not.
    fn address(&self, address: IpAddr) -> Result<(), String>;
}

/// What a guard said; in the chain of causes of the HTTP library's error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Forbidden(pub(crate) String);

/// Asks the guard about a URL, and about its host where that is an address: those are never looked up.
pub(crate) fn vet(guard: &dyn Guard, url: &Url) -> Result<(), Forbidden> {
    guard.url(url).map_err(Forbidden)?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host.parse().map_or(Ok(()), |address| guard.address(address).map_err(Forbidden))
}

/// Looks names up as the system does and leaves out the addresses that the guard refuses.
pub(crate) struct GuardedResolver(pub(crate) Arc<dyn Guard>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let mut refusal = None;
            let mut allowed = found;
            allowed.retain(|address| match guard.address(address.ip()) {
                Ok(()) => true,
                Err(reason) => {
                    refusal.get_or_insert(reason);
                    false
                }
            });
            match refusal {
                Some(reason) if allowed.is_empty() => Err(Forbidden(reason).into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}
