//! Kills `repo-server` in the middle of uploads, builds and inventory updates, then lets it run while its upstream, its
//! connections and its disk fail, and checks that it loses nothing it acknowledged and serves nothing half-written.
//!
//! Truth: each document is a function of its number, so the reader knows what must come; profiles are built from a real
//! PDB. Without the test data nothing is built, without the right to mount the disk does not fail; both is said. Ends
//! with the line `N passed, N failed`.

#![expect(clippy::print_stdout, reason = "a report on standard output is what this program is for")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use rekal_tests::faults::Random;
use rekal_tests::faults::load::Load;
use rekal_tests::faults::server::{Disk, Server};
use rekal_tests::faults::upstream::{PDB, Upstream};

/// Time between two changes of what fails.
const WINDOW: Duration = Duration::from_secs(5);

/// Size of the disk that fails, in MiB.
const DISK_MIB: u32 = 768;

/// Kill and starve repo-server under load
#[derive(Debug, Parser)]
struct Options {
    /// How often the server is killed
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// How long it runs with faults, in minutes
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Where chance begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The program [default: repo-server beside this one]
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let beside = std::env::current_exe()?.with_file_name("repo-server");
    let program = options.server.clone().unwrap_or(beside);
    let data = std::env::var_os("REKAL_TEST_DATA").map(PathBuf::from);
    let data = data.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"));
    let upstream = match fs::read(data.join(format!("pdb/{PDB}.pdb"))) {
        Ok(pdb) => Some(Upstream::start(pdb)?),
        Err(_) => {
            println!("SKIPPED: no PDBs in the test data, so nothing is built");
            None
        }
    };
    let mut failed = 0;
    let mut report = |name: &str, failures: Vec<String>| {
        for failure in &failures {
            println!("{name}: {failure}");
        }
        failed += u32::from(!failures.is_empty());
    };
    report("kills", kills(&program, upstream.as_ref(), &options)?);
    report("faults", faults(&program, upstream.as_ref(), &options)?);
    println!("{} passed, {failed} failed", 2 - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Kills the server at any time, again and again; after each start everything acknowledged since the last one is there.
fn kills(program: &Path, upstream: Option<&Upstream>, options: &Options) -> Result<Vec<String>> {
    let scratch = tempfile::tempdir()?;
    let (root, config) = (scratch.path().join("root"), scratch.path().join("config.toml"));
    fs::create_dir_all(root.join("v1.0"))?;
    Server::configure(&config, upstream.map(|upstream| upstream.address))?;
    let mut random = Random::new(options.seed);
    let load = Load::default();
    let mut left_over = [0; 3];
    for kill in 0..options.kills {
        let mut server = Server::start(program, &root, &config)?;
        load.verify(server.address);
        load.forget();
        load.stop.store(false, Ordering::Relaxed);
        let address = server.address;
        std::thread::scope(|scope| {
            let load = &load;
            let (seed, brief) = (u64::from(kill), Duration::from_millis(1));
            for number in 0..2 {
                scope.spawn(move || load.send(address, brief));
                scope.spawn(move || load.read(address, seed * 4 + number, brief));
                if upstream.is_some() {
                    scope.spawn(move || load.build(address, seed * 4 + number, brief));
                }
            }
            std::thread::sleep(Duration::from_millis(30 + random.below(1500)));
            let killed = server.kill();
            load.stop.store(true, Ordering::Relaxed);
            killed
        })?;
        for (count, place) in left_over.iter_mut().zip(["staging", "symbols", "v1.0"]) {
            *count += u32::from(has_temporary(&root.join(place)));
        }
        for place in ["staging", "symbols", "v1.0"] {
            remove_temporary(&root.join(place));
        }
    }
    let mut server = Server::start(program, &root, &config)?;
    load.verify(server.address);
    server.ensure_alive()?;
    let [uploads, downloads, publications] = left_over;
    println!(
        "killed {} times: {uploads} in the middle of receiving an upload, {downloads} of a download for a build, \
         {publications} of writing a profile or the inventory; {:?}",
        options.kills, load.counts
    );
    Ok(load.failures())
}

/// Whether a file below a directory was not written to its end.
fn has_temporary(directory: &Path) -> bool {
    temporary(directory).next().is_some()
}

/// As `rekal repo gc` does, so that the next round counts its own only.
fn remove_temporary(directory: &Path) {
    for path in temporary(directory) {
        let _ = fs::remove_file(path);
    }
}

fn temporary(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let mut pending = vec![directory.to_owned()];
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if entry.file_name().to_string_lossy().starts_with(".rekal-")
                || path.extension().is_some_and(|e| e == "part")
            {
                found.push(path);
            }
        }
    }
    found.into_iter()
}

/// Lets it run while one thing after the other fails.
fn faults(program: &Path, upstream: Option<&Upstream>, options: &Options) -> Result<Vec<String>> {
    let scratch = tempfile::tempdir()?;
    let (root, config) = (scratch.path().join("root"), scratch.path().join("config.toml"));
    fs::create_dir_all(&root)?;
    let disk = Disk::mount(&root, DISK_MIB);
    if disk.is_none() {
        println!("SKIPPED: no right to mount, so the disk does not fail");
    }
    fs::create_dir_all(root.join("v1.0"))?;
    Server::configure(&config, upstream.map(|upstream| upstream.address))?;
    let mut server = Server::start(program, &root, &config)?;
    let (load, address) = (Load::default(), server.address);
    let windows = AtomicU64::new(0);
    let end = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    std::thread::scope(|scope| {
        let load = &load;
        for number in 0..3 {
            scope.spawn(move || load.send(address, Duration::from_millis(150)));
            scope.spawn(move || load.read(address, number, Duration::from_millis(5)));
            if upstream.is_some() {
                scope.spawn(move || load.build(address, 1000 + number, Duration::from_millis(400)));
            }
        }
        let mut run = || -> Result<()> {
            while Instant::now() < end {
                window(windows.fetch_add(1, Ordering::Relaxed), load, upstream, disk.as_ref())?;
                server.ensure_alive()?;
            }
            Ok(())
        };
        let result = run();
        load.stop.store(true, Ordering::Relaxed);
        result
    })?;
    load.verify(address);
    server.ensure_alive()?;
    println!(
        "{:.1} minutes, {} windows of faults, {} requests failed upstream, at most {} MB of memory; {:?}",
        options.minutes,
        windows.into_inner(),
        upstream.map_or(0, |upstream| upstream.failed.load(Ordering::Relaxed)),
        server.peak_memory().unwrap_or_default() / 1_000_000,
        load.counts
    );
    // And once more from what is on the disk.
    server.kill()?;
    let server = Server::start(program, &root, &config).context("the server does not start again")?;
    load.verify(server.address);
    let stored = load.counts.stored.load(Ordering::Relaxed);
    ensure!(stored > 0, "nothing was stored");
    Ok(load.failures())
}

/// One span of time in which something fails, and a calm one after it.
fn window(number: u64, load: &Load, upstream: Option<&Upstream>, disk: Option<&Disk>) -> Result<()> {
    let upstream_fails = |fails| {
        if let Some(upstream) = upstream {
            upstream.fails.store(fails, Ordering::Relaxed);
        }
    };
    upstream_fails(number % 3 != 1);
    match (number % 3, disk) {
        (1, Some(disk)) => {
            disk.fill()?;
            std::thread::sleep(WINDOW);
            disk.free()?;
        }
        (2, Some(disk)) => {
            {
                // A disk with files being written does not become read-only.
                let _nobody = load.writing.write().unwrap_or_else(PoisonError::into_inner);
                disk.read_only(true)?;
            }
            std::thread::sleep(WINDOW);
            disk.read_only(false)?;
        }
        _ => std::thread::sleep(WINDOW),
    }
    upstream_fails(false);
    std::thread::sleep(WINDOW);
    Ok(())
}
