//! Who may write: bearer tokens, of which only hashes are stored.
//!
//! A token is 32 random bytes, so a fast hash protects it: there is nothing to guess. Hashes are compared in constant time
//! and all of them every time.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::config::{Scope, Token};

/// Longest token looked at, in bytes.
const MAX_TOKEN: usize = 256;

/// The tokens of the configuration.
pub(crate) struct Tokens(Vec<Holder>);

/// Whose token was sent.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) name: String,
    hash: [u8; 32],
    scopes: Vec<Scope>,
    /// Seconds since 1970-01-01 UTC.
    expires: Option<i64>,
    prefixes: Vec<String>,
}

/// Why a request may not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No token, or none that is known.
    Unknown,
    /// The token's time is over.
    Expired,
    /// The token is for other things.
    Scope,
    /// The token is for other names.
    Name,
}

impl Denied {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Unknown | Self::Expired => StatusCode::UNAUTHORIZED,
            Self::Scope | Self::Name => StatusCode::FORBIDDEN,
        }
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "a known token is needed: Authorization: Bearer TOKEN",
            Self::Expired => "the token has expired",
            Self::Scope => "the token does not allow this",
            Self::Name => "the token does not allow this name",
        }
    }
}

impl Tokens {
    /// Checks the tokens of a configuration; the error says which one is wrong.
    pub(crate) fn new(tokens: &[Token]) -> Result<Self, String> {
        tokens.iter().map(Holder::new).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are any: without, nobody may write.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose request it is, if it may do this.
    pub(crate) fn check(&self, request: &HeaderMap, scope: Scope) -> Result<Holder, Denied> {
        let sent = bearer(request).ok_or(Denied::Unknown)?;
        let hash: [u8; 32] = Sha256::digest(sent).into();
        let mut found = u64::MAX;
        for (number, holder) in (0..).zip(&self.0) {
            let same: Choice = holder.hash.ct_eq(&hash);
            found = u64::conditional_select(&found, &number, same);
        }
        let holder = usize::try_from(found).ok().and_then(|number| self.0.get(number));
        let holder = holder.ok_or(Denied::Unknown)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if holder.expires.is_some_and(|end| i64::try_from(now).is_ok_and(|now| now >= end)) {
            return Err(Denied::Expired);
        }
        if !holder.scopes.contains(&scope) && !holder.is_admin() {
            return Err(Denied::Scope);
        }
        Ok(holder.clone())
    }
}

impl Holder {
    fn new(token: &Token) -> Result<Self, String> {
        let wrong = |what: &str| format!("token {:?}: {what}", token.name);
        let hash = decode(&token.sha256).ok_or_else(|| wrong("sha256 is not 64 hex digits"))?;
        let end = |text: &String| text.parse().map(jiff::Timestamp::as_second);
        let expires = token.expires.as_ref().map(end).transpose();
        let expires = expires.map_err(|_| wrong("expires is no time such as 2027-01-01T00:00:00Z"))?;
        Ok(Self {
            name: token.name.clone(),
            hash,
            scopes: token.scopes.clone(),
            expires,
            prefixes: token.prefixes.clone(),
        })
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }

    /// Whether a name may be written.
    pub(crate) fn allows(&self, name: &str) -> Result<(), Denied> {
        let fits = self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| name.starts_with(prefix));
        if fits { Ok(()) } else { Err(Denied::Name) }
    }
}

fn bearer(request: &HeaderMap) -> Option<&[u8]> {
    let value = request.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    let fits = scheme.eq_ignore_ascii_case(b"bearer ") && (1..=MAX_TOKEN).contains(&token.len());
    fits.then_some(token)
}

fn decode(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, secret: &str, scopes: &[Scope], expires: Option<&str>) -> Token {
        Token {
            name: name.to_owned(),
            sha256: Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect(),
            scopes: scopes.to_vec(),
            expires: expires.map(str::to_owned),
            prefixes: vec!["Linux/".to_owned()],
        }
    }

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().expect("a header"))])
    }

    #[test]
    fn a_token_allows_what_it_says_until_it_ends() {
        let tokens = Tokens::new(&[
            token("lab", "a", &[Scope::Profile], None),
            token("old", "b", &[Scope::Admin], Some("2020-01-01T00:00:00Z")),
            token("boss", "c", &[Scope::Admin], Some("2999-01-01T00:00:00Z")),
        ])
        .expect("tokens");
        let check = |value: &str, scope| tokens.check(&with(value), scope).map(|holder| holder.name);
        assert_eq!(check("Bearer a", Scope::Profile).as_deref(), Ok("lab"));
        assert_eq!(check("Bearer a", Scope::Admin), Err(Denied::Scope));
        assert_eq!(check("bearer c", Scope::Pdb).as_deref(), Ok("boss"));
        assert_eq!(check("Bearer b", Scope::Pdb), Err(Denied::Expired));
        for wrong in
            ["Bearer d", "Bearer ", "Bearer", "Basic a", "a", &format!("Bearer {}", "x".repeat(5000))]
        {
            assert_eq!(check(wrong, Scope::Profile), Err(Denied::Unknown), "{wrong}");
        }
        assert_eq!(tokens.check(&HeaderMap::new(), Scope::Profile).map(|_| ()), Err(Denied::Unknown));
        let lab = tokens.check(&with("Bearer a"), Scope::Profile).expect("a holder");
        assert_eq!((lab.allows("Linux/a"), lab.allows("nt/GUID/a")), (Ok(()), Err(Denied::Name)));
    }

    #[test]
    fn tokens_that_could_never_be_used_are_errors() {
        let bad = Token { sha256: "zz".to_owned(), ..token("x", "x", &[], None) };
        assert!(Tokens::new(&[bad]).is_err());
        assert!(Tokens::new(&[token("x", "x", &[], Some("tomorrow"))]).is_err());
    }
}
