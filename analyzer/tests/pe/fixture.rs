//! Executables to test with.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use analyzer::pe::Pe;
use memory::{AddressSpace, FileSpace};

/// A library with exports of every kind, imports by name, by ordinal and delayed, uninitialised data.
const SOURCE: &str = r"
__declspec(dllimport) int Alpha(int);
__declspec(dllimport) int Beta(int);
__declspec(dllimport) int Late(int);
int _fltused = 1;
int counter = 3;
int zeros[3000];
void *__stdcall __delayLoadHelper2(void *descriptor, void **slot) { return slot; }
int One(int x) { return Alpha(x) + counter; }
int Two(int x) { return Beta(x) + zeros[x]; }
int Three(int x) { return Late(x); }
int entry(void) { return One(1) + Two(2); }
";

const EXPORTS: &str = "LIBRARY sample.dll
EXPORTS
One
Two @10
Uno=One
Hidden=Three @20 NONAME
Away=NTDLL.RtlAway
counter DATA
";

/// The version resource; [`VERSION_TEXTS`] says the same.
const RESOURCES: &str = r#"
1 VERSIONINFO
FILEVERSION 6,1,7600,17273
PRODUCTVERSION 6,1,7600,16385
FILEFLAGSMASK 0x3f
FILEFLAGS 0x1
FILEOS 0x40004
FILETYPE 0x3
BEGIN
  BLOCK "StringFileInfo"
  BEGIN
    BLOCK "040904b0"
    BEGIN
      VALUE "CompanyName", "Example Corporation"
      VALUE "FileVersion", "6.1.7600.17273 (win7_gdr.130318-1532)"
      VALUE "LegalCopyright", L"\x00a9 Example"
      VALUE "Empty", ""
    END
    BLOCK "040704b0"
    BEGIN
      VALUE "CompanyName", "Beispiel"
    END
  END
  BLOCK "VarFileInfo"
  BEGIN
    VALUE "Translation", 0x409, 1200
  END
END
7 RCDATA { "other" }
"#;

/// Language, key and value of every text in [`RESOURCES`].
pub(crate) const VERSION_TEXTS: [(&str, &str, &str); 5] = [
    ("040904b0", "CompanyName", "Example Corporation"),
    ("040904b0", "FileVersion", "6.1.7600.17273 (win7_gdr.130318-1532)"),
    ("040904b0", "LegalCopyright", "© Example"),
    ("040904b0", "Empty", ""),
    ("040704b0", "CompanyName", "Beispiel"),
];

pub(crate) fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// Runs a tool; `None` where it is not installed. A tool that fails is a failure.
fn run(folder: &Path, tool: &str, arguments: &[&str]) -> Option<()> {
    let output = Command::new(tool).args(arguments).current_dir(folder).output().ok()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{tool} {arguments:?}: {errors}");
    Some(())
}

fn build(folder: &Path) -> Option<Vec<PathBuf>> {
    for (name, text) in [
        ("sample.c", SOURCE),
        ("sample.def", EXPORTS),
        ("sample.rc", RESOURCES),
        ("now.def", "LIBRARY now.dll\nEXPORTS\nAlpha\nBeta @7 NONAME\n"),
        ("late.def", "LIBRARY late.dll\nEXPORTS\nLate\n"),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    run(folder, "llvm-rc", &["/fo", "sample.res", "sample.rc"])?;
    let mut made = Vec::new();
    for (target, machine, more) in [
        ("x86_64", "i386:x86-64", &["/timestamp:1363663926"][..]),
        ("i686", "i386", &["/timestamp:1363663926", "/base:0x10000000", "/filealign:4096"]),
    ] {
        for library in ["now", "late"] {
            let (definition, output) = (format!("{library}.def"), format!("{library}.lib"));
            run(folder, "llvm-dlltool", &["-k", "-m", machine, "-d", &definition, "-l", &output])?;
        }
        let triple = format!("--target={target}-pc-windows-msvc");
        let compile =
            [&triple, "-ffreestanding", "-O1", "-g", "-gcodeview", "-c", "sample.c", "-o", "sample.obj"];
        run(folder, "clang", &compile)?;
        let name = format!("sample-{target}.dll");
        let output = format!("/out:{name}");
        let fixed =
            ["/dll", "/debug", "/nodefaultlib", "/entry:entry", "/def:sample.def", "/delayload:late.dll"];
        let inputs =
            ["/pdbaltpath:C:\\out\\sample.pdb", &output, "sample.obj", "now.lib", "late.lib", "sample.res"];
        let link: Vec<&str> = fixed.iter().chain(&inputs).chain(more).copied().collect();
        run(folder, "lld-link", &link)?;
        made.push(folder.join(name));
    }
    Some(made)
}

/// The libraries made here, for 64 and 32 bits; empty, with a message, without the tools.
pub(crate) fn made() -> &'static [PathBuf] {
    static MADE: OnceLock<Vec<PathBuf>> = OnceLock::new();
    MADE.get_or_init(|| {
        // The folder stays for the life of the process, which nextest makes one test.
        let folder = tempfile::tempdir().unwrap().keep();
        build(&folder).unwrap_or_else(|| {
            skipped("clang, lld-link, llvm-dlltool or llvm-rc is not installed");
            Vec::new()
        })
    })
}

/// All executables there are to test with.
pub(crate) fn all() -> Vec<PathBuf> {
    let mut files = made().to_vec();
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    let data = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from);
    let folders =
        [Some(data.join("rekall-golden/inputs")), std::env::var_os("REKAL_TEST_EXECUTABLES").map(Into::into)];
    for entry in folders.iter().flatten().flat_map(|folder| fs::read_dir(folder).into_iter().flatten()) {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| ["exe", "dll", "sys"].iter().any(|known| extension == *known))
        {
            files.push(path);
        }
    }
    if files.is_empty() {
        skipped("no executables in the test data");
    }
    files
}

pub(crate) fn space(bytes: Vec<u8>) -> Arc<dyn AddressSpace> {
    Arc::new(FileSpace::from_vec(bytes))
}

pub(crate) fn open(path: &Path) -> Pe {
    let file = FileSpace::open(path, &memory::Limits::default()).unwrap();
    let file: Arc<dyn AddressSpace> = Arc::new(file);
    Pe::file(&file, 0).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}
