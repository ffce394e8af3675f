//! The `repo-server` binary: options, configuration, signals.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use repo_server::{Config, Service};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serve a directory of profiles over HTTP, to rekal and to original Rekall clients.
///
/// Point clients at it with `--repository_path http://HOST:PORT`.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// The repository: a directory that holds `v1.0/`, or that directory itself
    #[arg(long, value_name = "DIR")]
    root: Option<String>,
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Configuration file (TOML); see deploy/repo-server.toml for every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    if let Some(code) = profile_gen::worker::serve_if_asked() {
        return code;
    }
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where stderr is closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "repo-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    let config = options.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let root = options.root.or_else(|| config.root.clone()).context("no repository: give --root DIR")?;
    let listen = options.listen.or(config.listen).unwrap_or((Ipv4Addr::LOCALHOST, 8000).into());
    open_files();
    let tls = config.tls.as_ref().map(repo_server::acceptor).transpose()?;
    let service = Service::open(Path::new(&root), config).with_context(|| format!("cannot open {root}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        writeln!(std::io::stderr(), "serving {root} at {scheme}://{}", listener.local_addr()?)?;
        let shutdown = async move {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        };
        repo_server::serve(listener, service, tls, shutdown).await;
        Ok(())
    });
    // Downloads and conversions under way are not waited for: their files are whole or absent.
    runtime.shutdown_background();
    served
}

/// Lets this process open as many files as it may: shells allow fewer than connections want.
fn open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where this fails, the limit there is stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
