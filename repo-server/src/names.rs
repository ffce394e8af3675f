//! Profiles that can be made from PDBs: `<module>/GUID/<GUIDAGE>` in repositories, `<pdb>/<GUIDAGE>` on symbol servers.

use profile::names::{PdbId, ProfileName};
use profile_gen::symbol_server::PdbFile;

/// PDBs of the kernel, all of which are the module `nt`, in the order they are tried.
const KERNELS: [&str; 4] = ["ntkrnlmp.pdb", "ntkrnlpa.pdb", "ntkrpamp.pdb", "ntoskrnl.pdb"];

/// A profile that can be made from a PDB.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Symbol {
    module: String,
    id: PdbId,
    profile: ProfileName,
}

impl Symbol {
    /// From the name of a profile; `None` where it has another form. Either case will do.
    pub(crate) fn of_profile(name: &ProfileName) -> Option<Self> {
        let mut parts = name.as_str().split('/');
        let (module, guid, id) = (parts.next()?, parts.next()?, parts.next()?);
        if guid != "GUID" || parts.next().is_some() {
            return None;
        }
        let module = pdb_name(&format!("{module}.pdb"))?.strip_suffix(".pdb")?.to_owned();
        let id = guid_age(id)?;
        let profile = ProfileName::new(&format!("{module}/GUID/{id}")).ok()?;
        Some(Self { module, id, profile })
    }

    /// Folder in the repository: `nt`, `tcpip`.
    pub(crate) fn module(&self) -> &str {
        &self.module
    }

    /// GUID and age it is asked for by.
    pub(crate) fn id(&self) -> PdbId {
        self.id
    }

    /// Name of the profile, in the one spelling it is stored under.
    pub(crate) fn profile(&self) -> &ProfileName {
        &self.profile
    }

    /// The PDBs it may be made from, most likely first.
    pub(crate) fn pdbs(&self) -> Vec<PdbFile> {
        let names = pdbs_of(&self.module);
        names.iter().filter_map(|name| PdbFile::new(name, self.id).ok()).collect()
    }
}

/// The PDBs a module's profiles are made from.
pub(crate) fn pdbs_of(module: &str) -> Vec<String> {
    match module {
        "nt" => KERNELS.map(str::to_owned).to_vec(),
        module => vec![format!("{module}.pdb")],
    }
}

/// GUID and age as symbol servers write them, in either case, without dashes or zeros in front of the age; never the
/// GUID of zeros that broken files have.
pub(crate) fn guid_age(text: &str) -> Option<PdbId> {
    let id = PdbId::from_text(text)?;
    (id.guid != [0; 16] && id.to_string().eq_ignore_ascii_case(text)).then_some(id)
}

/// File name of a PDB in lower case: letters, digits, `_`, `-`, `+` and dots, ending in `.pdb`.
pub(crate) fn pdb_name(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.');
    let fits = text.len() <= 128 && text.bytes().all(plain) && !text.starts_with('.');
    let name = text.to_ascii_lowercase();
    (fits && name.len() > 4 && name.ends_with(".pdb")).then_some(name)
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
        assert_eq!(symbol.pdbs()[0].to_string(), format!("ntkrnlmp.pdb/{ID}"));
        let tcpip = of(&format!("TCPIP/GUID/{ID}")).expect("a symbol");
        assert_eq!(tcpip.pdbs()[0].to_string(), format!("tcpip.pdb/{ID}"));
        for bad in [
            "nt/GUID/F8E2",
            "nt/guid/F8E2A8B5C9B74BF4A6E4A48F180099942",
            "nt/GUID/000000000000000000000000000000001",
            "nt/GUID/F8E2A8B5C9B74BF4A6E4A48F18009994G",
            "nt/GUID/F8E2A8B5C9B74BF4A6E4A48F1800999402",
            "nt/GUID/F8E2A8B5-C9B7-4BF4-A6E4-A48F18009994-2",
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
