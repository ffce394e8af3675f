//! Loaded kernel modules (include/linux/module.h, kernel/module/).

use object::{Absent, Addr, Ptr, Read, Target, Text, Uint, layout, walk};
use profile::Type;

use crate::error::Error;
use crate::notes::Notes;
use crate::table::text_of;

/// Most parts of a module's memory (`MOD_MEM_NUM_TYPES` is 7 in v6.4 to v6.17).
const MAX_PARTS: u64 = 16;

/// Most modules, and users of one module, that are listed.
const MAX_MODULES: usize = 1 << 16;
const MAX_USERS: usize = 1 << 12;

layout! {
    /// `module`: a loaded module.
    pub struct Module / ModuleLayout = "module" {
        /// Its name.
        name: Text = "name",
        /// `enum module_state`.
        raw_state: Uint = "state",
        /// `TAINT_*` bits it brought.
        raw_taints: Uint = "taints",
        /// References, with the one that stands for being loaded.
        references: i32 = "refcnt.counter",
        /// Head of the list of `module_use` by the modules that need this one.
        users: Addr = "source_list",
        /// Base of the permanent part, up to v6.3; `module_core` up to v4.4.
        core_base: Ptr = "core_layout.base | module_core",
        /// Bytes of the permanent part, up to v6.3.
        core_size: u32 = "core_layout.size | core_size",
        /// Bytes of the part for initialisation, 0 once freed, up to v6.3.
        init_size: u32 = "init_layout.size | init_size",
        /// Base of the data, from v5.18 to v6.3 on architectures with `CONFIG_ARCH_WANTS_MODULES_DATA_IN_VMALLOC`.
        data_base: Ptr = "data_layout.base",
        /// Bytes of the data there.
        data_size: u32 = "data_layout.size",
        /// Function that starts it.
        init: Ptr = "init",
        /// Function that ends it; null where it cannot be unloaded.
        exit: Ptr = "exit",
    }

    /// `module_memory`: one part of a module's memory, from Linux commit ac3b43283923 (v6.4).
    struct Part / PartLayout = "module_memory" {
        base: Ptr = "base",
        size: u32 = "size",
    }

    struct Use / UseLayout = "module_use" {
        source: Ptr = "source",
    }
}

layout! {
    struct Sections / SectionsLayout = "module" {
        attributes: Ptr = "sect_attrs",
    }

    /// `module_sect_attrs`: what `/sys/module/NAME/sections` shows.
    struct SectionTable / SectionTableLayout = "module_sect_attrs" {
        count: u32 = "nsections",
        first: Addr = "attrs",
    }

    struct Section / SectionLayout = "module_sect_attr" {
        // A member of its own before Linux commit ed66f991bb19 (v5.8).
        name: Ptr = "battr.attr.name | name",
        address: Uint = "address",
    }

    /// `bin_attribute`: the entries themselves where there is no `module_sect_attr` any more (v6.14).
    struct Attribute / AttributeLayout = "bin_attribute" {
        name: Ptr = "attr.name",
        address: Uint = "private",
    }
}

/// Most sections of a module that are listed, and the longest name of one.
const MAX_SECTIONS: u32 = 1 << 12;
const MAX_SECTION_NAME: usize = 256;

/// Name and load address of each section of a module.
pub type SectionList = Vec<(Read<String>, Read<u64>)>;

/// The sections of a module, freed ones included; not applicable to a kernel without `CONFIG_KALLSYMS` or `CONFIG_SYSFS`.
pub fn sections(module: &Module<'_>) -> Read<SectionList> {
    let target = module.target();
    let table = Sections::at(target, module.addr()).attributes()?.non_null("no sections are kept")?;
    let table = SectionTable::at(target, table);
    let Addr(first) = table.first()?;
    let text = |name: Read<Ptr>| Ok(text_of(&target.read_cstr(name?.0, MAX_SECTION_NAME)?));
    if let Ok(stride) = target.types().struct_size(Section::STRUCT) {
        let entry = |index: u32| {
            let section = Section::at(target, first.wrapping_add(stride.wrapping_mul(index.into())));
            (text(section.name()), section.address().map(|address| address.0))
        };
        return Ok((0..table.count()?.min(MAX_SECTIONS)).map(entry).collect());
    }
    let stride = target.types().struct_size(Attribute::STRUCT)?;
    let mut found = Vec::new();
    for index in 0..MAX_SECTIONS {
        let attribute = Attribute::at(target, first.wrapping_add(stride.wrapping_mul(index.into())));
        // An entry without a name ends the array.
        match attribute.name() {
            Ok(Ptr(0)) => break,
            name => found.push((text(name), attribute.address().map(|address| address.0))),
        }
    }
    Ok(found)
}

/// The modules on the kernel's list, newest first as in `/proc/modules`.
///
/// A module in state UNFORMED is still being set up; `/proc/modules` leaves it out, this does not.
pub fn modules<'t>(notes: &Notes, target: &'t Target) -> Result<Vec<Module<'t>>, Error> {
    let link = target.offset_of(Module::STRUCT, "list")?;
    let walked = walk::list_capped(target, target.symbol("modules")?, MAX_MODULES);
    notes.walk("modules", &walked.end);
    Ok(walked.containers(link).map(|addr| Module::at(target, addr)).collect())
}

impl<'t> Module<'t> {
    /// Its name as text.
    pub fn label(&self) -> Read<String> {
        self.name().map(|Text(bytes)| text_of(&bytes))
    }

    /// Address of its text, as `/proc/modules` shows it to root: `MOD_TEXT` (the first part) or `core_layout.base`.
    pub fn base(&self) -> Read<u64> {
        match self.parts()? {
            Some(parts) => Part::at(self.target(), parts.first).base(),
            None => self.core_base(),
        }
        .map(|Ptr(base)| base)
    }

    /// Bytes of all its memory, as `/proc/modules` shows them (`module_total_size()`); the initial part counts until it
    /// is freed.
    pub fn size(&self) -> Read<u64> {
        let Some(parts) = self.parts()? else {
            let data = match self.data_size() {
                Err(Absent::NoProfile(_)) => 0,
                data => data?,
            };
            let sum = [self.core_size()?, self.init_size()?, data].into_iter().map(u64::from).sum();
            return Ok(sum);
        };
        let part =
            |index: u64| Part::at(self.target(), parts.first.wrapping_add(parts.stride.wrapping_mul(index)));
        (0..parts.count).map(|index| part(index).size().map(u64::from)).sum()
    }

    /// Where its memory is: first address and size in bytes of every part that has any.
    pub fn ranges(&self) -> Read<Vec<(u64, u64)>> {
        let ranges = match self.parts()? {
            Some(parts) => (0..parts.count)
                .map(|index| {
                    let part =
                        Part::at(self.target(), parts.first.wrapping_add(parts.stride.wrapping_mul(index)));
                    Ok((part.base()?.0, u64::from(part.size()?)))
                })
                .collect::<Read<Vec<_>>>()?,
            None => {
                let data = match (self.data_base(), self.data_size()) {
                    (Ok(Ptr(base)), Ok(size)) => (base, u64::from(size)),
                    _ => (0, 0),
                };
                vec![(self.core_base()?.0, u64::from(self.core_size()?)), data]
            }
        };
        Ok(ranges.into_iter().filter(|&(base, size)| base != 0 && size != 0).collect())
    }

    /// `mem[]`, where this build has it.
    fn parts(&self) -> Read<Option<Parts>> {
        let types = self.target().types();
        let Ok(place) = types.resolve(Self::STRUCT, "mem") else { return Ok(None) };
        let count = match place.ty {
            Type::Array { count: Some(count), .. } if count <= MAX_PARTS => count,
            _ => return Err(Absent::Malformed("profile gives no length of module.mem")),
        };
        let stride = types.struct_size(Part::STRUCT)?;
        Ok(Some(Parts { first: self.addr().wrapping_add(place.offset), stride, count }))
    }

    /// State in the words of `/proc/modules`.
    pub fn state(&self) -> Read<&'static str> {
        let Uint(state) = self.raw_state()?;
        Ok(match state {
            0 => "Live",
            1 => "Loading",
            2 => "Unloading",
            3 => "Unformed",
            _ => return Err(Absent::Malformed("no such module state")),
        })
    }

    /// References as `/proc/modules` counts them: `module_refcount()`, without the kernel's own
    /// (`MODULE_REF_BASE`, Linux commit 2f35c41f58a9, v3.19).
    pub fn refcount(&self) -> Read<i64> {
        Ok(i64::from(self.references()?).saturating_sub(1))
    }

    /// Names of the modules that need this one, in list order; `[permanent]` where it cannot be unloaded.
    pub fn used_by(&self, notes: &Notes) -> Read<Vec<Read<String>>> {
        let target = self.target();
        let Addr(head) = self.users()?;
        let link = target.offset_of(Use::STRUCT, "source_list")?;
        let walked = walk::list_capped(target, head, MAX_USERS);
        notes.walk("module.source_list", &walked.end);
        let name = |addr| {
            let source = Use::at(target, addr).source()?.non_null("no module")?;
            Module::at(target, source).label()
        };
        let mut users: Vec<Read<String>> = walked.containers(link).map(name).collect();
        if let (Ok(Ptr(init)), Ok(Ptr(0))) = (self.init(), self.exit())
            && init != 0
        {
            users.push(Ok("[permanent]".to_owned()));
        }
        Ok(users)
    }

    /// Letters of its taints, as in `/proc/modules` (`taint_flags`, kernel/panic.c); empty for none.
    pub fn taints(&self) -> Read<String> {
        const LETTERS: [char; 20] = [
            'P', 'F', 'S', 'R', 'M', 'B', 'U', 'D', 'A', 'W', 'C', 'I', 'O', 'E', 'L', 'K', 'X', 'T', 'N',
            'J',
        ];
        let Uint(taints) = self.raw_taints()?;
        Ok(LETTERS
            .iter()
            .enumerate()
            .filter(|(bit, _)| taints >> bit & 1 == 1)
            .map(|(_, letter)| *letter)
            .collect())
    }
}

/// Where `module.mem[]` is.
struct Parts {
    first: u64,
    stride: u64,
    count: u64,
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{Memory, texts};
    use super::*;

    /// `module` of v6.4 and later; `mem` has two parts here.
    const NEW: &str = r#"{"module": [256, {"state": [0, ["unsigned int"]], "list": [8, ["list_head"]],
        "name": [24, ["Array", {"count": 56, "target": "char"}]],
        "mem": [80, ["Array", {"count": 2, "target": "module_memory"}]], "taints": [128, ["unsigned long"]],
        "source_list": [136, ["list_head"]], "refcnt": [152, ["atomic_t"]],
        "init": [160, ["Pointer"]], "exit": [168, ["Pointer"]]}],
        "list_head": [16, {"next": [0, ["Pointer"]], "prev": [8, ["Pointer"]]}],
        "atomic_t": [4, {"counter": [0, ["int"]]}],
        "module_memory": [16, {"base": [0, ["Pointer"]], "size": [8, ["unsigned int"]]}],
        "module_use": [48, {"source_list": [0, ["list_head"]], "source": [32, ["Pointer"]]}]}"#;
    /// The same before: one permanent part and one for initialisation.
    const OLD: &str = r#"{"module": [256, {"list": [8, ["list_head"]],
        "core_layout": [80, ["module_layout"]], "init_layout": [96, ["module_layout"]]}],
        "list_head": [16, {"next": [0, ["Pointer"]], "prev": [8, ["Pointer"]]}],
        "module_layout": [16, {"base": [0, ["Pointer"]], "size": [8, ["unsigned int"]]}]}"#;

    /// A module at 0x2000 on the list at 0x1000, used by itself, its memory in two parts.
    fn memory() -> Memory {
        let mut memory = Memory::default();
        memory
            .words(0x1000, &[0x2008, 0x2008])
            .words(0x2000, &[1, 0x1000, 0x1000])
            .bytes(0x2018, b"e\xffvil\0");
        memory.words(0x2050, &[0xa000, 0x3000, 0xb000, 0x1000]).word(0x2080, 1 << 12 | 1).half(0x2098, 2);
        memory.words(0x2088, &[0x2100, 0x2100]).words(0x2100, &[0x2088, 0x2088, 0, 0, 0x2000]);
        memory.words(0x20a0, &[0xa000, 0]);
        memory
    }

    #[test]
    fn parts_add_up_in_both_layouts() {
        for structs in [NEW, OLD] {
            let target = memory().target(structs, &[("modules", 0x1000)]);
            let modules = modules(&Notes::default(), &target).expect("list");
            assert_eq!(modules.len(), 1);
            assert_eq!((modules[0].base(), modules[0].size()), (Ok(0xa000), Ok(0x4000)));
        }
    }

    #[test]
    fn state_taints_and_users_read_as_in_proc_modules() {
        let (notes, target) = (Notes::default(), memory().target(NEW, &[]));
        let module = Module::at(&target, 0x2000);
        assert_eq!(module.label().as_deref(), Ok("e\\xffvil"));
        assert_eq!(
            (module.state(), module.refcount(), module.taints().as_deref()),
            (Ok("Loading"), Ok(1), Ok("PO"))
        );
        assert_eq!(
            module.used_by(&notes),
            Ok(vec![Ok("e\\xffvil".to_owned()), Ok("[permanent]".to_owned())])
        );
        assert_eq!(texts(&notes), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_state_and_a_list_that_loops_are_not_hidden() {
        let mut memory = memory();
        memory.word(0x2000, 9).word(0x2008, 0x2008);
        let (notes, target) = (Notes::default(), memory.target(NEW, &[("modules", 0x1000)]));
        let modules = modules(&notes, &target).expect("list");
        assert_eq!(modules[0].state(), Err(Absent::Malformed("no such module state")));
        assert_eq!(texts(&notes), ["list modules ends in a loop at 0x2008"]);
    }
}
