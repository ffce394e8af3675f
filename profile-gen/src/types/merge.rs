//! Merging the type tables of all units into one name space.
//!
//! Hundreds of units define the same struct; each distinct layout is kept once. Where one name has several layouts,
//! the one most units use keeps the plain name and the others become `name@1`, `name@2`, ... in order of use.
//! The result does not depend on the order in which units are added.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, btree_map};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::layout::{Definition, Field, Layout, Layouts, Ref, Shape, Space, name_key};
use super::{Id, Node, Table};

const SHARDS: usize = 64;
/// Most bytes of distinct definitions that are kept; a kernel with all its drivers needs about 40 MB.
const MAX_BYTES: usize = 256 << 20;

/// Most definitions in all units together, repeated ones included; a kernel has about a million.
const MAX_DEFS: usize = 24 << 20;

/// The input defines more types than any kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {} MB of distinct type definitions, or {MAX_DEFS} definitions", MAX_BYTES >> 20)]
pub(crate) struct TooManyTypes;

type ByHash<V> = HashMap<u64, V>;
/// Name and address of a global variable; without address where it is a declaration.
type GlobalKey = (Box<str>, Option<u64>);
type Globals = BTreeMap<GlobalKey, Ref>;
type AliasCounts = HashMap<(u64, AliasTarget), (Box<str>, u32)>;

/// The record a typedef means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum AliasTarget {
    /// Declared only, where the typedef is: [`name_key`] of its name.
    Name(u64),
    /// Defined, by identity.
    Layout(u64),
}

/// Collects distinct layouts from many threads.
pub(crate) struct Merger {
    shards: Vec<Mutex<ByHash<Layout>>>,
    /// Typedefs of named records: (key of the typedef, record) to the typedef's name and how often it is seen.
    aliases: Mutex<AliasCounts>,
    globals: Mutex<Globals>,
    bytes: AtomicUsize,
    defs: AtomicUsize,
}

/// What one unit defines.
#[derive(Debug, Default)]
pub(crate) struct UnitDefs {
    defs: Vec<Def>,
    /// Where the unit itself has several layouts of one name: (layout that points, key of the name) to layout meant.
    exact: HashMap<(u64, u64), u64>,
}

#[derive(Debug, Clone, Copy)]
struct Def {
    /// [`name_key`] of the name; 0 for an anonymous type.
    key: u64,
    layout: u64,
    /// How much the definition counts against others of the same name.
    weight: u32,
}

/// All distinct definitions with their final names.
pub(crate) struct Merged {
    /// Definitions by identity.
    pub(crate) layouts: ByHash<Layout>,
    /// Final name of each definition; structs and enums are separate name spaces.
    pub(crate) names: ByHash<String>,
    /// For each definition and name it points to: the definition meant, where it is not the plain one.
    targets: HashMap<(u64, u64), u64>,
    /// The definition that has the plain name, by [`name_key`].
    plain: ByHash<u64>,
    /// Typedefs of named records, to the record meant.
    pub(crate) aliases: BTreeMap<Box<str>, u64>,
    /// Types of global variables.
    pub(crate) globals: Globals,
    /// Number of names that several layouts share.
    pub(crate) ambiguous_names: usize,
}

impl Merger {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            aliases: Mutex::default(),
            globals: Mutex::default(),
            bytes: AtomicUsize::new(0),
            defs: AtomicUsize::new(0),
        }
    }

    /// Takes the definitions of one unit. `weights`, by node, says how much each counts; without it each counts 1.
    pub(crate) fn add(&self, table: &Table<'_>, weights: Option<&[u32]>) -> Result<UnitDefs, TooManyTypes> {
        self.add_some(table, weights, |_| true)
    }

    /// As [`Merger::add`], of the nodes that are wanted only.
    pub(crate) fn add_some(
        &self,
        table: &Table<'_>,
        weights: Option<&[u32]>,
        wanted: impl Fn(Id) -> bool,
    ) -> Result<UnitDefs, TooManyTypes> {
        let mut layouts = Layouts::new(table);
        let only_typedefs = layouts.only_typedefs();
        let mut defs = Vec::new();
        let mut seen = HashSet::new();
        let mut aliases = Vec::new();
        for (id, node) in (0u32..).zip(&table.nodes).filter(|(id, _)| wanted(*id)) {
            let Some(definition) = layouts.definition(id) else {
                if let Node::Alias { name: typedef @ [_, ..], target } = node {
                    aliases.extend(alias_target(&mut layouts, *target).map(|target| (*typedef, target)));
                }
                continue;
            };
            let nameless = definition.name().is_none();
            if !definition.is_complete() || nameless && only_typedefs.get(id as usize) == Some(&true) {
                continue;
            }
            let key = definition.name().map_or(0, |(space, name)| name_key(space, name));
            let layout = layouts.hash(id);
            let weight = weights.map_or(1, |w| w.get(id as usize).copied().unwrap_or(1));
            if seen.insert((key, layout)) {
                defs.push(Def { key, layout, weight });
                self.keep(layout, &definition, &mut layouts)?;
            }
        }
        if self.defs.fetch_add(defs.len(), Ordering::Relaxed).saturating_add(defs.len()) > MAX_DEFS {
            return Err(TooManyTypes);
        }
        self.keep_aliases(aliases)?;
        self.keep_globals(table, &mut layouts)?;
        Ok(UnitDefs { exact: exact_targets(table, &mut layouts, &defs), defs })
    }

    fn keep<'t, 'd>(
        &self,
        hash: u64,
        definition: &Definition<'t, 'd>,
        layouts: &mut Layouts<'t, 'd>,
    ) -> Result<(), TooManyTypes> {
        let Some(shard) = self.shards.get(shard_of(hash)) else { return Ok(()) };
        if lock(shard).contains_key(&hash) {
            return Ok(());
        }
        let layout = layouts.layout(definition);
        match lock(shard).entry(hash) {
            // Another thread was faster; its definition is the same.
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(entry) => self.charge(entry.insert(layout).bytes()),
        }
    }

    fn keep_aliases(&self, mut found: Vec<(&[u8], AliasTarget)>) -> Result<(), TooManyTypes> {
        found.sort_unstable();
        found.dedup();
        let mut aliases = lock(&self.aliases);
        for (name, target) in found {
            let entry = aliases
                .entry((name_key(Space::Typedef, name), target))
                .or_insert_with(|| (String::from_utf8_lossy(name).into(), 0));
            if entry.1 == 0 {
                self.charge(64 + name.len())?;
            }
            entry.1 = entry.1.saturating_add(1);
        }
        Ok(())
    }

    /// Where units say different things about one variable (an array without its length, a struct without its members),
    /// the one that says most is kept, whichever comes first.
    fn keep_globals<'t, 'd>(
        &self,
        table: &'t Table<'d>,
        layouts: &mut Layouts<'t, 'd>,
    ) -> Result<(), TooManyTypes> {
        let found: Vec<(GlobalKey, Ref)> = table
            .variables
            .iter()
            .map(|variable| {
                let name = String::from_utf8_lossy(variable.name).into();
                ((name, variable.address), layouts.of_variable(variable.ty, 0))
            })
            .collect();
        let mut globals = lock(&self.globals);
        for (key, ty) in found {
            match globals.entry(key) {
                btree_map::Entry::Occupied(mut known) if ty > *known.get() => drop(known.insert(ty)),
                btree_map::Entry::Occupied(_) => {}
                btree_map::Entry::Vacant(entry) => {
                    self.charge(entry.key().0.len() + 32 + ty.bytes())?;
                    entry.insert(ty);
                }
            }
        }
        Ok(())
    }

    fn charge(&self, bytes: usize) -> Result<(), TooManyTypes> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > MAX_BYTES { Err(TooManyTypes) } else { Ok(()) }
    }

    /// Decides names. `units` in a fixed order (of the input, not of completion).
    pub(crate) fn finish(self, units: &[UnitDefs]) -> Merged {
        let mut layouts: ByHash<Layout> = HashMap::new();
        for shard in self.shards {
            layouts.extend(shard.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner));
        }
        let usage = usage(units);
        let groups = groups(&layouts, &usage);
        let mut names: ByHash<String> = HashMap::with_capacity(layouts.len());
        for ((_, name), members) in &groups {
            for (n, (_, hash)) in members.iter().enumerate() {
                names.insert(*hash, if n == 0 { (*name).to_owned() } else { format!("{name}@{n}") });
            }
        }
        for hash in layouts.keys() {
            names.entry(*hash).or_insert_with(|| format!("__unnamed_{hash:016x}"));
        }
        let plain = plain(units, &usage);
        let targets = targets(&layouts, units, &plain);
        let taken = |name: &str| groups.contains_key(&(true, name));
        let ambiguous_names = groups.values().filter(|members| members.len() > 1).count();
        let found = self.aliases.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let aliases = aliases(found, &plain, taken);
        let globals = self.globals.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Merged { layouts, names, targets, plain, aliases, globals, ambiguous_names }
    }
}

impl Merged {
    /// The final name of the record that `layout` means when it points to `name`.
    pub(crate) fn target(&self, layout: u64, key: u64, name: &str) -> String {
        let meant = self.targets.get(&(layout, key)).or_else(|| self.plain.get(&key));
        meant.and_then(|hash| self.names.get(hash)).map_or_else(|| name.to_owned(), Clone::clone)
    }
}

impl Layout {
    /// Estimate of the memory a definition takes.
    fn bytes(&self) -> usize {
        let name = |name: &Option<Box<str>>| name.as_ref().map_or(0, |n| n.len());
        let content: usize = match &self.shape {
            Shape::Record { fields, .. } => {
                fields.iter().map(|field| size_of::<Field>() + name(&field.name) + field.ty.bytes()).sum()
            }
            Shape::Enum { values, .. } => values.iter().map(|(name, _)| 40 + name.len()).sum(),
        };
        size_of::<Self>() + name(&self.name) + content
    }
}

impl Ref {
    /// Estimate of the memory it takes.
    fn bytes(&self) -> usize {
        let own = size_of::<Self>();
        match self {
            Self::Pointer(inner) | Self::Array(_, inner) | Self::Bits { declared: inner, .. } => {
                own + inner.bytes()
            }
            Self::Base(name) | Self::Named { name, .. } => own + name.len(),
            Self::Void | Self::Function | Self::Layout(_) => own,
        }
    }
}

/// How often a definition is used and where it stands first; orders definitions of one name.
#[derive(Debug, Clone, Copy)]
struct Usage {
    weight: u64,
    unit: usize,
    position: usize,
}

fn usage(units: &[UnitDefs]) -> ByHash<Usage> {
    let mut usage: ByHash<Usage> = HashMap::new();
    for (unit, defs) in units.iter().enumerate() {
        for (position, def) in defs.defs.iter().enumerate() {
            let entry = usage.entry(def.layout).or_insert(Usage { weight: 0, unit, position });
            entry.weight += u64::from(def.weight);
        }
    }
    usage
}

type Rank = (std::cmp::Reverse<u64>, usize, usize);

fn rank(usage: &ByHash<Usage>, hash: u64) -> Rank {
    let usage =
        usage.get(&hash).copied().unwrap_or(Usage { weight: 0, unit: usize::MAX, position: usize::MAX });
    (std::cmp::Reverse(usage.weight), usage.unit, usage.position)
}

/// Named definitions by (is a record, name), the most used first.
fn groups<'l>(
    layouts: &'l ByHash<Layout>,
    usage: &ByHash<Usage>,
) -> BTreeMap<(bool, &'l str), Vec<(Rank, u64)>> {
    let mut groups: BTreeMap<(bool, &str), Vec<(Rank, u64)>> = BTreeMap::new();
    for (hash, layout) in layouts {
        if let Some(name) = &layout.name {
            let record = matches!(layout.shape, Shape::Record { .. });
            groups.entry((record, name)).or_default().push((rank(usage, *hash), *hash));
        }
    }
    for members in groups.values_mut() {
        members.sort_unstable();
    }
    groups
}

/// For each name in its name space the most used definition.
fn plain(units: &[UnitDefs], usage: &ByHash<Usage>) -> ByHash<u64> {
    let mut plain: ByHash<(Rank, u64)> = HashMap::new();
    for def in units.iter().flat_map(|unit| &unit.defs) {
        let candidate = (rank(usage, def.layout), def.layout);
        let best = plain.entry(def.key).or_insert(candidate);
        *best = (*best).min(candidate);
    }
    plain.into_iter().map(|(key, (_, hash))| (key, hash)).collect()
}

/// Resolves pointers to names with several definitions, where they do not mean the plain one.
///
/// Units that share a layout may disagree about what its pointers mean. The unit that holds the fewest unusual
/// definitions decides, the first of those.
fn targets(layouts: &ByHash<Layout>, units: &[UnitDefs], plain: &ByHash<u64>) -> HashMap<(u64, u64), u64> {
    let unusual = |def: &Def| plain.get(&def.key).is_some_and(|hash| def.key != 0 && *hash != def.layout);
    let mut judge: ByHash<(usize, usize)> = HashMap::new();
    // Per unit only its unusual definitions matter: everything else has the plain name anyway.
    let own: Vec<HashMap<u64, u64>> = units
        .iter()
        .map(|unit| {
            let mut own = HashMap::new();
            for def in unit.defs.iter().filter(|def| unusual(def)) {
                own.entry(def.key).or_insert(def.layout);
            }
            own
        })
        .collect();
    for (at, (unit, own)) in units.iter().zip(&own).enumerate() {
        for def in &unit.defs {
            let candidate = (own.len(), at);
            let best = judge.entry(def.layout).or_insert(candidate);
            *best = (*best).min(candidate);
        }
    }
    let mut targets = HashMap::new();
    for (hash, layout) in layouts {
        let (Shape::Record { fields, .. }, Some((_, at))) = (&layout.shape, judge.get(hash)) else {
            continue;
        };
        let (Some(unit), Some(own)) = (units.get(*at), own.get(*at)) else { continue };
        if own.is_empty() && unit.exact.is_empty() {
            continue;
        }
        for field in fields {
            let mut ty = &field.ty;
            while let Ref::Pointer(inner) | Ref::Array(_, inner) = ty {
                ty = inner;
            }
            if let Ref::Named { key, .. } = ty
                && let Some(meant) = unit.exact.get(&(*hash, *key)).or_else(|| own.get(key))
            {
                targets.insert((*hash, *key), *meant);
            }
        }
    }
    targets
}

/// In a table that defines a name more than once, which definition each layout points to.
fn exact_targets(table: &Table<'_>, layouts: &mut Layouts<'_, '_>, defs: &[Def]) -> HashMap<(u64, u64), u64> {
    let mut first: HashMap<u64, u64> = HashMap::new();
    let mut several: Vec<u64> = defs
        .iter()
        .filter(|def| def.key != 0 && *first.entry(def.key).or_insert(def.layout) != def.layout)
        .map(|def| def.key)
        .collect();
    several.sort_unstable();
    several.dedup();
    let mut exact = HashMap::new();
    if several.is_empty() {
        return exact;
    }
    for (id, node) in (0u32..).zip(&table.nodes) {
        let Node::Record(at) = node else { continue };
        let Some(record) = table.records.get(*at as usize) else { continue };
        for member in table.members_of(record) {
            let Some((key, target)) = pointed_record(table, layouts, member.ty) else { continue };
            if several.binary_search(&key).is_ok() {
                let holder = layouts.hash(id);
                let target = layouts.hash(target);
                exact.entry((holder, key)).or_insert(target);
            }
        }
    }
    exact
}

/// The complete named record at the end of a chain of pointers and arrays, if there is a pointer in it.
fn pointed_record(table: &Table<'_>, layouts: &Layouts<'_, '_>, ty: u32) -> Option<(u64, u32)> {
    let mut id = layouts.resolve(ty);
    let mut pointer = false;
    for _ in 0..profile::MAX_TYPE_NESTING {
        match (layouts.definition(id), table.node(id)) {
            (Some(Definition::Record(record, Some((space, name)))), _) if pointer && record.complete => {
                return Some((name_key(space, name), id));
            }
            (None, Node::Pointer(target)) => {
                pointer = true;
                id = layouts.resolve(target);
            }
            (None, Node::Array { target, .. }) => id = layouts.resolve(target),
            _ => return None,
        }
    }
    None
}

/// What a typedef that names no anonymous type is another name of, if it is a record.
fn alias_target(layouts: &mut Layouts<'_, '_>, target: u32) -> Option<AliasTarget> {
    let target = layouts.resolve(target);
    match layouts.definition(target)? {
        Definition::Record(record, _) if record.complete => Some(AliasTarget::Layout(layouts.hash(target))),
        Definition::Record(_, Some((space, name))) => Some(AliasTarget::Name(name_key(space, name))),
        _ => None,
    }
}

/// Per typedef the most used record; typedefs whose name is a record's own name are left out.
fn aliases(found: AliasCounts, plain: &ByHash<u64>, taken: impl Fn(&str) -> bool) -> BTreeMap<Box<str>, u64> {
    let mut counts: BTreeMap<(Box<str>, u64), u32> = BTreeMap::new();
    for ((_, target), (name, count)) in found {
        let layout = match target {
            AliasTarget::Layout(hash) => Some(hash),
            AliasTarget::Name(key) => plain.get(&key).copied(),
        };
        if let Some(layout) = layout.filter(|_| !taken(&name)) {
            let sum = counts.entry((name, layout)).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    let mut best: BTreeMap<Box<str>, (u32, u64)> = BTreeMap::new();
    for ((name, layout), count) in counts {
        let entry = best.entry(name).or_insert((count, layout));
        *entry = (*entry).max((count, layout));
    }
    best.into_iter().map(|(name, (_, layout))| (name, layout)).collect()
}

fn shard_of(hash: u64) -> usize {
    usize::from(hash.to_le_bytes()[0]) % SHARDS
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
