//! The built `repo-server` as a process, and its disk.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

/// The only token; it may do everything.
pub const TOKEN: &str = "token-of-the-fault-test";

/// A running server. Killed when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Writes a configuration file that asks `upstream`; the audit log lies beside the file.
    pub fn configure(file: &Path, upstream: Option<SocketAddr>) -> Result<()> {
        let hash: String = Sha256::digest(TOKEN).iter().map(|byte| format!("{byte:02x}")).collect();
        let servers = upstream.map(|address| format!("\"http://{address}/symbols\"")).unwrap_or_default();
        let audit = file.with_extension("audit.jsonl");
        let text = format!(
            "[limits]\nrescan_seconds = 1\n[log]\nrequests = false\n\
             [build]\nsymbol_servers = [{servers}]\nprivate_addresses = true\nallow = [\"{}.pdb\"]\n\
             not_found_seconds = 1\nmalformed_seconds = 1\ndown_seconds = 1\nper_address_per_minute = 100000\n\
             [uploads]\naudit = {audit:?}\nat_a_time = 8\n\
             [[uploads.tokens]]\nname = \"load\"\nsha256 = \"{hash}\"\nscopes = [\"admin\"]\n",
            super::upstream::PDB
        );
        fs::write(file, text).context("cannot write the configuration")
    }

    /// Starts it and waits until it answers.
    pub fn start(program: &Path, root: &Path, config: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .arg("--root")
            .arg(root)
            .args(["--listen", "127.0.0.1:0", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut lines = BufReader::new(child.stderr.take().context("no standard error")?).lines();
        let mut server = Self { child, address: ([127, 0, 0, 1], 0).into() };
        let mut said = Vec::new();
        for line in lines.by_ref() {
            let line = line?;
            if let Some((_, address)) = line.rsplit_once("http://") {
                server.address = address.trim().parse().context("no address")?;
                // The rest of its log is read, or it would wait for us.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(server);
            }
            said.push(line);
        }
        bail!("the server did not start: {}", said.join("; "))
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Fails where the process has ended.
    pub fn ensure_alive(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the server died: {ended:?}");
        Ok(())
    }

    /// Largest memory it ever had, in bytes; `None` where the system does not tell.
    #[must_use]
    pub fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

/// A small file system of its own, which can be made full and read-only. Needs the right to mount.
pub struct Disk {
    /// Where it is mounted.
    pub root: PathBuf,
}

impl Disk {
    /// Mounts it; `None` where that is not allowed.
    #[must_use]
    pub fn mount(root: &Path, mib: u32) -> Option<Self> {
        let size = format!("size={mib}m");
        let mounted = run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(root));
        mounted.then(|| Self { root: root.to_owned() })
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.root.join("filler"))?;
        for piece in [1 << 20, 4096, 1] {
            let bytes = vec![0; piece];
            // Written until there is no room.
            while file.write_all(&bytes).is_ok() {}
        }
        Ok(())
    }

    /// Makes room again.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.root.join("filler")).context("cannot free the disk")
    }

    /// Forbids or allows writing. Files that are being written delay it.
    pub fn read_only(&self, read_only: bool) -> Result<()> {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        let start = Instant::now();
        while !run(Command::new("mount").args(["-o", options]).arg(&self.root)) {
            ensure!(start.elapsed() < Duration::from_secs(20), "cannot remount: {options}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.root));
    }
}

fn run(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
