//! Symlinks in trees of both layouts: `v1.0/nt/GUID/<GUID><AGE>` and the older `ntoskrnl.exe/AMD64/<version>/<GUID>`.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::fs;
use std::path::Path;

use repository::{Config, LoadFailure, SearchPath};

const MODERN: &str = "nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942";
const OLD: &str = "ntoskrnl.exe/AMD64/6.1.7600.17273/2C39F687423840E793308F28C4FDE0CD2";

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn link(target: &str) -> String {
    format!("{{\"$METADATA\": {{\"Type\": \"Symlink\", \"Target\": \"{target}\"}}}}")
}

fn open(roots: &[&Path]) -> SearchPath {
    let entries = roots.iter().map(|root| root.to_str().unwrap().to_owned()).collect();
    SearchPath::open(&Config { entries, ..Config::default() }).unwrap()
}

/// A tree of either layout with a profile and symlinks, good and bad.
fn tree(root: &Path, profile: &str) {
    write(root, profile, "{\"$METADATA\": {\"Type\": \"Profile\"}}");
    for (name, target) in [
        ("WinXPSP1x86", profile),
        ("Latest", "WinXPSP1x86"),
        ("Dangling", "nt/GUID/00000000000000000000000000000001"),
        ("Loop", "Pool"),
        ("Pool", "Loop"),
        ("Outside", "../../etc/passwd"),
    ] {
        write(root, name, &link(target));
    }
}

#[test]
fn short_names_lead_to_profiles_in_both_layouts() {
    for (layout, profile) in [("v1.0", MODERN), ("", OLD), ("v1.0", OLD)] {
        let folder = tempfile::tempdir().unwrap();
        tree(&folder.path().join(layout), profile);
        let path = open(&[folder.path()]);
        for (name, chain) in [("WinXPSP1x86", 1), ("Latest", 2), (profile, 0)] {
            let loaded = path.load(name).unwrap();
            assert_eq!((loaded.name.as_str(), loaded.chain.len()), (profile, chain), "{layout:?} {name}");
        }
        let links = path.symlinks().unwrap();
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["Dangling", "Latest", "Loop", "Outside", "Pool", "WinXPSP1x86"]);
        let resolved: Vec<_> = links.iter().map(|link| link.resolved.clone()).collect();
        let profile = Ok(profile.to_owned());
        assert_eq!(resolved[0], Err(LoadFailure::NotFound));
        assert_eq!(resolved[1], profile);
        assert_eq!(resolved[2], Err(LoadFailure::Loop));
        assert!(matches!(resolved[3], Err(LoadFailure::Target(_))));
        assert_eq!(resolved[4], Err(LoadFailure::Loop));
        assert_eq!(resolved[5], profile);
    }
}

#[test]
fn a_symlink_may_lead_into_another_repository() {
    let (links, profiles) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(&links.path().join("v1.0"), "Win7SP1x64", &link(OLD));
    write(profiles.path(), &format!("{OLD}.json"), "not asked for");
    write(profiles.path(), OLD, "{\"$METADATA\": {\"Type\": \"Profile\"}}");
    assert_eq!(open(&[links.path()]).symlinks().unwrap()[0].resolved, Err(LoadFailure::NotFound));
    let both = open(&[links.path(), profiles.path()]).symlinks().unwrap();
    assert_eq!((both.len(), both[0].resolved.clone()), (1, Ok(OLD.to_owned())));
}
