//! Modules of a process: its executable and libraries, on the lists of the loader in its own memory.
//!
//! A 32-bit process on a 64-bit kernel has two loaders, each with lists. Those of the 32-bit one are read by the layout that
//! all 32-bit systems have. Source: `_PEB_LDR_DATA`, `_LDR_DATA_TABLE_ENTRY` in the symbols of any 32-bit kernel from XP on.

use object::walk::{self, End, MAX_NODES};
use object::{Absent, Addr, Ptr, Read, Target, layout};

use super::module::Module;
use super::process::{Peb, Process};
use super::unicode;
use crate::notes::Notes;

layout! {
    struct LoaderData / LoaderDataLayout = "_PEB_LDR_DATA" {
        load_order: Addr = "InLoadOrderModuleList",
        memory_order: Addr = "InMemoryOrderModuleList",
        init_order: Addr = "InInitializationOrderModuleList",
    }

    struct Wow64Process / Wow64ProcessLayout = "_EWOW64PROCESS" {
        peb: Ptr = "Peb",
    }
}

/// Offsets in 32-bit processes.
mod wow64 {
    /// `_PEB.Ldr`.
    pub(super) const PEB_LDR: u64 = 0xc;
    /// `_PEB_LDR_DATA.InLoadOrderModuleList`, the two others behind it, each of 8 bytes.
    pub(super) const LOAD_ORDER: u64 = 0xc;
    /// Bytes of a link; the three of an entry stand at its start.
    pub(super) const LINK: u64 = 8;
    /// `_LDR_DATA_TABLE_ENTRY.DllBase`, `SizeOfImage`, `FullDllName`, `BaseDllName`, `LoadCount`.
    pub(super) const BASE: u64 = 0x18;
    pub(super) const SIZE: u64 = 0x20;
    pub(super) const FULL_NAME: u64 = 0x24;
    pub(super) const BASE_NAME: u64 = 0x2c;
    pub(super) const LOAD_COUNT: u64 = 0x38;
}

/// Longest path read, in bytes.
const MAX_PATH: usize = 1 << 16;

/// A module of a process.
#[derive(Debug, Clone)]
pub struct Library {
    /// Where it is mapped.
    pub base: Read<u64>,
    /// Bytes it takes in memory.
    pub size: Read<u32>,
    /// Its file name.
    pub name: Read<String>,
    /// Its path.
    pub path: Read<String>,
    /// References, 0xffff for those that are never unloaded; not applicable where the loader does not count any more.
    pub load_count: Read<u64>,
    /// Why it was loaded: a value of `_LDR_DLL_LOAD_REASON` (from Windows 8 on).
    pub load_reason: Read<u64>,
    /// Whether the 32-bit loader of a 64-bit system loaded it.
    pub wow64: bool,
}

/// A list of a loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// In the order of loading.
    Load,
    /// In the order of addresses.
    Memory,
    /// In the order of initialisation; the executable itself is not on it.
    Initialization,
}

impl Order {
    /// Kernel name of the list.
    fn name(self) -> &'static str {
        match self {
            Self::Load => "InLoadOrderModuleList",
            Self::Memory => "InMemoryOrderModuleList",
            Self::Initialization => "InInitializationOrderModuleList",
        }
    }
}

/// The modules of a process in the order of loading, those of the 32-bit loader last. `user` is its memory. What is missing
/// is noted.
pub fn libraries(notes: &Notes, process: &Process<'_>, user: &Target) -> Read<Vec<Library>> {
    listed(notes, process, user, Order::Load)
}

/// The modules on one list of each loader of a process, those of the 32-bit loader last.
pub fn listed(notes: &Notes, process: &Process<'_>, user: &Target, order: Order) -> Read<Vec<Library>> {
    let peb = process.peb()?.non_null("no environment block")?;
    let loader = Peb::at(user, peb).ldr()?.non_null("no loader data")?;
    let loader = LoaderData::at(user, loader);
    let (Addr(head), links) = match order {
        Order::Load => (loader.load_order()?, "InLoadOrderLinks"),
        Order::Memory => (loader.memory_order()?, "InMemoryOrderLinks"),
        Order::Initialization => {
            (loader.init_order()?, "InInitializationOrderLinks | InInitializationOrderModuleList")
        }
    };
    let links = user.offset_of(Module::STRUCT, links)?;
    let walked = walk::list(user, head);
    notes.walk(&format!("{} of {}", order.name(), process.describe()), &walked.end);
    let mut found: Vec<Library> = walked
        .containers(links)
        .map(|addr| {
            let module = Module::at(user, addr);
            Library {
                base: module.base(),
                size: module.size(),
                name: module.name(),
                path: module.path(),
                load_count: module.load_count_raw().map(|count| count.0),
                load_reason: module.load_reason().map(|reason| reason.0),
                wow64: false,
            }
        })
        .collect();
    if process.is_wow64() == Ok(true) {
        match wow64_libraries(notes, process, user, order) {
            Ok(more) => found.extend(more),
            Err(why) if why.is_loss() => {
                notes.partial(format!("32-bit modules of {} are missing: {why}", process.describe()));
            }
            Err(_) => {}
        }
    }
    Ok(found)
}

/// Address of the 32-bit environment block: up to Windows 7 in the process itself, later behind a struct of the kernel.
fn peb32(process: &Process<'_>) -> Read<u64> {
    let wow64 = process.wow64()?.non_null("no 32-bit process")?;
    if wow64 >> 32 == 0 {
        return Ok(wow64);
    }
    match Wow64Process::at(process.target(), wow64).peb() {
        Ok(peb) => peb.non_null("no 32-bit environment block"),
        Err(Absent::NoProfile(_)) => process.target().read_ptr(wow64),
        Err(why) => Err(why),
    }
}

fn wow64_libraries(notes: &Notes, process: &Process<'_>, user: &Target, order: Order) -> Read<Vec<Library>> {
    let word = |addr: u64| user.read_u32(addr).map(u64::from);
    let loader = Ptr(word(peb32(process)? + wow64::PEB_LDR)?).non_null("no 32-bit loader data")?;
    let list = wow64::LINK * order as u64;
    let head = loader + wow64::LOAD_ORDER + list;
    let first = word(head)?;
    // A chain that ends where it began: the head stands for the end.
    let next = |node: u64| word(node).map(|next| if next == head { 0 } else { next });
    let walked = if first == head { None } else { Some(walk::chain(first, MAX_NODES, next)) };
    let (nodes, end) = walked.map_or((Vec::new(), End::Complete), |walked| (walked.nodes, walked.end));
    notes.walk(&format!("32-bit {} of {}", order.name(), process.describe()), &end);
    let text = |addr: u64| {
        let lengths = user.read_u32(addr)?;
        let (length, buffer) = (u64::from(lengths & 0xffff), word(addr + 4)?);
        if length == 0 {
            return Ok(String::new());
        }
        Ok(unicode::decode(&user.read_bytes(buffer, length, MAX_PATH)?))
    };
    Ok(nodes
        .into_iter()
        .map(|node| node.wrapping_sub(list))
        .map(|node| Library {
            base: word(node + wow64::BASE),
            size: user.read_u32(node + wow64::SIZE),
            name: text(node + wow64::BASE_NAME),
            path: text(node + wow64::FULL_NAME),
            load_count: word(node + wow64::LOAD_COUNT).map(|count| count & 0xffff),
            load_reason: Err(Absent::NotApplicable("not kept by the 32-bit loader as read here")),
            wow64: true,
        })
        .collect())
}
