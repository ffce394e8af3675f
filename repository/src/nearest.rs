//! Profiles of kernels near to one that no repository has: other builds of the same series.

use profile::names::ProfileName;

use crate::directory::{is_kernel, may_be_linux};
use crate::search_path::SearchPath;

/// What of a release says how far two kernels are apart: `5.10.0-43-cloud-amd64` is series 5.10, then 0 and 43, of a flavour.
#[derive(Debug, PartialEq, Eq)]
struct Release<'r> {
    series: [u32; 2],
    build: [u32; 2],
    flavour: &'r str,
}

impl<'r> Release<'r> {
    fn parse(text: &'r str) -> Option<Self> {
        let mut numbers = [0; 4];
        let mut rest = text;
        for (at, slot) in numbers.iter_mut().enumerate() {
            let digits = rest.trim_start_matches(['.', '-']);
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            match digits.get(..end).and_then(|digits| digits.parse().ok()) {
                Some(number) => *slot = number,
                None if at < 2 => return None,
                None => break,
            }
            rest = digits.get(end..).unwrap_or_default();
        }
        let [major, minor, patch, build] = numbers;
        Some(Self {
            series: [major, minor],
            build: [patch, build],
            flavour: rest.trim_start_matches(['.', '-', '+']),
        })
    }
}

impl SearchPath {
    /// Names of profiles of the same series (the first two numbers) as a release, the nearest first: of the same flavour, then by the
    /// other numbers. At most `most`; none where no inventory lists any.
    pub fn near_linux(&self, release: &str, most: usize) -> Vec<ProfileName> {
        let Some(wanted) = Release::parse(release) else { return Vec::new() };
        let mut found = Vec::new();
        for inventory in self.sources().filter_map(|source| source.inventory().ok()) {
            for (name, entry) in
                inventory.entries.iter().filter(|(name, entry)| may_be_linux(name) && is_kernel(entry))
            {
                let last = name.as_str().rsplit('/').next();
                let Some(release) = entry.release().or(last).and_then(Release::parse) else { continue };
                if release.series == wanted.series {
                    let apart = |at: usize| {
                        release.build.get(at).zip(wanted.build.get(at)).map(|(a, b)| a.abs_diff(*b))
                    };
                    found.push(((release.flavour != wanted.flavour, apart(0), apart(1)), name.clone()));
                }
            }
        }
        found.sort();
        found.dedup();
        found.into_iter().map(|(_, name)| name).take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions() {
        let of = |text| Release::parse(text).map(|release| (release.series, release.build, release.flavour));
        assert_eq!(of("5.10.0-43-cloud-amd64"), Some(([5, 10], [0, 43], "cloud-amd64")));
        assert_eq!(of("6.12.118+deb13-cloud-amd64"), Some(([6, 12], [118, 0], "deb13-cloud-amd64")));
        assert_eq!(of("4.18.0-553.el8_10.x86_64"), Some(([4, 18], [0, 553], "el8_10.x86_64")));
        assert_eq!(of("624a8b769bdf"), None);
    }

    #[test]
    fn the_nearest_comes_first_and_other_series_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let config = crate::Config {
            entries: vec![directory.path().display().to_string()],
            ..crate::Config::default()
        };
        std::fs::create_dir_all(directory.path().join(crate::LAYOUT)).unwrap();
        let path = SearchPath::open(&config).unwrap();
        for release in
            ["5.10.0-30-cloud-amd64", "5.10.0-46-amd64", "5.10.0-46-cloud-amd64", "6.1.0-43-cloud-amd64"]
        {
            let mut document = profile::Document::default();
            document.set("Type", "Profile");
            document.set("ProfileClass", "Linux");
            document.set("Release", release);
            path.store(&ProfileName::new(&format!("Linux/{release}")).unwrap(), &document).unwrap();
        }
        let path = SearchPath::open(&config).unwrap();
        let near: Vec<String> =
            path.near_linux("5.10.0-43-cloud-amd64", 8).iter().map(ToString::to_string).collect();
        assert_eq!(
            near,
            ["Linux/5.10.0-46-cloud-amd64", "Linux/5.10.0-30-cloud-amd64", "Linux/5.10.0-46-amd64"]
        );
    }
}
