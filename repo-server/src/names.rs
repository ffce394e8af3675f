//! Names of symbol files: `<pdb>/<GUIDAGE>` on symbol servers, `<module>/GUID/<GUIDAGE>` in repositories.

use std::fmt;

use profile::names::ProfileName;

/// PDBs of the kernel, all of which are the module `nt`, in the order they are tried.
const KERNELS: [&str; 4] = ["ntkrnlmp.pdb", "ntkrnlpa.pdb", "ntkrpamp.pdb", "ntoskrnl.pdb"];

/// GUID of 32 hex digits and age of 1 to 8, in upper case; never the GUID of zeros that broken files have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GuidAge(String);

impl GuidAge {
    pub(crate) fn new(text: &str) -> Option<Self> {
        let fits = (33..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let guid = text.get(..32)?;
        (fits && guid.bytes().any(|byte| byte != b'0')).then(|| Self(text.to_ascii_uppercase()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GuidAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// File name of a PDB in lower case: letters, digits, `_`, `-`, `+` and dots, ending in `.pdb`.
pub(crate) fn pdb_name(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.');
    let fits = text.len() <= 128 && text.bytes().all(plain) && !text.starts_with('.');
    let name = text.to_ascii_lowercase();
    (fits && name.len() > 4 && name.ends_with(".pdb")).then_some(name)
}

/// A profile that can be made from a PDB.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Symbol {
    /// Folder in the repository: `nt`, `tcpip`.
    pub(crate) module: String,
    pub(crate) id: GuidAge,
    profile: ProfileName,
}

impl Symbol {
    /// From `<module>/GUID/<GUIDAGE>`; `None` where the name has another form.
    pub(crate) fn of_profile(name: &ProfileName) -> Option<Self> {
        let mut parts = name.as_str().split('/');
        let (module, guid, id) = (parts.next()?, parts.next()?, parts.next()?);
        if guid != "GUID" || parts.next().is_some() {
            return None;
        }
        let module = pdb_name(&format!("{module}.pdb"))?.strip_suffix(".pdb")?.to_owned();
        let id = GuidAge::new(id)?;
        let profile = ProfileName::new(&format!("{module}/GUID/{id}")).ok()?;
        Some(Self { module, id, profile })
    }

    /// Name of the profile, in the one spelling it is stored under.
    pub(crate) fn profile(&self) -> &ProfileName {
        &self.profile
    }

    /// The PDBs it may be made from, most likely first.
    pub(crate) fn pdbs(&self) -> Vec<String> {
        match self.module.as_str() {
            "nt" => KERNELS.map(str::to_owned).to_vec(),
            module => vec![format!("{module}.pdb")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "F8E2A8B5C9B74BF4A6E4A48F180099942";

    #[test]
    fn names_of_profiles_lead_to_pdbs() {
        let of = |name: &str| Symbol::of_profile(&ProfileName::new(name).expect("a name"));
        let symbol = of(&format!("nt/GUID/{}", ID.to_lowercase())).expect("a symbol");
        assert_eq!(symbol.profile().as_str(), format!("nt/GUID/{ID}"));
        assert_eq!(symbol.pdbs()[0], "ntkrnlmp.pdb");
        assert_eq!(of(&format!("TCPIP/GUID/{ID}")).expect("a symbol").pdbs(), ["tcpip.pdb"]);
        for bad in [
            "nt/GUID/F8E2",
            "nt/guid/F8E2A8B5C9B74BF4A6E4A48F180099942",
            "nt/GUID/000000000000000000000000000000001",
            "nt/GUID/F8E2A8B5C9B74BF4A6E4A48F18009994G",
            "nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942/x",
            "a b/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942",
            ".x/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_of_pdbs_are_plain() {
        assert_eq!(pdb_name("NtKrnlMp.PDB").as_deref(), Some("ntkrnlmp.pdb"));
        for bad in ["", ".pdb", "a", "../x.pdb", "a/b.pdb", "a%2fb.pdb", "x.exe", ".x.pdb", "é.pdb"] {
            assert_eq!(pdb_name(bad), None, "{bad}");
        }
    }
}
