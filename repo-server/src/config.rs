//! What an operator can set: a TOML file with one table per concern, each with working defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// The configuration file. Unknown keys are errors, so that a misspelt limit is not silently ignored.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The repository: a directory that holds `v1.0/`, or that directory itself; or, in a build with the feature
    /// `s3`, `s3://bucket/prefix`. The command line's `--root` comes first.
    pub root: Option<String>,
    /// Address and port to listen on; port 0 takes a free one. The command line's `--listen` comes first.
    pub listen: Option<SocketAddr>,
    /// Directory for what is no profile: uploads while they are received, the audit log, kept PDBs and kernels. By default
    /// that which holds `v1.0/`; a bucket has none, and without one nothing can be uploaded.
    pub state: Option<PathBuf>,
    /// File with a secret key of minisign, without a password: every inventory is signed with it.
    pub signing_key: Option<PathBuf>,
    /// Serve https with this certificate instead of http.
    pub tls: Option<Tls>,
    /// Bounds on what clients may take.
    pub limits: Limits,
    /// Building profiles that are missing.
    pub build: Build,
    /// What clients may send; nothing without tokens.
    pub uploads: Uploads,
    /// What is logged.
    pub log: Log,
}

/// Certificate and key for https.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// Bounds on what clients may take.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most connections at a time; more are answered 503 and closed.
    pub connections: usize,
    /// Most connections of one address at a time; more are answered 429 and closed.
    pub connections_per_address: usize,
    /// Most requests at a time that need the disk or an upstream; more are answered 503.
    pub requests: usize,
    /// Longest time in seconds a client may take to send the head of a request, also while a connection idles.
    pub head_seconds: u64,
    /// Longest time in seconds a client may stop reading an answer.
    pub stall_seconds: u64,
    /// Longest life of a connection in seconds; the answer that runs then is finished.
    pub connection_seconds: u64,
    /// Longest wait in seconds for running answers when the server stops.
    pub drain_seconds: u64,
    /// Memory for bodies of answers kept ready, in MiB.
    pub cache_mib: u64,
    /// How long in milliseconds a kept body is served before the file is looked at again.
    pub fresh_milliseconds: u64,
    /// Shortest time in seconds between two looks through the whole tree for files changed by others.
    pub rescan_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 1024,
            requests: 256,
            head_seconds: 15,
            stall_seconds: 30,
            connection_seconds: 3600,
            drain_seconds: 10,
            cache_mib: 256,
            fresh_milliseconds: 1000,
            rescan_seconds: 10,
        }
    }
}

/// Building profiles that are missing from symbols of upstream servers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Build {
    /// Base URLs of symbol servers, asked in order. Empty means that nothing is fetched or built.
    pub symbol_servers: Vec<String>,
    /// Names of the PDBs that may be asked for, in lower case.
    pub allow: Vec<String>,
    /// A text file with one `<module>/GUID/<GUIDAGE>` per line, `#` starts a comment: names the inventory lists before
    /// they are built, because original clients ask only for names it lists.
    pub announce: Option<PathBuf>,
    /// Where fetched PDBs are kept in the layout of symbol stores; by default `symbols/` in `state`. Without servers
    /// it is served as it is.
    pub symbols: Option<PathBuf>,
    /// Allow upstream servers at loopback, private and otherwise reserved addresses.
    pub private_addresses: bool,
    /// Most conversions at a time.
    pub workers: usize,
    /// Most builds that wait or run; more are answered 503.
    pub queue: usize,
    /// How long in seconds a request waits for its build before the answer is "later".
    pub wait_seconds: u64,
    /// Longest time in seconds of one conversion.
    pub convert_seconds: u64,
    /// Memory of one conversion in MiB.
    pub convert_mib: u64,
    /// Largest PDB fetched, in MiB.
    pub pdb_mib: u64,
    /// The program that converts; by default this one. It must serve as a conversion worker.
    pub worker: Option<PathBuf>,
    /// How long in seconds it is believed that no symbol server has something.
    pub not_found_seconds: u64,
    /// How long in seconds it is believed that what a symbol server has is useless.
    pub malformed_seconds: u64,
    /// How long in seconds a symbol server that does not answer is left alone.
    pub down_seconds: u64,
    /// Most builds one address may cause in a minute; more are answered 429.
    pub per_address_per_minute: u32,
}

impl Default for Build {
    fn default() -> Self {
        let allow = [
            "ntkrnlmp.pdb",
            "ntkrnlpa.pdb",
            "ntkrpamp.pdb",
            "ntoskrnl.pdb",
            "win32k.pdb",
            "win32kbase.pdb",
            "win32kfull.pdb",
            "tcpip.pdb",
            "ntdll.pdb",
            "ndis.pdb",
            "wdigest.pdb",
            "lsasrv.pdb",
            "dnsrslvr.pdb",
            "conhost.pdb",
            "ahcache.pdb",
            "netio.pdb",
            "afd.pdb",
            "ntfs.pdb",
            "kernel32.pdb",
            "kernelbase.pdb",
        ];
        Self {
            symbol_servers: Vec::new(),
            allow: allow.map(str::to_owned).to_vec(),
            announce: None,
            symbols: None,
            private_addresses: false,
            workers: 2,
            queue: 64,
            wait_seconds: 8,
            convert_seconds: 120,
            convert_mib: 2048,
            pdb_mib: 512,
            worker: None,
            not_found_seconds: 3600,
            malformed_seconds: 24 * 3600,
            down_seconds: 60,
            per_address_per_minute: 60,
        }
    }
}

/// What clients may send.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Uploads {
    /// Who may send what. Empty means that every upload is refused.
    pub tokens: Vec<Token>,
    /// Largest profile as sent, in MiB.
    pub profile_mib: u64,
    /// Largest profile as JSON text after decompression, in MiB.
    pub profile_text_mib: u64,
    /// Largest PDB, in MiB.
    pub pdb_mib: u64,
    /// Largest `vmlinux`, BTF or zip, in MiB.
    pub linux_mib: u64,
    /// Most uploads received or converted at a time; more are answered 503.
    pub at_a_time: usize,
    /// Longest silence in seconds of a client that sends a body.
    pub silence_seconds: u64,
    /// Fewest KiB a second, on average, a body must come with after the first such silence.
    pub slowest_kib: u64,
    /// The audit log; by default `audit.jsonl` in `state`.
    pub audit: Option<PathBuf>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            profile_mib: 32,
            profile_text_mib: 96,
            pdb_mib: 512,
            linux_mib: 1024,
            at_a_time: 4,
            silence_seconds: 15,
            slowest_kib: 16,
            audit: None,
        }
    }
}

/// Who may send what. `rekal repo token` makes one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who it was given to; what the audit log says.
    pub name: String,
    /// SHA-256 of the token in hex. The token itself, 32 random bytes, is stored nowhere.
    pub sha256: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// When it ends, e.g. `2027-01-01T00:00:00Z`; absent means never.
    pub expires: Option<String>,
    /// Starts of the names it may write, e.g. `Linux/`; empty means all.
    #[serde(default)]
    pub prefixes: Vec<String>,
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Profiles, under any name that is free.
    Profile,
    /// PDBs, of which profiles are made.
    Pdb,
    /// Kernels: `vmlinux`, BTF, zips of a module with `System.map`.
    Linux,
    /// Symlinks, replacing and deleting; includes the others.
    Admin,
}

/// What is logged to standard error, one JSON object per line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Log every request; otherwise those that fail with 5xx, and what the server does by itself.
    pub requests: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { requests: true }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A token that could never be used.
    #[error("{0}")]
    Token(String),
    /// The file is no such configuration.
    #[error("{}: {error}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        error: Box<toml::de::Error>,
    },
}

impl Config {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Io { path: path.to_owned(), error })?;
        let config: Self = toml::from_str(&text)
            .map_err(|error| ConfigError::Toml { path: path.to_owned(), error: Box::new(error) })?;
        crate::tokens::Tokens::new(&config.uploads.tokens).map_err(ConfigError::Token)?;
        Ok(config)
    }

    /// Whether the server ever writes to the repository; otherwise it is served as it is.
    pub(crate) fn writes(&self) -> bool {
        !self.build.symbol_servers.is_empty() || !self.uploads.tokens.is_empty()
    }
}

impl Limits {
    pub(crate) fn head_timeout(&self) -> Duration {
        Duration::from_secs(self.head_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_shows_every_default() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/repo-server.toml");
        assert_eq!(Config::read(&example).expect("a configuration"), Config::default());
        let text = std::fs::read_to_string(example).expect("the example");
        let commented: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .filter(|rest| rest.contains(" = ") || rest.starts_with('['))
                    .unwrap_or(line)
            })
            .fold(String::new(), |text, line| text + line + "\n");
        // What is commented out is spelt right, too.
        let all: Config = toml::from_str(&commented).expect("a configuration");
        assert!(all.root.is_some() && all.listen.is_some() && all.signing_key.is_some() && all.tls.is_some());
        assert!(all.build.announce.is_some() && all.build.symbols.is_some() && all.build.worker.is_some());
    }

    #[test]
    fn misspelt_keys_are_errors() {
        let wrong: Result<Config, _> = toml::from_str("[limits]\nconnection = 3\n");
        assert!(wrong.is_err_and(|error| error.to_string().contains("unknown field `connection`")));
    }
}
