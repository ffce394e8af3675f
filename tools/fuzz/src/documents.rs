//! Documents that come from repositories.

use profile::Profile;
use repository::Inventory;
use repository::index::{DataIndex, IndexSpec, StructIndex, TraitIndex};

/// Largest text read, small enough that a run over it shows at once.
const MAX_TEXT: usize = 1 << 20;

/// Reads `data` as a profile and uses all of it; what can be decoded must survive writing.
pub fn profile(data: &[u8]) {
    let Ok(profile) = Profile::parse(data, &profile::Limits { max_text: MAX_TEXT }) else { return };
    let _ = profile.kind();
    for name in profile.struct_names() {
        let _ = profile.struct_def(name);
    }
    for symbol in profile.symbols().take(100) {
        assert!(!profile.symbols_at_or_below(symbol.value).is_empty(), "at least the symbol itself");
    }
    if let Ok(document) = profile.to_document() {
        let text = document.to_canonical_json();
        let again = Profile::parse_text(text.clone()).expect("our own text");
        assert_eq!(again.to_document().expect("our own text").to_canonical_json(), text);
    }
}

/// Reads `data` as an inventory; what is read must survive writing.
pub fn inventory(data: &[u8]) {
    if let Ok(inventory) = Inventory::parse(data, MAX_TEXT) {
        let again = Inventory::parse(&inventory.to_gzip(), MAX_TEXT * 16).expect("our own inventory");
        assert_eq!(again.entries, inventory.entries);
    }
}

/// Reads `data` as an index of each kind and asks it; what is read must survive writing.
pub fn index(data: &[u8]) {
    let Ok(profile) = Profile::parse(data, &profile::Limits { max_text: MAX_TEXT }) else { return };
    if let Ok(index) = DataIndex::read(&profile) {
        let _ = index.matches(1, |offset, buf| {
            buf.fill(0x90);
            offset % 2 == 0
        });
        let again = Profile::parse_text(index.to_document().to_canonical_json()).expect("our own text");
        assert_eq!(DataIndex::read(&again).expect("our own index").profiles, index.profiles);
    }
    if let Ok(index) = StructIndex::read(&profile) {
        let _ = index.eprocess_layouts();
    }
    if let Ok(index) = TraitIndex::read(&profile) {
        let _ = index.matches([("linux_proc_banner", 1), ("a", 2)]);
    }
}

/// Reads `data` as the specification of an index.
pub fn index_spec(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = IndexSpec::parse(text);
    }
}

/// Reads `data` as a symbol table of Volatility 3; what is read must survive writing it as one again.
pub fn isf(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(document) = profile::isf::document_from_isf(text) {
        let again = profile::isf::document_from_isf(&profile::isf::document_to_isf(&document));
        assert_eq!(again.expect("our own table").structs.len(), document.structs.len());
    }
}
