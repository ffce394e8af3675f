//! Commands over the memory of a whole machine, of which words are changed.

use std::fs::{File, read};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use analyzer::os::System;
use analyzer::plugin::Sink;
use analyzer::plugins::ALL;
use analyzer::session::{Config, Session};
use analyzer::table::Value;
use testkit::scenario::Scenario;

/// A machine's raw image and how to analyse it.
struct Machine {
    image: PathBuf,
    /// Addresses of pages that hold something.
    pages: Vec<u64>,
    repository: String,
    system: System,
    /// Command lines to choose from.
    commands: Vec<Vec<&'static str>>,
}

/// Takes rows and forgets them.
struct Nowhere;

impl Sink for Nowhere {
    fn row(&mut self, _depth: u16, _values: &[Value]) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs one command of Windows over changed memory of a made Windows 7. Needs the real profile of the test data.
pub fn windows(data: &[u8]) {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    run(MACHINE.get_or_init(made_windows), data);
}

/// Runs one command over a made Windows 10 whose compressed store was changed. Needs the real symbols of the test data.
pub fn store(data: &[u8]) {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    run(MACHINE.get_or_init(made_store), data);
}

/// Runs one command of Linux over changed memory of the committed sample.
pub fn linux(data: &[u8]) {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    run(MACHINE.get_or_init(sample_of_linux), data);
}

fn made_windows() -> Machine {
    let system = testkit::profiles::windows_7().expect("the profile of Windows 7 in the test data");
    let image = scratch("windows.raw");
    Scenario::office(&system).build(system).snapshot.write_raw(&image).expect("a file");
    let repository = testkit::profiles::data().expect("test data").join("rekall");
    machine(image, repository, System::Windows, all(System::Windows))
}

fn made_store() -> Machine {
    let system = testkit::profiles::windows_10().expect("the symbols of Windows 10 in the test data");
    let pages: Vec<Vec<u8>> = (0..66u8)
        .map(|number| match number % 3 {
            0 => vec![number; 4096],
            1 => (0..4096u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
            _ => (0..4096u32).map(|at| (at / 9) as u8 ^ number).collect(),
        })
        .collect();
    let scenario = Scenario::office(&system).with_compressed(19041, 1888, 0x100_0000, &pages);
    let (image, repository) = (scratch("store.raw"), scratch("store"));
    let profile = repository.join("v1.0/nt/GUID").join(&system.pdb.guid_age);
    std::fs::create_dir_all(profile.parent().expect("a folder")).expect("a folder");
    let document = system.layouts.profile().to_document().expect("a readable profile");
    std::fs::write(&profile, document.to_canonical_json()).expect("a file");
    let snapshot = scenario.build(system).snapshot;
    snapshot.write_raw(&image).expect("a file");
    let commands = vec![
        vec!["vaddump", "1888", "--offset", "0x1000000"],
        vec!["vadmap", "1888", "--start", "0x1000000"],
        vec!["vtop", "0x1000000", "1888"],
        vec!["pagefiles"],
    ];
    Machine { pages: snapshot.store_pages(), ..machine(image, repository, System::Windows, commands) }
}

/// Every command of a system, without arguments.
fn all(system: System) -> Vec<Vec<&'static str>> {
    let commands = ALL.iter().filter(|command| command.active().system() == Some(system));
    commands.map(|command| vec![command.name()]).collect()
}

fn sample_of_linux() -> Machine {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
    let session = Session::new(Config {
        filename: Some(tests.join("images/linux-6.1-sample.lime.zst")),
        ..Config::default()
    });
    let sample = &session.image().expect("the sample").space;
    let image = scratch("linux.raw");
    let file = File::create(&image).expect("a file");
    file.set_len(sample.end()).expect("a hole");
    let mut page = vec![0; 4096];
    for run in sample.runs(0, u64::MAX) {
        for at in (run.start..run.end()).step_by(4096) {
            sample.read_padded(at, &mut page);
            if page.iter().any(|byte| *byte != 0) {
                file.write_all_at(&page, at).expect("room for a page");
            }
        }
    }
    machine(image, tests.join("../repository/bundled"), System::Linux, all(System::Linux))
}

/// A file of this process in memory, so that runs cost no disk.
fn scratch(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(format!("rekal-fuzz-{}-{name}", std::process::id()))
}

fn machine(
    image: PathBuf,
    repository: PathBuf,
    system: System,
    commands: Vec<Vec<&'static str>>,
) -> Machine {
    let mut file = File::open(&image).expect("a file");
    let (mut pages, mut at, mut page) = (Vec::new(), 0, vec![0; 4096]);
    while file.read_exact(&mut page).is_ok() {
        if page.iter().any(|byte| *byte != 0) {
            pages.push(at);
        }
        at += 4096;
    }
    assert!(pages.len() > 100 && read(&image).is_ok(), "an image");
    Machine { image, pages, repository: repository.to_string_lossy().into_owned(), system, commands }
}

/// The first byte chooses the command. Each further nine bytes change a word: four choose it, five what it becomes, most
/// often the word of another place, so that structures lead on.
fn run(machine: &Machine, data: &[u8]) {
    let Some((&command, changes)) = data.split_first() else { return };
    let file = File::options().read(true).write(true).open(&machine.image).expect("the image");
    let word = |at: u64| {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, at).expect("inside the image");
        word
    };
    let place = |choice: &[u8]| {
        let choice = u32::from_le_bytes(choice.try_into().expect("four bytes"));
        let page = machine.pages[(choice >> 9) as usize % machine.pages.len()];
        page + u64::from(choice & 0x1ff) * 8
    };
    let mut undo = Vec::new();
    for change in changes.chunks_exact(9).take(64) {
        let at = place(&change[..4]);
        let new = match change[4] {
            0 => u64::from(change[5]).to_le_bytes(),
            1 => [0xff; 8],
            2 => (u64::from_le_bytes(word(at)) ^ 1 << (change[5] % 64)).to_le_bytes(),
            _ => word(place(&change[5..])),
        };
        undo.push((at, word(at)));
        file.write_all_at(&new, at).expect("inside the image");
    }
    let words = &machine.commands[usize::from(command) % machine.commands.len()];
    let command = ALL
        .iter()
        .find(|command| command.name() == words[0] && command.active().system() == Some(machine.system))
        .expect("a command");
    let session = Session::new(Config {
        filename: Some(machine.image.clone()),
        repository_path: vec![machine.repository.clone()],
        offline: true,
        output_dir: Some(scratch("dumped")),
        overwrite: true,
        ..Config::default()
    });
    let matches = command.command().try_get_matches_from(words);
    if let Ok(matches) = matches {
        let _ = command.run(&session, &matches, &mut Nowhere);
    }
    for (at, old) in undo.into_iter().rev() {
        file.write_all_at(&old, at).expect("inside the image");
    }
}
