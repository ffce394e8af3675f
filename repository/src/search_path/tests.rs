use std::fs;
use std::io::Write as _;

use profile::names::{BuildId, ProfileName};
use zip::write::SimpleFileOptions;

use super::*;
use crate::{Candidate, Inventory, LinuxEvidence, Reason, build_inventory};

const ID: &str = "3b43fad5034874490492495d552c0af6a5fab235";
const BANNER: &str = "Linux version 6.1.0-56-cloud-amd64 (builder@host) #1 SMP Debian 6.1.170-1";

fn name(text: &str) -> ProfileName {
    ProfileName::new(text).expect("a valid name")
}

fn kernel(version: &str) -> Document {
    let mut document = Document::default();
    document.set("Type", "Profile");
    document.set("ProfileClass", "Linux");
    document.set("Version", 1);
    document.constants.insert(version.to_owned(), 1);
    document
}

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(path, bytes).expect("a file");
}

fn gz(document: &Document) -> Vec<u8> {
    profile::gzip(document.to_canonical_json().as_bytes())
}

fn open(entries: &[&Path]) -> SearchPath {
    let entries = entries.iter().map(|path| path.display().to_string()).collect();
    SearchPath::open(&Config { entries, ..Config::default() }).expect("a search path")
}

fn answers(trace: &[Asked]) -> Vec<(&str, &Answer)> {
    trace.iter().map(|asked| (asked.name.as_str(), &asked.answer)).collect()
}

#[test]
fn the_first_repository_that_has_a_name_wins() {
    let (first, second) = (tempfile::tempdir().expect("scratch"), tempfile::tempdir().expect("scratch"));
    write(second.path(), "v1.0/Linux/a.gz", &gz(&kernel("second")));
    let path = open(&[first.path(), second.path()]);
    let loaded = path.load("Linux/a").expect("the second has it");
    assert_eq!(loaded.profile.symbol("second"), Some(1));
    assert_eq!(loaded.chain, Vec::<String>::new());
    let given = answers(&loaded.trace);
    assert_eq!(
        given,
        [("Linux/a", &Answer::NotFound), ("Linux/a", &Answer::NotFound), ("Linux/a", &Answer::Found)]
    );

    write(first.path(), "v1.0/Linux/a", kernel("first").to_canonical_json().as_bytes());
    let path = open(&[first.path(), second.path()]);
    let loaded = path.load("Linux\\a").expect("the first has it");
    assert_eq!(loaded.profile.symbol("first"), Some(1));
    assert!(loaded.source.ends_with("v1.0/Linux/a"), "{}", loaded.source);
}

#[test]
fn a_tree_without_version_directory_is_a_repository() {
    let root = tempfile::tempdir().expect("scratch");
    write(root.path(), "Linux/a.gz", &gz(&kernel("a")));
    assert_eq!(open(&[root.path()]).load("Linux/a").expect("found").name, "Linux/a");
}

#[test]
fn local_files_come_first_plain_then_compressed() {
    let root = tempfile::tempdir().expect("scratch");
    write(root.path(), "x.json", kernel("plain").to_canonical_json().as_bytes());
    write(root.path(), "y.json.gz", &gz(&kernel("compressed")));
    let path = open(&[]);
    let file = |file: &str| root.path().join(file).display().to_string();
    assert_eq!(path.load(&file("x.json")).expect("a file").profile.symbol("plain"), Some(1));
    assert_eq!(path.load(&file("y.json")).expect("a file").profile.symbol("compressed"), Some(1));
    let missing = path.load(&file("z.json")).expect_err("no such file");
    assert!(matches!(missing.failure, LoadFailure::Name(NameError::Escapes(_))), "{missing}");
    write(root.path(), "bad.json", b"{\"$METADATA\"");
    let bad = path.load(&file("bad.json")).expect_err("half a profile");
    assert!(matches!(bad.failure, LoadFailure::Damaged(_)), "{bad}");
    // A directory of the name is no profile.
    assert!(path.load(&root.path().display().to_string()).is_err());
}

#[test]
fn symlinks_go_through_the_whole_path_again() {
    let (first, second) = (tempfile::tempdir().expect("scratch"), tempfile::tempdir().expect("scratch"));
    write(second.path(), "v1.0/Short.gz", &gz(&Document::symlink("Middle")));
    write(first.path(), "v1.0/Middle.gz", &gz(&Document::symlink("Linux/a")));
    write(second.path(), "v1.0/Linux/a.gz", &gz(&kernel("a")));
    let loaded = open(&[first.path(), second.path()]).load("Short").expect("two hops");
    assert_eq!(loaded.name, "Linux/a");
    assert_eq!(loaded.chain, ["Short", "Middle"]);
}

#[test]
fn symlink_loops_and_long_chains_name_the_chain() {
    let root = tempfile::tempdir().expect("scratch");
    write(root.path(), "v1.0/a.gz", &gz(&Document::symlink("b")));
    write(root.path(), "v1.0/b.gz", &gz(&Document::symlink("a")));
    for i in 0..20 {
        write(root.path(), &format!("v1.0/n{i}"), &gz(&Document::symlink(&format!("n{}", i + 1))));
    }
    write(root.path(), "v1.0/out", &gz(&Document::symlink("../../etc/passwd")));
    write(root.path(), "v1.0/nowhere", &gz(&Document::symlink("gone")));
    let path = open(&[root.path()]);
    let error = path.load("a").expect_err("a loop");
    assert_eq!(error.to_string(), "symlinks form a loop: a -> b -> a");
    let error = path.load("n0").expect_err("a long chain");
    assert_eq!(error.failure, LoadFailure::TooManySymlinks(8));
    assert_eq!(error.chain.len(), 9);
    let error = path.load("out").expect_err("a target outside");
    assert!(matches!(error.failure, LoadFailure::Target(_)), "{error}");
    let error = path.load("nowhere").expect_err("a dangling symlink");
    assert_eq!(error.to_string(), "profile not found in any repository: gone (by way of nowhere)");
}

#[test]
fn a_repository_s_symlink_does_not_choose_local_files() {
    let root = tempfile::tempdir().expect("scratch");
    // `Cargo.toml` exists in the current directory of this test.
    write(root.path(), "v1.0/a", &gz(&Document::symlink("Cargo.toml")));
    let error = open(&[root.path()]).load("a").expect_err("no profile of that name");
    assert_eq!(error.failure, LoadFailure::NotFound);
}

#[test]
fn a_damaged_copy_does_not_hide_a_good_one() {
    let (first, second) = (tempfile::tempdir().expect("scratch"), tempfile::tempdir().expect("scratch"));
    let whole = gz(&kernel("a"));
    write(first.path(), "v1.0/Linux/a.gz", &whole[..whole.len() / 2]);
    let path = open(&[first.path()]);
    let error = path.load("Linux/a").expect_err("half a file");
    assert!(matches!(error.failure, LoadFailure::Damaged(_)), "{error}");
    write(second.path(), "v1.0/Linux/a.gz", &whole);
    let loaded = open(&[first.path(), second.path()]).load("Linux/a").expect("the second is whole");
    assert!(matches!(loaded.trace[1].answer, Answer::Damaged(_)));
}

#[test]
fn a_bad_entry_is_remembered_not_fatal() {
    let root = tempfile::tempdir().expect("scratch");
    write(root.path(), "v1.0/Linux/a.gz", &gz(&kernel("a")));
    write(root.path(), "not.zip", b"this is no archive");
    let path = open(&[Path::new("/does/not/exist"), &root.path().join("not.zip"), root.path()]);
    let loaded = path.load("Linux/a").expect("the third has it");
    assert_eq!(loaded.trace[1].answer, Answer::Refused("no such file or directory".to_owned()));
    assert!(
        matches!(&loaded.trace[2].answer, Answer::Refused(reason) if reason.starts_with("not a zip archive"))
    );
    assert_eq!(path.asked(), loaded.trace);
}

#[cfg(unix)]
#[test]
fn symbolic_links_that_leave_the_root_are_refused() {
    let (root, outside) = (tempfile::tempdir().expect("scratch"), tempfile::tempdir().expect("scratch"));
    write(outside.path(), "secret.gz", &gz(&kernel("a")));
    fs::create_dir_all(root.path().join("v1.0")).expect("a directory");
    let link = |to: &Path, at: &str| std::os::unix::fs::symlink(to, root.path().join(at)).expect("a link");
    link(&outside.path().join("secret.gz"), "v1.0/a.gz");
    link(outside.path(), "v1.0/dir");
    link(Path::new("self.gz"), "v1.0/self.gz");
    let path = open(&[root.path()]);
    for escaping in ["a", "dir/secret"] {
        let error = path.load(escaping).expect_err("outside");
        let refused = Answer::Refused("a symbolic link leaves the repository".to_owned());
        assert_eq!(error.trace[1].answer, refused, "{escaping}");
    }
    let error = path.load("self").expect_err("a link to itself");
    assert!(matches!(error.trace[1].answer, Answer::Refused(_)));
    let error = path.store(&name("dir/new"), &kernel("x")).expect_err("storing outside");
    assert!(error.to_string().contains("leaves the repository"), "{error}");
    assert!(!outside.path().join("new.gz").exists());
}

#[test]
fn zip_members_are_found_with_and_without_version_directory() {
    let root = tempfile::tempdir().expect("scratch");
    let archive = root.path().join("profiles.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&archive).expect("a file"));
    let mut add = |path: &str, bytes: &[u8]| {
        zip.start_file(path, SimpleFileOptions::default()).expect("a member");
        zip.write_all(bytes).expect("bytes");
    };
    add("rekall-profiles-master/v1.0/Linux/a.gz", &gz(&kernel("a")));
    add("v1.0/Linux/b", kernel("b").to_canonical_json().as_bytes());
    add("c.gz", &gz(&kernel("c")));
    add("../../../etc/evil.gz", &gz(&kernel("evil")));
    add("/abs.gz", &gz(&kernel("abs")));
    add("v1.0/Linux/bomb.gz", &profile::gzip(&vec![b' '; 1 << 20]));
    zip.finish().expect("an archive");
    let limits = Limits { max_text: 100_000, ..Limits::default() };
    let config = Config { entries: vec![archive.display().to_string()], limits, ..Config::default() };
    let path = SearchPath::open(&config).expect("a search path");
    for (wanted, symbol) in [("Linux/a", "a"), ("Linux/b", "b"), ("c", "c")] {
        assert_eq!(path.load(wanted).expect(wanted).profile.symbol(symbol), Some(1));
    }
    let error = path.load("Linux/bomb").expect_err("too large");
    assert_eq!(
        error.failure,
        LoadFailure::Damaged("profile is larger than the limit of 100000 bytes".to_owned())
    );
    for outside in ["etc/evil", "abs"] {
        assert!(path.load(outside).is_err(), "{outside}");
    }
}

#[test]
fn storing_writes_canonical_gzip_and_the_inventory() {
    let root = tempfile::tempdir().expect("scratch");
    let path = open(&[Path::new("/does/not/exist"), root.path()]);
    let document = kernel("stored");
    let file = path.store(&name("Linux/new"), &document).expect("stored");
    assert_eq!(file, fs::canonicalize(root.path()).expect("root").join("v1.0/Linux/new.gz"));
    assert_eq!(fs::read(&file).expect("the file"), gz(&document));
    path.make_symlink(&name("Short"), &name("Linux/new")).expect("a symlink");
    assert!(path.make_symlink(&name("Short"), &name("Short")).is_err());
    assert_eq!(path.load("Short").expect("by symlink").name, "Linux/new");

    let bytes = fs::read(root.path().join("v1.0/inventory.gz")).expect("an inventory");
    let inventory = Inventory::parse(&bytes, 1 << 20).expect("a valid inventory");
    let entry = inventory.get(&name("Linux/new")).expect("listed");
    assert_eq!(entry.sha256(), Some(document.content_hash().as_str()));
    assert!(entry.last_modified > 1.0e9);
    assert_eq!(inventory.get(&name("Short")).and_then(|entry| entry.text("Target")), Some("Linux/new"));
    // What is stored is not hidden by an older plain file, and nothing temporary is left.
    write(root.path(), "v1.0/Linux/new", kernel("old").to_canonical_json().as_bytes());
    path.store(&name("Linux/new"), &document).expect("stored again");
    assert_eq!(path.load("Linux/new").expect("found").profile.symbol("stored"), Some(1));
    let files: Vec<_> =
        fs::read_dir(root.path().join("v1.0/Linux")).expect("a directory").flatten().collect();
    assert_eq!(files.len(), 1);
}

#[test]
fn without_a_writable_directory_the_cache_directory_is_used() {
    let cache = tempfile::tempdir().expect("scratch");
    let cache_dir = Some(cache.path().join("cache"));
    let config = Config { cache_dir, ..Config::default() };
    let stored = SearchPath::open(&config).expect("a search path").store(&name("a"), &kernel("a"));
    assert!(stored.expect("stored").ends_with("cache/v1.0/a.gz"));
    let loaded = SearchPath::open(&config).expect("a search path").load("a");
    assert_eq!(loaded.expect("found again").profile.symbol("a"), Some(1));
    let error = open(&[]).store(&name("a"), &kernel("a")).expect_err("nowhere to go");
    assert!(matches!(error, StoreError::Nowhere(_)));
}

#[test]
fn reserved_names_are_not_stored() {
    let root = tempfile::tempdir().expect("scratch");
    for reserved in ["inventory", ".hidden", "Linux/.git/config"] {
        let error = open(&[root.path()]).store(&name(reserved), &kernel("x")).expect_err(reserved);
        assert!(error.to_string().contains("reserved name"), "{error}");
    }
}

#[test]
fn many_writers_lose_no_inventory_entry() {
    let root = tempfile::tempdir().expect("scratch");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let root = root.path();
            scope.spawn(move || {
                for i in 0..5 {
                    open(&[root]).store(&name(&format!("Linux/{thread}-{i}")), &kernel("x")).expect("stored");
                }
            });
        }
    });
    let bytes = fs::read(root.path().join("v1.0/inventory.gz")).expect("an inventory");
    assert_eq!(Inventory::parse(&bytes, 1 << 20).expect("valid").entries.len(), 20);
}

fn recorded(id: Option<&str>, banner: Option<&str>) -> Document {
    let mut document = kernel("k");
    if let Some(id) = id {
        document.set("BuildID", id);
    }
    if let Some(banner) = banner {
        document.set("Banner", banner);
    }
    document
}

fn found(path: &SearchPath, evidence: &LinuxEvidence) -> Vec<(String, Reason)> {
    let candidates = path.find_linux(evidence).unwrap_or_default();
    candidates.into_iter().map(|Candidate { name, reason, .. }| (name.to_string(), reason)).collect()
}

#[test]
fn kernels_are_found_by_build_id_then_banner_then_release() {
    let (first, second) = (tempfile::tempdir().expect("scratch"), tempfile::tempdir().expect("scratch"));
    let release = "6.1.0-56-cloud-amd64";
    write(first.path(), &format!("v1.0/Debian/{release}.gz"), &gz(&kernel("k")));
    write(first.path(), &format!("v1.0/Linux/{release}-dbg/x.gz"), &gz(&kernel("k")));
    write(first.path(), &format!("v1.0/nt/{release}.gz"), &gz(&kernel("not a Linux folder")));
    write(first.path(), "v1.0/Linux/16.1.0-56-cloud-amd64.gz", &gz(&kernel("another release")));
    write(second.path(), "v1.0/Linux/by-banner.gz", &gz(&recorded(None, Some(&format!("{BANNER}\n")))));
    let other_id = "00".repeat(20);
    write(second.path(), &format!("v1.0/Linux/{release}.gz"), &gz(&recorded(Some(&other_id), None)));
    // Another build of the same release, under its build-id and by a symlink to that: no candidates either.
    write(second.path(), &format!("v1.0/Linux/BuildID/{other_id}.gz"), &gz(&recorded(None, Some(BANNER))));
    let alias = Document::symlink(&format!("Linux/BuildID/{other_id}"));
    write(second.path(), &format!("v1.0/Alias/{release}.gz"), &gz(&alias));
    let evidence = LinuxEvidence {
        build_id: BuildId::from_hex(ID),
        banner: Some(format!("{BANNER}\n\0")),
        release: None,
    };
    let by_banner = [
        ("Linux/by-banner".to_owned(), Reason::Banner),
        (format!("Debian/{release}"), Reason::Release),
        (format!("Linux/{release}-dbg/x"), Reason::ReleaseInName),
    ];
    let path = open(&[first.path(), second.path()]);
    // `Linux/<release>` is recorded for another build: no candidate.
    assert_eq!(found(&path, &evidence), by_banner);

    // The same from a stored inventory, which needs no file to be opened.
    for root in [first.path(), second.path()] {
        let built = build_inventory(root, &Limits::default()).expect("an inventory");
        assert_eq!(built.skipped, []);
    }
    let path = open(&[first.path(), second.path()]);
    assert_eq!(found(&path, &evidence), by_banner);

    // A name recorded with the build-id is better than any banner; the build-id as name ends the search.
    write(second.path(), "v1.0/Linux/named.gz", &gz(&recorded(Some(&ID.to_uppercase()), None)));
    let path = open(&[first.path(), second.path()]);
    assert_eq!(found(&path, &evidence)[0], ("Linux/named".to_owned(), Reason::BuildId));
    write(second.path(), &format!("v1.0/Linux/BuildID/{ID}.gz"), &gz(&kernel("k")));
    let path = open(&[first.path(), second.path()]);
    let by_id = [(format!("Linux/BuildID/{ID}"), Reason::BuildIdName)];
    assert_eq!(found(&path, &evidence), by_id);
}

#[test]
fn finding_nothing_tells_who_was_asked() {
    let root = tempfile::tempdir().expect("scratch");
    let evidence =
        LinuxEvidence { build_id: BuildId::from_hex(ID), banner: Some(BANNER.into()), release: None };
    let error = open(&[root.path(), Path::new("/does/not/exist")]).find_linux(&evidence).expect_err("empty");
    let message =
        format!("no profile for this kernel in any repository: build-id {ID}, release 6.1.0-56-cloud-amd64");
    assert_eq!(error.to_string(), message);
    assert_eq!(error.trace.len(), 4);
    assert_eq!(error.trace[0].answer, Answer::NotFound);
    assert_eq!(error.trace[3].answer, Answer::Refused("no such file or directory".to_owned()));
    assert!(open(&[root.path()]).find_linux(&LinuxEvidence::default()).is_err());
}

#[test]
fn built_inventories_list_documents_and_name_what_is_none() {
    let root = tempfile::tempdir().expect("scratch");
    write(root.path(), "v1.0/Linux/a.gz", &gz(&recorded(Some(ID), Some(BANNER))));
    write(root.path(), "v1.0/plain", kernel("p").to_canonical_json().as_bytes());
    write(root.path(), "v1.0/broken.gz", b"\x1f\x8bnothing");
    write(root.path(), "v1.0/src/Linux/source.gz", &gz(&kernel("x")));
    write(root.path(), "v1.0/index.yaml", b"a: b");
    write(root.path(), "v1.0/.hidden", b"{}");
    let built = build_inventory(root.path(), &Limits::default()).expect("an inventory");
    assert_eq!(built.listed, 2);
    assert_eq!(built.skipped.len(), 1);
    assert_eq!(built.skipped[0].0, "broken");
    let inventory = Inventory::parse(&fs::read(&built.path).expect("the file"), 1 << 20).expect("valid");
    let entry = inventory.get(&name("Linux/a")).expect("listed");
    assert_eq!(entry.build_id(), BuildId::from_hex(ID));
    assert_eq!(entry.text("Release"), Some("6.1.0-56-cloud-amd64"));
    assert_eq!(entry.text("ProfileClass"), Some("Linux"));
    let again = build_inventory(root.path(), &Limits::default()).expect("an inventory");
    assert_eq!(again.listed, 2);
}
