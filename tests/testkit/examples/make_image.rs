//! Writes the raw image of a small machine: `make_image trial|win7|win10|win11 OUT.raw`, for a look at it with other tools.

use std::path::Path;

use testkit::{Machine, Parameters, Process, Thread, profiles};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, system, out] = arguments.as_slice() else {
        return Err(std::io::Error::other("usage: make_image trial|win7|win10|win11 OUT.raw"));
    };
    if system == "trial" {
        let Some(snapshot) = testkit::win7_trial::snapshot() else {
            return Err(std::io::Error::other("no real test data"));
        };
        return snapshot.write_raw(Path::new(out));
    }
    let system = match system.as_str() {
        "win7" => profiles::windows_7(),
        "win10" => profiles::windows_10(),
        "win11" => profiles::windows_11(),
        _ => None,
    };
    let Some(system) = system else { return Err(std::io::Error::other("no profile for this system")) };
    let mut machine = Machine::new(system);
    let created = testkit::filetime(1_329_909_000);
    machine.process(&Process { created, ..Process::new(4, 0, "System") });
    machine.process(&Process {
        created,
        session: Some(1),
        threads: vec![Thread::default(); 3],
        parameters: Some(Parameters { command_line: "calc.exe /x".to_owned(), ..Parameters::default() }),
        ..Process::new(1234, 4, "calc.exe")
    });
    machine.finish().write_raw(Path::new(out))
}
