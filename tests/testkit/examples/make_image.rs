//! Writes an image of a machine, for a look at it with other tools:
//! `make_image trial|xp|win7|win10|win11 raw|crash|bitmap|kernel|elf|vmware|vmsn|hiber OUT`.

use std::io;
use std::path::Path;

use testkit::scenario::Scenario;
use testkit::{CrashDump, Snapshot, System, profiles, win7_trial};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, system, format, out] = arguments.as_slice() else {
        return Err(io::Error::other("usage: make_image SYSTEM FORMAT OUT"));
    };
    let snapshot = match system.as_str() {
        "trial" => win7_trial::snapshot(),
        "xp" => Some(office(profiles::windows_xp_pae())),
        "win7" => profiles::windows_7().map(office),
        "win10" => profiles::windows_10().map(office),
        "win11" => profiles::windows_11().map(office),
        _ => None,
    };
    let Some(snapshot) = snapshot else {
        return Err(io::Error::other("no such system, or no profile for it"));
    };
    let out = Path::new(out);
    match format.as_str() {
        "raw" => snapshot.write_raw(out),
        "crash" => snapshot.write_crash_dump(out, CrashDump::Full),
        "bitmap" => snapshot.write_crash_dump(out, CrashDump::Bitmap),
        "kernel" => snapshot.write_crash_dump(out, CrashDump::Kernel),
        "elf" => snapshot.write_elf_core(out),
        "vmware" => snapshot.write_vmware(&out.with_extension("vmem"), &out.with_extension("vmss")),
        "vmsn" => snapshot.write_vmsn(out),
        "hiber" => snapshot.write_hiberfil(out),
        _ => Err(io::Error::other("no such format")),
    }
}

fn office(system: System) -> Snapshot {
    Scenario::office(&system).build(system).snapshot
}
