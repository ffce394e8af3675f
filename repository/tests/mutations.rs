//! Damaged inventories, archives and documents: each gives a result or an error, within its limits.
//!
//! Every test runs at least 10,000 mutations from fixed seeds, so a failure repeats; the seed is in the message.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::io::{Cursor, Write as _};

use profile::Document;
use profile::names::{BuildId, ProfileName};
use repository::{
    Config, Inventory, InventoryEntry, Limits, LinuxEvidence, PublicKey, SIGNED_COMMENT, SearchPath,
    SecretKey,
};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

const ROUNDS: u64 = 10_000;

/// xorshift64*: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(value).expect("31 bits") % bound.max(1)
    }

    /// One to four of: flip bits, set an extreme byte, cut, repeat a piece, copy a piece elsewhere.
    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            let length = self.below(32.min(bytes.len() - at)) + 1;
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'[', b'9'][self.below(9)],
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(at..at + length)),
                4 => {
                    let piece = bytes[at..at + length].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                _ => {
                    let piece = bytes[at..at + length].to_vec();
                    let to = self.below(bytes.len() - length + 1);
                    bytes[to..to + length].copy_from_slice(&piece);
                }
            }
        }
        bytes
    }
}

fn kernel(symbol: &str) -> Document {
    let mut document = Document::default();
    document.set("Type", "Profile");
    document.set("ProfileClass", "Linux");
    document.set("BuildID", "3b43fad5034874490492495d552c0af6a5fab235");
    document.set("Banner", "Linux version 6.1.0-56-cloud-amd64 (x) #1");
    document.constants.insert(symbol.to_owned(), 1);
    document
}

fn evidence() -> LinuxEvidence {
    LinuxEvidence {
        build_id: BuildId::from_hex("3b43fad5034874490492495d552c0af6a5fab235"),
        banner: Some("Linux version 6.1.0-56-cloud-amd64 (x) #1".to_owned()),
        release: None,
    }
}

fn limits() -> Limits {
    Limits { max_text: 64 << 10, max_inventory: 64 << 10, max_tree: 1000, ..Limits::default() }
}

#[test]
fn mutated_inventories_are_read_or_refused() {
    let mut inventory = Inventory::default();
    for name in ["Linux/a", "nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942", "Debian/6.1.0-56-cloud-amd64"] {
        let entry = InventoryEntry::describe(
            &profile::Profile::parse_text(kernel(name).to_canonical_json()).expect("our own profile"),
            1_407_274_367.13,
            &"0".repeat(64),
        );
        inventory.entries.insert(ProfileName::new(name).expect("a name"), entry);
    }
    let plain = inventory.to_document().to_canonical_json().into_bytes();
    let compressed = inventory.to_gzip();
    let mut read = 0;
    for seed in 0..ROUNDS {
        let mut random = Random::new(seed);
        let original = if seed % 4 == 0 { &compressed } else { &plain };
        let bytes = random.mutate(original);
        if let Ok(inventory) = Inventory::parse(&bytes, 64 << 10) {
            read += 1;
            let again = Inventory::parse(&inventory.to_gzip(), 1 << 20);
            let again =
                again.unwrap_or_else(|error| panic!("seed {seed}: what was read is not writable: {error}"));
            assert_eq!(again.entries, inventory.entries, "seed {seed}");
        }
    }
    assert!(read > 100, "the mutations are too harsh to test anything: {read}");
}

#[test]
fn a_mutated_signature_or_key_is_the_same_or_refused() {
    let secret = SecretKey::generate().expect("a key");
    let public = secret.public().expect("its public key");
    let text = secret.sign(b"inventory", SIGNED_COMMENT);
    let (secret_file, public_file) = (secret.to_file(), public.to_file());
    // The first line is a comment that nobody signs.
    let signed = |text: &str| text.lines().skip(1).map(str::trim_end).collect::<Vec<_>>().join("\n");
    let (mut held, mut kept) = (0, 0);
    for seed in 0..ROUNDS {
        let mut random = Random::new(seed);
        let mutated = String::from_utf8_lossy(&random.mutate(text.as_bytes())).into_owned();
        if public.verify(b"inventory", &mutated).is_ok() {
            held += 1;
            assert_eq!(signed(&mutated), signed(&text), "seed {seed}: {mutated}");
        }
        let mutated = String::from_utf8_lossy(&random.mutate(secret_file.as_bytes())).into_owned();
        if let Ok(key) = SecretKey::parse(&mutated) {
            kept += 1;
            // Salt and limits belong to the password there is not.
            assert_eq!(key.to_file(), secret_file, "seed {seed}");
        }
        let mutated = String::from_utf8_lossy(&random.mutate(public_file.as_bytes())).into_owned();
        if let Ok(key) = PublicKey::parse(&mutated) {
            let holds = key.verify(b"inventory", &text).is_ok();
            assert_eq!(holds, key == public, "seed {seed}: {mutated}");
        }
    }
    assert!(held > 100 && kept > 100, "the mutations are too harsh to test anything: {held}, {kept}");
}

#[test]
fn mutated_archives_answer_or_say_why_not() {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let deflated = SimpleFileOptions::default();
    let stored = deflated.compression_method(CompressionMethod::Stored);
    let document = kernel("a").to_canonical_json();
    let mut add = |path: &str, bytes: &[u8], options: SimpleFileOptions| {
        zip.start_file(path, options).expect("a member");
        zip.write_all(bytes).expect("bytes");
    };
    add("v1.0/Linux/a.gz", &profile::gzip(document.as_bytes()), stored);
    add("v1.0/Linux/b", document.as_bytes(), deflated);
    add("v1.0/Short", Document::symlink("Linux/a").to_canonical_json().as_bytes(), stored);
    add("../../evil.gz", b"x", stored);
    let whole = zip.finish().expect("an archive").into_inner();
    let directory = tempfile::tempdir().expect("scratch");
    let file = directory.path().join("a.zip");
    let config = Config { entries: vec![file.display().to_string()], limits: limits(), ..Config::default() };
    let (mut loaded, mut found) = (0, 0);
    for seed in 0..ROUNDS {
        fs::write(&file, Random::new(seed).mutate(&whole)).expect("a file");
        let path = SearchPath::open(&config).expect("a search path");
        for name in ["Linux/a", "Linux/b", "Short", "evil"] {
            let name = ProfileName::new(name).expect("a name");
            match path.load_named(&name) {
                Ok(_) => loaded += 1,
                Err(error) => assert!(!error.trace.is_empty(), "seed {seed}: nobody was asked"),
            }
        }
        found += usize::from(path.find_linux(&evidence()).is_ok());
    }
    assert!(loaded > 1000 && found > 100, "the mutations are too harsh to test anything: {loaded}, {found}");
}

#[test]
fn mutated_documents_in_a_directory_answer_or_say_why_not() {
    let directory = tempfile::tempdir().expect("scratch");
    let tree = directory.path().join("v1.0/Linux");
    fs::create_dir_all(&tree).expect("a directory");
    let originals = [
        profile::gzip(kernel("a").to_canonical_json().as_bytes()),
        kernel("a").to_canonical_json().into_bytes(),
        Document::symlink("Linux/b").to_canonical_json().into_bytes(),
    ];
    let config = Config {
        entries: vec![directory.path().display().to_string()],
        limits: limits(),
        ..Config::default()
    };
    let name = ProfileName::new("Linux/a").expect("a name");
    let mut loaded = 0;
    for seed in 0..ROUNDS {
        let original = &originals[usize::try_from(seed % 3).expect("small")];
        fs::write(tree.join("a"), Random::new(seed).mutate(original)).expect("a file");
        let path = SearchPath::open(&config).expect("a search path");
        match path.load_named(&name) {
            Ok(_) => loaded += 1,
            Err(error) => assert!(!error.to_string().contains('\u{1b}'), "seed {seed}: control characters"),
        }
        if seed % 10 == 0 {
            let _ = path.find_linux(&evidence()).map_err(|error| error.to_string());
        }
    }
    assert!(loaded > 200, "the mutations are too harsh to test anything: {loaded}");
}

#[test]
fn an_archive_whose_members_claim_huge_sizes_costs_the_limit() {
    // 2 MB of blanks, four times over, in a few kilobytes; the limit is 64 KB.
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for name in ["Linux/a", "Linux/b", "Linux/c", "Linux/d"] {
        zip.start_file(name, SimpleFileOptions::default()).expect("a member");
        zip.write_all(&vec![b' '; 2 << 20]).expect("bytes");
    }
    let directory = tempfile::tempdir().expect("scratch");
    let file = directory.path().join("a.zip");
    fs::write(&file, zip.finish().expect("an archive").into_inner()).expect("a file");
    let config = Config { entries: vec![file.display().to_string()], limits: limits(), ..Config::default() };
    let path = SearchPath::open(&config).expect("a search path");
    let error = path.load("Linux/a").expect_err("too large");
    assert!(error.to_string().contains("larger than the limit of 65536 bytes"), "{error}");
    assert!(path.find_linux(&evidence()).is_err());
}
