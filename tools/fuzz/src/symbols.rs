//! What profiles are generated from.

use profile_gen::{LinuxOptions, btf, convert_linux_bytes, symbols};

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
}

/// Parses `data` as a symbol list and names its symbols.
pub fn symbol_list(data: &[u8]) {
    if let Ok(list) = symbols::parse(data) {
        assert!(symbols::constants(&list.symbols).len() <= list.symbols.len());
        let _ = symbols::x86_64_slide(&list.symbols);
    }
}
