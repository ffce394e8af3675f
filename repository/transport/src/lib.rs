//! Bytes from the network and into files, bounded and whole: what repositories and symbol servers share.
//!
//! [`Client`] makes one GET request at a time: bounded in size, time and redirects, announced before it is made, vetted by
//! a [`Guard`] where the caller serves strangers, conditional or resumed where the caller has something already. The
//! body goes to a [`Receiver`] as it comes. [`atomic`] replaces files in one step.
//!
//! Calls block, also inside an async task; there, use a blocking thread.

pub mod atomic;
mod client;
mod guard;

pub use client::{Announce, Client, Head, HttpError, Options, Receiver, Request, Validators, shown};
pub use guard::Guard;
pub use reqwest::Url;

/// Text from a server made safe to show: control characters escaped, at most 300 characters.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(300) {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
