//! The user half of a process: PEB, process parameters, loader lists, and the headers of its modules.
//!
//! Everything stands in memory that the description says: the PEB at its address, what hangs on it in the pages behind.

use crate::machine::{Machine, SpaceId, utf16};
use crate::modules::Module;
use crate::pe::{self, CODE, Image, Section};
use crate::physical::PAGE;
use crate::processes::{Parameters, Placed, Process};
use crate::vads::Page;

/// Hands out user memory, rising.
struct Heap {
    space: SpaceId,
    next: u64,
}

impl Heap {
    fn take(&mut self, machine: &mut Machine, bytes: u64) -> u64 {
        let at = self.next;
        self.next = (at + bytes).next_multiple_of(16);
        machine.ensure(self.space, at, bytes);
        at
    }

    /// Fills a `_UNICODE_STRING` with text from this heap.
    fn text(&mut self, machine: &mut Machine, string: u64, text: &str) {
        let bytes = utf16(text);
        let at = self.take(machine, bytes.len() as u64 + 2);
        machine.write(self.space, at, &bytes);
        machine.unicode_string_at(self.space, string, bytes.len() as u64, at);
    }
}

/// The three lists of a loader: name in the loader's data, name in an entry.
const LISTS: [(&str, &str); 3] = [
    ("InLoadOrderModuleList", "InLoadOrderLinks"),
    ("InMemoryOrderModuleList", "InMemoryOrderLinks"),
    ("InInitializationOrderModuleList", "InInitializationOrderLinks"),
];

impl Machine {
    /// Makes the PEB and what hangs on it. Without parameters nothing is readable.
    pub(crate) fn user_blocks(&mut self, process: &Process, placed: &Placed) {
        let Some(parameters) = process.parameters.as_ref().filter(|_| process.peb != 0) else { return };
        let space = placed.space;
        let peb = process.peb;
        self.ensure(space, peb, self.system.layouts.size("_PEB"));
        let (major, minor, build) = self.system.version;
        self.record(space, "_PEB", peb)
            .set("ImageBaseAddress", process.section_base)
            .set("NumberOfProcessors", 1)
            .set("OSMajorVersion", u64::from(major))
            .set("OSMinorVersion", u64::from(minor))
            .set("OSBuildNumber", u64::from(build))
            .set("SessionId", u64::from(process.session.unwrap_or(0)));
        let mut heap = Heap { space, next: process.heap };
        if parameters.paged_out {
            self.record(space, "_PEB", peb).set("ProcessParameters", process.heap);
            self.make_page(space, process.heap, &Page::PageFile(0, 0x1234), None, 4);
            return;
        }
        self.process_parameters(&mut heap, parameters, peb);
        let modules: Vec<&Module> = process.modules.iter().filter(|module| !module.wow64).collect();
        self.loader(&mut heap, &modules, peb);
        if process.wow64 {
            self.wow64_blocks(&mut heap, process, placed.eprocess);
        }
        for module in &process.modules {
            let is_64 = self.system.is_64() && !module.wow64;
            self.load_image(space, module.base, &user_image(module, is_64));
        }
    }

    fn process_parameters(&mut self, heap: &mut Heap, parameters: &Parameters, peb: u64) {
        let name = "_RTL_USER_PROCESS_PARAMETERS";
        let size = self.system.layouts.size(name);
        let at = heap.take(self, size);
        self.record(heap.space, name, at).set("MaximumLength", size).set("Length", size).set("Flags", 1);
        for (path, text) in [
            ("CurrentDirectory.DosPath", &parameters.current_directory),
            ("ImagePathName", &parameters.image_path),
            ("CommandLine", &parameters.command_line),
            ("WindowTitle", &parameters.image_path),
        ] {
            let string = self.record(heap.space, name, at).member(path);
            heap.text(self, string, text);
        }
        let mut block = Vec::new();
        for variable in &parameters.environment {
            block.extend(utf16(variable));
            block.extend([0, 0]);
        }
        block.extend([0, 0]);
        let environment = heap.take(self, block.len() as u64);
        self.write(heap.space, environment, &block);
        self.record(heap.space, name, at)
            .set("Environment", environment)
            .set_if("EnvironmentSize", block.len() as u64);
        self.record(heap.space, "_PEB", peb).set("ProcessParameters", at);
    }

    /// Loader data with its three lists, in load order.
    fn loader(&mut self, heap: &mut Heap, modules: &[&Module], peb: u64) {
        let size = self.system.layouts.size("_PEB_LDR_DATA");
        let ldr = heap.take(self, size);
        self.record(heap.space, "_PEB_LDR_DATA", ldr).set("Length", size).set("Initialized", 1);
        self.record(heap.space, "_PEB", peb).set("Ldr", ldr);
        let mut entries = Vec::new();
        for module in modules {
            let size = self.system.layouts.size("_LDR_DATA_TABLE_ENTRY");
            let at = heap.take(self, size);
            self.module_fields(heap.space, at, module);
            for (path, text) in [("FullDllName", module.path.as_str()), ("BaseDllName", module.name())] {
                let string = self.record(heap.space, "_LDR_DATA_TABLE_ENTRY", at).member(path);
                heap.text(self, string, text);
            }
            entries.push(at);
        }
        for (head, links) in LISTS {
            let head = self.record(heap.space, "_PEB_LDR_DATA", ldr).member(head);
            let offset = self.system.layouts.offset("_LDR_DATA_TABLE_ENTRY", links);
            // The program itself is not initialised as a library is.
            let skipped = usize::from(links.starts_with("InInit"));
            let listed = entries.iter().zip(modules).skip(skipped).filter(|(_, module)| !module.unlinked);
            let places: Vec<u64> = std::iter::once(head).chain(listed.map(|(at, _)| at + offset)).collect();
            self.link(heap.space, &places);
        }
    }

    /// The members of a loader entry that need no more memory.
    pub(crate) fn module_fields(&mut self, space: SpaceId, at: u64, module: &Module) {
        self.record(space, "_LDR_DATA_TABLE_ENTRY", at)
            .set("DllBase", module.base)
            .set("EntryPoint", module.entry)
            .set("SizeOfImage", module.size)
            .set("Flags", 0x0008_4004)
            .set("LoadCount|ObsoleteLoadCount", u64::from(module.load_count))
            .set("TimeDateStamp", u64::from(module.timestamp))
            .set_if("LoadTime", module.loaded);
    }

    /// The 32-bit PEB with its loader lists. Source: layouts of 32-bit PEB and loader structs as in winternl.h.
    fn wow64_blocks(&mut self, heap: &mut Heap, process: &Process, eprocess: u64) {
        let space = heap.space;
        // The 32-bit PEB stands one page behind, and everything it points at below 4 GiB.
        let peb32 = process.peb32;
        self.ensure(space, peb32, PAGE);
        self.record(space, "_PEB32", peb32).set("ImageBaseAddress", process.section_base & 0xFFFF_FFFF);
        let holder = if self.system.layouts.has("_EPROCESS", "WoW64Process") {
            let size = self.system.layouts.size("_EWOW64PROCESS");
            let at = self.allocate(crate::pool::Kind::Paged, *b"Wow6", size);
            self.at("_EWOW64PROCESS", at).set("Peb", peb32);
            at
        } else {
            peb32
        };
        self.at("_EPROCESS", eprocess).set("WoW64Process|Wow64Process", holder);
        let modules: Vec<&Module> = process.modules.iter().filter(|module| module.wow64).collect();
        let ldr = heap.take(self, 0x30);
        self.record(space, "_PEB32", peb32).set("Ldr", ldr);
        let word = |machine: &mut Self, at: u64, value: u64| {
            machine.write(space, at, &u32::try_from(value).expect("below 4 GiB").to_le_bytes());
        };
        word(self, ldr, 0x30);
        word(self, ldr + 4, 1);
        let mut entries = Vec::new();
        for module in &modules {
            let at = heap.take(self, 0x50);
            word(self, at + 0x18, module.base);
            word(self, at + 0x1C, module.entry);
            word(self, at + 0x20, module.size);
            for (offset, text) in [(0x24, module.path.as_str()), (0x2C, module.name())] {
                let bytes = utf16(text);
                let buffer = heap.take(self, bytes.len() as u64 + 2);
                self.write(space, buffer, &bytes);
                let length = bytes.len() as u64;
                word(self, at + offset, length | (length + 2) << 16);
                word(self, at + offset + 4, buffer);
            }
            word(self, at + 0x34, 0x0008_4004);
            word(self, at + 0x38, u64::from(module.load_count));
            word(self, at + 0x44, u64::from(module.timestamp));
            entries.push(at);
        }
        for (head, links, skipped) in [(0xC, 0, 0), (0x14, 8, 0), (0x1C, 0x10, 1)] {
            let listed = entries.iter().skip(skipped).map(|at| at + links);
            let places: Vec<u64> = std::iter::once(ldr + head).chain(listed).collect();
            for (index, &place) in places.iter().enumerate() {
                word(self, place, places[(index + 1) % places.len()]);
                word(self, place + 4, places[(index + places.len() - 1) % places.len()]);
            }
        }
    }
}

/// The image of a module of a process, with a few exports for libraries.
pub fn user_image(module: &Module, is_64: bool) -> Image {
    let name = module.name().to_owned();
    let dll = name.to_lowercase().ends_with(".dll");
    let size = u32::try_from(module.size).expect("an image below 4 GiB");
    let code =
        Section { name: ".text", rva: 0x1000, size: size.saturating_sub(0x2000).max(0x1000), flags: CODE };
    let exports = if dll {
        vec![("DllMain".to_owned(), 0x1000), ("DllGetVersion".to_owned(), 0x1040)]
    } else {
        Vec::new()
    };
    Image {
        name,
        base: module.base,
        is_64,
        timestamp: module.timestamp,
        entry: u32::try_from(module.entry.saturating_sub(module.base)).unwrap_or(0x1000),
        subsystem: if dll { 2 } else { 3 },
        dll,
        sections: vec![code],
        code: pe::code(module.name()),
        exports,
        pdb: module.pdb.clone(),
    }
}
