//! The `repo-server` binary: serves a directory of profiles over HTTP.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serve a directory of profiles over HTTP, to rekal and to original Rekall clients.
///
/// Point clients at it with `--repository_path http://HOST:PORT`. TLS is left to a reverse proxy.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// The repository: a directory that holds `v1.0/`, or that directory itself
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    if let Some(code) = profile_gen::worker::serve_if_asked() {
        return code;
    }
    serve()
}

#[tokio::main]
async fn serve() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where stderr is closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "repo-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    ensure!(options.root.is_dir(), "no such directory: {}", options.root.display());
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    writeln!(std::io::stderr(), "serving {} at http://{}", options.root.display(), listener.local_addr()?)?;
    let shutdown = async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    };
    repo_server::serve(listener, repo_server::app(&options.root), shutdown).await;
    Ok(())
}
