//! Signatures in minisign's format: ed25519 over BLAKE2b-512 of the file, checkable with the `minisign` program.
//!
//! What is signed is `v1.0/inventory.gz`; the signature lies beside it as `inventory.gz.minisig`. The inventory lists the
//! SHA-256 of every document, so one signature covers a whole directory, archive or URL. Keys are those of
//! `minisign -G -W`: two lines of text, the secret key without a password (keep the file to yourself).
//!
//! A signature written here is a function of key, file and comment alone, without a time stamp and without chance: the
//! same repository signed twice gives the same bytes. `minisign` itself adds noise; its signatures are read as well.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Blake2b512, Digest as _};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::source::sha256_hex;

/// File beside `inventory.gz` that holds its signature.
pub const SIGNATURE_FILE: &str = "inventory.gz.minisig";

/// Largest signature file in bytes.
pub const MAX_SIGNATURE: usize = 4096;

/// Algorithm of keys, and of signatures over the file itself.
const PLAIN: [u8; 2] = *b"Ed";
/// Algorithm of signatures over the file's hash.
const PREHASHED: [u8; 2] = *b"ED";
/// Name of the checksum of a secret key.
const CHECKSUM: [u8; 2] = *b"B2";
/// Length of a decoded secret key: three names, salt, two limits, number, seed, public key, checksum.
const SECRET_LEN: usize = 6 + 32 + 16 + 8 + 64 + 32;

/// Why a key is not usable or a signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The text is no public key of minisign.
    #[error("not a minisign public key")]
    PublicKey,
    /// The text is no secret key of minisign.
    #[error("not a minisign secret key")]
    SecretKey,
    /// The secret key is protected by a password, which is not supported.
    #[error("the secret key has a password; make one without (minisign -G -W)")]
    Password,
    /// The signature's text is damaged.
    #[error("damaged signature")]
    Damaged,
    /// The signature is by another key, or the file was changed.
    #[error("the signature is not of this file by the key {0}")]
    Wrong(String),
    /// The system gives no random bytes for a new key or token.
    #[error("no random bytes for a key or token")]
    Random,
}

/// A public key: who may sign.
#[derive(Clone)]
pub struct PublicKey {
    key: minisign_verify::PublicKey,
    text: String,
}

impl PublicKey {
    /// From its base64 text (`RW...`) or from the two lines of a key file.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let text = last_line(text);
        // The library takes other algorithms' names as well; `minisign` does not, and a key has one spelling.
        if !STANDARD.decode(text).is_ok_and(|bytes| bytes.starts_with(&PLAIN)) {
            return Err(SignatureError::PublicKey);
        }
        let key = minisign_verify::PublicKey::from_base64(text).map_err(|_| SignatureError::PublicKey)?;
        Ok(Self { key, text: text.to_owned() })
    }

    /// Checks that `signature` is one of `bytes` by this key.
    pub fn verify(&self, bytes: &[u8], signature: &str) -> Result<(), SignatureError> {
        let signature = minisign_verify::Signature::decode(signature).map_err(|_| SignatureError::Damaged)?;
        // Signatures over the bare file are an old form that is open to confusion with other protocols.
        self.key.verify(bytes, &signature, false).map_err(|_| SignatureError::Wrong(self.text.clone()))
    }

    /// The text of a key file.
    #[must_use]
    pub fn to_file(&self) -> String {
        format!("untrusted comment: rekal public key\n{}\n", self.text)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// A secret key. Its text never appears in messages.
pub struct SecretKey {
    number: [u8; 8],
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SecretKey {
    /// A new key.
    pub fn generate() -> Result<Self, SignatureError> {
        let random = SystemRandom::new();
        let (mut number, mut seed) = ([0; 8], [0; 32]);
        random.fill(&mut number).and_then(|()| random.fill(&mut seed)).map_err(|_| SignatureError::Random)?;
        Self::from_seed(number, seed)
    }

    fn from_seed(number: [u8; 8], seed: [u8; 32]) -> Result<Self, SignatureError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| SignatureError::SecretKey)?;
        Ok(Self { number, seed, pair })
    }

    /// Reads the text of a secret key file.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let bytes = STANDARD.decode(last_line(text)).map_err(|_| SignatureError::SecretKey)?;
        let bytes: &[u8; SECRET_LEN] = bytes.as_slice().try_into().map_err(|_| SignatureError::SecretKey)?;
        let (names, rest) = bytes.split_at(6);
        let (_, rest) = rest.split_at(48);
        let (kept, checksum) = rest.split_at(72);
        let (Some(algorithm), Some(derivation)) = (names.get(..2), names.get(2..4)) else {
            return Err(SignatureError::SecretKey);
        };
        if algorithm != PLAIN || names.get(4..) != Some(&CHECKSUM) {
            return Err(SignatureError::SecretKey);
        }
        if derivation != [0, 0] {
            return Err(SignatureError::Password);
        }
        let (number, pair) = kept.split_at(8);
        let (seed, public) = pair.split_at(32);
        let key = Self::from_seed(array(number)?, array(seed)?)?;
        // A key of which a part was changed would sign what nobody can check.
        // `minisign -W` leaves the checksum empty.
        let checked = checksum == key.checksum() || checksum == [0; 32];
        let whole = checked && public == key.pair.public_key().as_ref();
        if whole { Ok(key) } else { Err(SignatureError::SecretKey) }
    }

    /// The text of a secret key file.
    #[must_use]
    pub fn to_file(&self) -> String {
        let mut bytes = Vec::with_capacity(SECRET_LEN);
        bytes.extend(PLAIN);
        bytes.extend([0, 0]);
        bytes.extend(CHECKSUM);
        bytes.extend([0; 48]);
        bytes.extend(self.number);
        bytes.extend(self.seed);
        bytes.extend(self.pair.public_key().as_ref());
        bytes.extend(self.checksum());
        format!("untrusted comment: rekal secret key, without a password\n{}\n", STANDARD.encode(bytes))
    }

    /// The key others need to check what this one signs.
    pub fn public(&self) -> Result<PublicKey, SignatureError> {
        let mut bytes = Vec::from(PLAIN);
        bytes.extend(self.number);
        bytes.extend(self.pair.public_key().as_ref());
        PublicKey::parse(&STANDARD.encode(bytes))
    }

    /// The text of a signature file for `bytes`. The comment (one line) is signed too.
    #[must_use]
    pub fn sign(&self, bytes: &[u8], comment: &str) -> String {
        let comment: String = comment.chars().filter(|c| !c.is_control()).collect();
        let signature = self.pair.sign(&Blake2b512::digest(bytes));
        let signed: Vec<u8> = signature.as_ref().iter().copied().chain(comment.bytes()).collect();
        let over_comment = self.pair.sign(&signed);
        let mut first = Vec::from(PREHASHED);
        first.extend(self.number);
        first.extend(signature.as_ref());
        format!(
            "untrusted comment: signature by a rekal secret key\n{}\ntrusted comment: {comment}\n{}\n",
            STANDARD.encode(first),
            STANDARD.encode(over_comment.as_ref())
        )
    }

    fn checksum(&self) -> [u8; 32] {
        let mut hash = Blake2b::<U32>::new();
        hash.update(PLAIN);
        hash.update(self.number);
        hash.update(self.seed);
        hash.update(self.pair.public_key().as_ref());
        hash.finalize().into()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

/// A token for uploads to a repo-server, 32 random bytes as hex, and its SHA-256, which is all the server stores.
pub fn new_token() -> Result<(String, String), SignatureError> {
    let mut bytes = [0u8; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SignatureError::Random)?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let sha256 = sha256_hex(token.as_bytes());
    Ok((token, sha256))
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], SignatureError> {
    bytes.try_into().map_err(|_| SignatureError::SecretKey)
}

/// Key files are a comment and the key; a lone key is its own last line.
fn last_line(text: &str) -> &str {
    text.trim().lines().last().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `minisign -G -W` 0.10 and `minisign -S -m file -t "of the program"`; the file held `hello\n`.
    const PUBLIC: &str = "RWTD85AibnOxNpBxqfgnDuSzJ5XM0RRxUulwrwhFYbeMnlugDWwTE4Ou";
    const SECRET: &str = "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAw/OQIm5zsTZnkXJAO0LwV80EmUvqJJnLzIgA0nueoejslkHELRj4K5BxqfgnDuSzJ5XM0RRxUulwrwhFYbeMnlugDWwTE4OuAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key\nRUTD85AibnOxNhTTN0VrcBneqPs/SWfaw1JXLJJuYgV+cnLuUTww7U3tXMeU+IEHY7rCi0YvzVplgm0IwyqWR3isAb1TT1kTYw8=\ntrusted comment: of the program\nJZWGpyCOWMdzzGg+FuorO5TG+2nshd+GqiXsuzwSq5NNtuBYnQrQr8zZrwTRT+dNP0vvCRcH+GD/zauFgK9RCg==\n";

    #[test]
    fn signatures_of_the_minisign_program_hold() {
        let public = PublicKey::parse(PUBLIC).expect("its public key");
        assert_eq!(public.verify(b"hello\n", SIGNATURE), Ok(()));
        assert!(matches!(public.verify(b"hullo\n", SIGNATURE), Err(SignatureError::Wrong(_))));
        let forged = SIGNATURE.replace("of the program", "of somebody else");
        assert!(public.verify(b"hello\n", &forged).is_err(), "the comment is signed too");
        let other = SecretKey::generate().and_then(|key| key.public()).expect("a key");
        assert!(other.verify(b"hello\n", SIGNATURE).is_err());
    }

    #[test]
    fn its_secret_keys_are_read_and_written() {
        let secret = SecretKey::parse(SECRET).expect("its secret key");
        assert_eq!(secret.public().expect("a public key").to_string(), PUBLIC);
        let (written, given) = (secret.to_file(), SECRET);
        let kept = |text: &str| STANDARD.decode(last_line(text)).map(|bytes| bytes[54..126].to_vec());
        assert_eq!(kept(&written), kept(given), "number and key");
        let text = secret.sign(b"hello\n", "ours");
        assert_eq!(text, secret.sign(b"hello\n", "ours"), "no chance in it");
        assert_eq!(PublicKey::parse(PUBLIC).expect("a key").verify(b"hello\n", &text), Ok(()));
    }

    #[test]
    fn a_changed_key_is_refused() {
        let secret = SecretKey::generate().expect("a key");
        let file = secret.to_file();
        assert!(SecretKey::parse(&file).is_ok());
        let bytes = STANDARD.decode(last_line(&file)).expect("base64");
        for at in (0..6).chain(54..bytes.len()) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(SecretKey::parse(&STANDARD.encode(&changed)).is_err(), "byte {at}");
        }
        for text in ["", "untrusted comment: x", "RWQ", "\u{1b}[2J"] {
            assert!(SecretKey::parse(text).is_err() && PublicKey::parse(text).is_err());
        }
    }
}
