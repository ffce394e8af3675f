//! Writes an image of a machine, for a look at it with other tools:
//! `make_image trial|xp|win7|win10|win11 raw|crash|bitmap|kernel|elf|vmware|vmsn|hiber OUT [MIB]`.
//!
//! With a size a raw image is made as long, for measuring: behind the machine's memory are pages of noise and of zeros in turn.
//! `make_image win10 repository OUT` writes the repository that the image needs.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use testkit::scenario::Scenario;
use testkit::{CrashDump, Snapshot, System, profiles, win7_trial};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, system, format, out, size @ ..] = arguments.as_slice() else {
        return Err(io::Error::other("usage: make_image SYSTEM FORMAT OUT [MIB]"));
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
        "raw" => {
            snapshot.write_raw(out)?;
            let size = size.first().map_or(Ok(0), |text| text.parse::<u64>());
            lengthen(out, size.map_err(io::Error::other)? << 20)
        }
        "repository" => repository(&snapshot.machine.system, out),
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

/// Makes an image as long as `size` bytes, where it is shorter: 64 MiB of noise and zeros, page by page, over and over.
fn lengthen(image: &Path, size: u64) -> io::Result<()> {
    let mut file = File::options().write(true).open(image)?;
    let mut at = file.seek(SeekFrom::End(0))?;
    let mut noise = 0x9E37_79B9_7F4A_7C15u64;
    let mut block = Vec::with_capacity(64 << 20);
    for word in 0..(64u64 << 20) / 8 {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        block.extend(if word / 512 % 2 == 0 { noise } else { 0 }.to_le_bytes());
    }
    while at < size {
        let now = io::copy(&mut block.as_slice().take(size - at), &mut file)?;
        at += now;
    }
    Ok(())
}

/// Writes the profiles of a system's kernel and network driver as a repository has them.
fn repository(system: &System, out: &Path) -> io::Result<()> {
    let mut profiles = vec![("nt", &system.pdb.guid_age, system.layouts.profile())];
    profiles.extend(system.tcpip.iter().map(|tcpip| ("tcpip", &tcpip.pdb.guid_age, &tcpip.profile)));
    for (module, name, profile) in profiles {
        let folder = out.join("v1.0").join(module).join("GUID");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(
            folder.join(name),
            profile.to_document().map_err(io::Error::other)?.to_canonical_json(),
        )?;
    }
    Ok(())
}
