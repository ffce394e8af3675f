//! The systems for which profiles exist: those of the folder of real test data, and the XP profile of this crate.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use profile::isf::document_from_isf;
use profile::{Limits, Profile};

use crate::system::{Companion, Pdb, System};

/// The folder of real test data, which is not part of the project; `None`, said on standard error, where it is not there.
pub fn data() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join("data");
    let root = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from);
    if root.is_dir() {
        return Some(root);
    }
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    {
        eprintln!("skipped: no real test data in {}", root.display());
    }
    None
}

/// GUID and age of the Windows 7 x64 kernel of the real Rekall profile.
pub const WINDOWS_7: &str = "F8E2A8B5C9B74BF4A6E4A48F180099942";
/// GUID and age of the Windows 10 19041 kernel of the real symbol table.
pub const WINDOWS_10: &str = "BBED7C2955FBE4522AAA23F4B8677AD91";
/// GUID and age of the Windows 11 22000 kernel of the real symbol table.
pub const WINDOWS_11: &str = "0CE4A95C0CD782A7596B034D8648E5851";

/// GUID and age of the network driver of the real Rekall profile.
pub const TCPIP_7: &str = "934479AAD5A64C60AACA8E22BA50DDC02";
/// GUID and age of the network driver of the real symbol table.
pub const TCPIP_10: &str = "021C12B15F95E1F661DCDEEFB190095A1";
/// GUID and age of the network driver of XP, invented.
pub const TCPIP_XP: &str = "585054435049500000000000000000001";

fn companion(profile: Profile, guid_age: &str) -> Option<Companion> {
    Some(Companion { profile, pdb: Pdb::new("tcpip.pdb", guid_age) })
}

/// Windows 7 x64, from Rekall's own profile; `None` without real test data.
pub fn windows_7() -> Option<System> {
    let path = data()?.join(format!("rekall/v1.0/nt/GUID/{WINDOWS_7}.gz"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let kernel = Profile::parse(&bytes, &Limits::default()).expect("a real profile");
    let path = data()?.join(format!("rekall/v1.0/tcpip/GUID/{TCPIP_7}.gz"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tcpip = Profile::parse(&bytes, &Limits::default()).expect("a real profile");
    Some(System { tcpip: companion(tcpip, TCPIP_7), ..System::windows_7(kernel, WINDOWS_7) })
}

/// Windows 10 x64, from a Volatility symbol table; `None` without real test data.
pub fn windows_10() -> Option<System> {
    let kernel = isf("ntkrnlmp.pdb/BBED7C2955FBE4522AAA23F4B8677AD9-1")?;
    let tcpip = isf("tcpip.pdb/021C12B15F95E1F661DCDEEFB190095A-1")?;
    Some(System { tcpip: companion(tcpip, TCPIP_10), ..System::windows_10(kernel, WINDOWS_10) })
}

/// Windows 11 x64, from a Volatility symbol table; `None` without real test data.
pub fn windows_11() -> Option<System> {
    let kernel = isf("ntkrnlmp.pdb/0CE4A95C0CD782A7596B034D8648E585-1")?;
    // No symbols of its own driver are at hand; those of Windows 10 name the same variables.
    let tcpip = isf("tcpip.pdb/021C12B15F95E1F661DCDEEFB190095A-1")?;
    Some(System { tcpip: companion(tcpip, TCPIP_10), ..System::windows_11(kernel, WINDOWS_11) })
}

/// Windows XP SP3 with PAE, from the profile of this crate.
///
/// No real profile of XP is among the test data. The struct layouts are those of Microsoft's public symbols of 5.1.2600.5512; the
/// places of symbols, and with them the GUID, are invented.
pub fn windows_xp_pae() -> System {
    let profile = Profile::parse(XP, &Limits::default()).expect("a profile of this crate");
    let name = profile.metadata_str("GUID_AGE").expect("a name").to_owned();
    let tcpip = Profile::parse(TCPIP_OF_XP, &Limits::default()).expect("a profile of this crate");
    System { tcpip: companion(tcpip, TCPIP_XP), ..System::windows_xp_pae(profile, &name) }
}

/// Windows XP SP3 without PAE: the same profile with entries of 4 bytes in its page tables.
pub fn windows_xp() -> System {
    let parse = |bytes| Profile::parse(bytes, &Limits::default()).expect("a profile of this crate");
    let mut document = parse(XP).to_document().expect("a readable profile");
    document.structs.extend(parse(XP_ENTRIES).to_document().expect("a readable profile").structs);
    let guid_age = "58505350335838360000000000000000".to_owned() + "1";
    document.set("PDBFile", "ntoskrnl.pdb");
    document.set("GUID_AGE", guid_age.as_str());
    System::windows_xp(parse(document.to_canonical_json().as_bytes()), &guid_age)
}

/// What differs without PAE.
const XP_ENTRIES: &[u8] = include_bytes!("../profiles/xp_sp3_x86_entries.json");

/// The document behind [`windows_xp_pae`], for repositories.
pub const XP: &[u8] = include_bytes!("../profiles/xp_sp3_pae.json");

/// Invented places of the variables of XP's network driver that its real symbols name.
const TCPIP_OF_XP: &[u8] = include_bytes!("../profiles/xp_tcpip.json");

/// A symbol table as a profile.
fn isf(name: &str) -> Option<Profile> {
    let path = data()?.join(format!("isf/{name}.json.xz"));
    let file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    lzma_rust2::XzReader::new(file, true).read_to_string(&mut text).expect("a whole xz file");
    let document = document_from_isf(&text).expect("a real symbol table");
    let json = document.to_canonical_json();
    Some(Profile::parse(json.as_ref(), &Limits::default()).expect("a profile that was just written"))
}
