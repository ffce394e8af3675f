//! The types of a kernel module, from its split BTF and that of its kernel.
//!
//! The document holds what the module defines and everything that is part of that by value; what is only pointed to is named, as
//! it stands in the kernel's own profile.

use profile::Document;

use crate::btf::{self, Btf, BtfError};
use crate::types::emit::emit;
use crate::types::merge::Merger;
use crate::types::{Id, Node};

/// The structs and enums of a module.
///
/// # Errors
/// [`BtfError`] with the first thing that is wrong with either BTF.
pub fn module_types(kernel: &[u8], module: &[u8]) -> Result<Document, BtfError> {
    let btf = btf::parse_split(kernel, module)?;
    let wanted = wanted(&btf);
    let merger = Merger::new();
    let is_wanted = |id: Id| wanted.get(id as usize) == Some(&true);
    let defs = merger.add_some(&btf.table, Some(&btf.uses), is_wanted).map_err(|_| BtfError::Empty)?;
    let mut document = Document::default();
    emit(&merger.finish(&[defs]), btf.table.address_size, &mut document);
    Ok(document)
}

/// By node: whether the module defines it, or holds it by value.
fn wanted(btf: &Btf<'_>) -> Vec<bool> {
    let table = &btf.table;
    let mut wanted = vec![false; table.nodes.len()];
    let mut pending: Vec<Id> =
        (btf.first..).take(table.nodes.len().saturating_sub(btf.first as usize)).collect();
    while let Some(id) = pending.pop() {
        match wanted.get_mut(id as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        match table.node(id) {
            Node::Array { target, .. } | Node::Alias { target, .. } => pending.push(target),
            Node::Record(at) => {
                let members = table.records.get(at as usize).map(|record| table.members_of(record));
                pending.extend(members.unwrap_or_default().iter().map(|member| member.ty));
            }
            Node::Void | Node::Base { .. } | Node::Pointer(_) | Node::Function | Node::Enum(_) => {}
        }
    }
    wanted
}
