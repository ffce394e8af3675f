//! Images of made Windows machines with the repositories they need, for the tests of commands.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::process::Command;

use rekal_tests::rekal::{Output, Rekal, Row, program};
use testkit::scenario::{Built, Scenario};
use testkit::{Machine, Snapshot, System, profiles};

/// When made machines were started, seconds since 1970: 2012-02-22 11:10:00 UTC.
pub(crate) const CREATED: u64 = 1_329_909_000;

/// The systems that the data at hand can describe.
pub(crate) fn systems() -> Vec<(&'static str, System)> {
    let all = [
        ("Windows 7", profiles::windows_7()),
        ("Windows 10", profiles::windows_10()),
        ("Windows 11", profiles::windows_11()),
    ];
    all.into_iter().filter_map(|(name, system)| Some((name, system?))).collect()
}

/// An image with a repository that has the profile of its kernel.
pub(crate) struct Image {
    /// Where image and repository are.
    pub(crate) folder: tempfile::TempDir,
    /// The program on the image.
    pub(crate) rekal: Rekal,
}

impl Image {
    /// Of a finished machine.
    pub(crate) fn new(machine: Machine) -> Self {
        Self::of(&machine.finish())
    }

    /// Of a snapshot.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("memory.raw");
        snapshot.write_raw(&image).unwrap();
        let system = &snapshot.machine.system;
        let profile = folder.path().join("repository/v1.0/nt/GUID").join(&system.pdb.guid_age);
        std::fs::create_dir_all(profile.parent().unwrap()).unwrap();
        let document = system.layouts.profile().to_document().unwrap();
        std::fs::write(&profile, document.to_canonical_json()).unwrap();
        if let Some(tcpip) = &system.tcpip {
            let path = folder.path().join("repository/v1.0/tcpip/GUID").join(&tcpip.pdb.guid_age);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, tcpip.profile.to_document().unwrap().to_canonical_json()).unwrap();
        }
        let repository = Some(folder.path().join("repository"));
        Self { rekal: Rekal { program: program().unwrap(), image, repository }, folder }
    }

    /// Runs a command.
    pub(crate) fn run(&self, command: &[&str]) -> Output {
        self.rekal.run(command).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The cells of some columns of each row, in one text.
    pub(crate) fn cells(&self, command: &[&str], columns: &[&str]) -> Vec<String> {
        let output = self.run(command);
        assert!(output.complete, "{command:?}: {:?}", output.notes);
        let cells = |row: &Row| columns.iter().map(|column| row.text_or_empty(column)).collect::<Vec<_>>();
        output.rows.iter().map(|row| cells(row).join(" | ")).collect()
    }

    /// The program on the image with options, to which more can be added.
    pub(crate) fn command(&self, options: &[&str]) -> Command {
        let mut process = Command::new(&self.rekal.program);
        process.args(["--offline", "-f"]).arg(&self.rekal.image).env("HOME", "/nonexistent");
        process.env_remove("XDG_CONFIG_HOME").env_remove("XDG_CACHE_HOME");
        process.arg("--repository_path").arg(self.rekal.repository.as_ref().unwrap()).args(options);
        process
    }

    /// Standard output as text.
    pub(crate) fn text(&self, options: &[&str], command: &[&str]) -> String {
        let output = self.command(&["--format", "test"]).args(options).args(command).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The office machine of every system.
pub(crate) fn offices() -> impl Iterator<Item = (&'static str, Scenario, Built, Image)> {
    systems().into_iter().chain([("Windows XP", profiles::windows_xp_pae())]).map(|(name, system)| {
        let scenario = Scenario::office(&system);
        let built = scenario.build(system);
        let image = Image::of(&built.snapshot);
        (name, scenario, built, image)
    })
}

/// The rows in order.
pub(crate) fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

/// The last part of a path of Windows.
pub(crate) fn last(path: &str) -> &str {
    path.rsplit('\\').next().unwrap()
}
