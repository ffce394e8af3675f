//! Whether a profile is fit for use: what it holds and what it lacks for which plugins.

use std::fmt;

use profile::Document;

use crate::needs::{Need, needs_of};

/// What a converted profile holds and lacks. Printed at the end of `convert_profile`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FitnessReport {
    /// Structs and unions defined, without copies under typedef names.
    pub types: usize,
    /// Enums defined.
    pub enums: usize,
    /// Symbols with addresses.
    pub symbols: usize,
    /// Names that several different layouts share; all but the most used are called `name@1`, `name@2`, ...
    pub ambiguous_names: usize,
    /// What is missing, by need. Empty for a profile that serves every plugin.
    pub missing: Vec<Missing>,
    /// Whether any plugin can work with it. `false` without symbols, and where a kernel's profile lacks what the process
    /// list needs.
    pub usable: bool,
    /// Things to know about the input that make no plugin fail.
    pub warnings: Vec<String>,
}

/// A need that is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it is about, e.g. `modules`.
    pub need: &'static str,
    /// Plugins that suffer.
    pub plugins: &'static [&'static str],
    /// Structs, fields (`struct.field`) and symbols that are missing; `a|b` where either would do.
    pub items: Vec<&'static str>,
}

impl FitnessReport {
    /// Checks a document against what the plugins need.
    #[must_use]
    pub fn of(document: &Document) -> Self {
        let missing: Vec<(bool, Missing)> = needs_of(document)
            .iter()
            .filter(|need| need.when.is_empty() || has_type(document, need.when))
            .map(|need| (need.essential, missing(document, need)))
            .filter(|(_, missing)| !missing.items.is_empty())
            .collect();
        let symbols = document.constants.len() + document.functions.len();
        Self {
            types: document.structs.len(),
            enums: document.enums.len(),
            symbols,
            ambiguous_names: 0,
            usable: symbols > 0 && !missing.iter().any(|(essential, _)| *essential),
            missing: missing.into_iter().map(|(_, missing)| missing).collect(),
            warnings: Vec::new(),
        }
    }
}

fn missing(document: &Document, need: &Need) -> Missing {
    let lacks_symbol =
        |name: &str| !document.constants.contains_key(name) && !document.functions.contains_key(name);
    let types = need.types.iter().filter(|item| item.split('|').all(|name| !has_type(document, name)));
    let symbols = need.symbols.iter().filter(|item| item.split('|').all(lacks_symbol));
    let mut items: Vec<&str> = types
        .map(|item| match item.split_once('.') {
            // Where the whole struct is missing, its fields need not be listed.
            Some((record, _)) if !item.contains('|') && !document.structs.contains_key(record) => record,
            _ => item,
        })
        .chain(symbols.copied())
        .collect();
    items.dedup();
    Missing { need: need.name, plugins: need.plugins, items }
}

/// `struct` or `struct.field`.
fn has_type(document: &Document, name: &str) -> bool {
    match name.split_once('.') {
        Some((record, field)) => document.structs.get(record).is_some_and(|s| s.fields.contains_key(field)),
        None => document.structs.contains_key(name),
    }
}

impl fmt::Display for FitnessReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} types, {} enums, {} symbols", self.types, self.enums, self.symbols)?;
        if self.ambiguous_names > 0 {
            writeln!(f, "{} names stand for several layouts; see name@1, name@2, ...", self.ambiguous_names)?;
        }
        for missing in &self.missing {
            writeln!(
                f,
                "missing for {} ({}): {}",
                missing.need,
                missing.plugins.join(", "),
                missing.items.join(", ").replace('|', " or ")
            )?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        f.write_str(if self.usable { "usable" } else { "not usable: the process list cannot work" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use profile::{Field, Struct, Type};

    fn with(types: &[&str], symbols: &[&str]) -> Document {
        let mut document = Document::default();
        for name in types {
            let (record, field) = name.split_once('.').unwrap_or((name, "x"));
            let target: &mut Struct = document.structs.entry(record.to_owned()).or_default();
            target.fields.insert(field.to_owned(), Field { offset: 0, ty: Type::named("int") });
        }
        document.constants.extend(symbols.iter().map(|name| ((*name).to_owned(), 1)));
        document
    }

    #[test]
    fn a_profile_without_symbols_or_tasks_is_unusable() {
        assert!(!FitnessReport::of(&Document::default()).usable);
        assert!(!FitnessReport::of(&with(&["task_struct.pid"], &["init_task"])).usable);
        let process_list = [
            "list_head.next",
            "task_struct.tasks",
            "task_struct.pid",
            "task_struct.tgid",
            "task_struct.comm",
            "task_struct.mm",
            "task_struct.parent",
        ];
        assert!(FitnessReport::of(&with(&process_list, &["init_task"])).usable);
        assert!(!FitnessReport::of(&with(&process_list, &["init_mm"])).usable);
    }

    #[test]
    fn what_is_missing_is_named_with_its_plugins() {
        let document = with(&["mm_struct.mm_mt"], &["swapper_pg_dir"]);
        let report = FitnessReport::of(&document);
        let of = |need: &str| report.missing.iter().find(|missing| missing.need == need);
        assert_eq!(of("kernel page tables").map(|m| m.items.clone()), Some(vec!["mm_struct.pgd"]));
        assert!(of("maple tree").is_some());
        assert!(of("kernel log records").is_none(), "asked for a struct this kernel does not have");
        assert!(report.to_string().contains("missing for modules (lsmod): module"));
    }
}
