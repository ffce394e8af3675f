//! What profiles are generated from.

use profile_gen::symbol_server::{Defaults, PdbFile, Pointer, SymbolPath};
use profile_gen::pdb::{PdbOptions, convert_pdb};
use profile_gen::{LinuxOptions, btf, convert_linux_bytes, expand_cabinet, symbols};

/// Converts `data` as `convert_profile` does, whatever it is; the profile must read back.
pub fn convert(data: &[u8]) {
    if let Ok(converted) = convert_linux_bytes(data, "source", &LinuxOptions::default()) {
        let text = converted.document.to_canonical_json();
        let read = profile::Profile::parse_text(text).expect("our own text");
        read.to_document().expect("our own structs");
        let _ = converted.report.to_string();
    }
}

/// Parses `data` as BTF.
pub fn btf(data: &[u8]) {
    let _ = btf::total_len(data);
    let _ = btf::parse(data).map(|btf| btf.type_count());
    // The first two bytes say where a kernel's BTF ends and a module's begins.
    if let Some((cut, both)) = data.split_first_chunk() {
        let (kernel, module) = both.split_at(usize::from(u16::from_le_bytes(*cut)).min(both.len()));
        let _ = profile_gen::module_types(kernel, module);
    }
}

/// Parses `data` as a symbol list and names its symbols.
pub fn symbol_list(data: &[u8]) {
    if let Ok(list) = symbols::parse(data) {
        assert!(symbols::constants(&list.symbols).len() <= list.symbols.len());
        let _ = symbols::x86_64_slide(&list.symbols);
    }
}

/// The libraries for PDBs and cabinets panic on some damaged files, which our code turns into errors; libFuzzer ends the
/// process in the panic hook already. A panic that is not caught still ends it.
fn allow_caught_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

/// Expands `data` as a cabinet, to no more than the limit.
pub fn cabinet(data: &[u8]) {
    allow_caught_panics();
    const LIMIT: u64 = 1 << 20;
    if let Ok(bytes) = expand_cabinet(data, "a.pdb", LIMIT) {
        assert!(bytes.len() as u64 <= LIMIT);
    }
}

/// Reads `data` as a symbol path, as the pointer file of a store, and as name and identity of a PDB: what is accepted
/// must be one plain file name.
pub fn symbol_path(data: &[u8]) {
    let _ = Pointer::parse(data);
    let text = String::from_utf8_lossy(data);
    let defaults = Defaults { store: Some("/store".as_ref()), home: Some("/home".as_ref()) };
    let _ = SymbolPath::parse(&text, &defaults);
    if let Some((name, id)) = text.rsplit_once(' ')
        && let Ok(file) = PdbFile::parse(name, id)
    {
        assert!(!file.name().contains(['/', '\\', '\0']) && !file.name().starts_with('.'));
    }
}

/// Converts `data` as `parse_pdb` does; the profile must read back.
pub fn pdb(data: &[u8]) {
    allow_caught_panics();
    if let Ok(converted) = convert_pdb(data, &PdbOptions::default()) {
        let text = converted.document.to_canonical_json();
        let read = profile::Profile::parse_text(text).expect("our own text");
        read.to_document().expect("our own structs");
        let _ = (converted.report.losses(), converted.report.remarks());
    }
}
