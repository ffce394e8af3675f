//! Routines that the kernel calls when something happens: a process starts, a key is opened, the system stops.
//!
//! ```text
//! arrays of fast references   processes, threads, images; the registry before Vista
//! lists of records            bug checks, shutdown, file systems, plug and play, debug output; the registry from Vista on
//! chains of records           non-maskable interrupts, ends of logon sessions
//! lists of object types       handles that are opened (ObRegisterCallbacks, from Windows 7 on)
//! ```
//! No public symbols describe the records. Source: ntddk.h and wdm.h of the WDK (`KBUGCHECK_CALLBACK_RECORD`,
//! `KBUGCHECK_REASON_CALLBACK_RECORD`); for the others Ligh et al., The Art of Memory Forensics, ch. 13, and windows_facts of
//! Rekall. Symbols decide which of them a kernel has.

use object::walk;
use object::{Absent, Addr, Ptr, Read, Target, layout};

use super::driver::{Device, Driver};
use super::namespace;
use super::object_header::ObjectType;
use super::unicode::UnicodeString;
use crate::notes::Notes;
use crate::table::text_of;

/// `IRP_MJ_SHUTDOWN`.
const SHUTDOWN: u64 = 16;
/// Most places of an array of references.
const MAX_SLOTS: u64 = 100;
/// Most lists of an array of lists: `NOTIFY_DEVICE_CLASS_HASH_BUCKETS`.
const CLASS_LISTS: u64 = 13;
/// Most records of a list; systems have a few.
const MAX_RECORDS: usize = 1 << 14;
/// Longest name of a component, in bytes.
const MAX_COMPONENT: usize = 64;

layout! {
    struct FastReference / FastReferenceLayout = "_EX_FAST_REF" {
        value: Ptr = "Object",
    }

    struct TypeCallbacks / TypeCallbacksLayout = "_OBJECT_TYPE" {
        list: Addr = "CallbackList",
    }
}

/// A routine that the kernel calls.
pub struct Callback {
    /// The kernel's variable that leads to it.
    pub kind: &'static str,
    /// Address of the record that names it.
    pub record: u64,
    /// The routine.
    pub routine: Read<u64>,
    /// What the record says besides.
    pub details: Read<String>,
}

/// How the records of a list look. Offsets are pairs: of 32-bit kernels, and of 64-bit ones.
#[derive(Clone, Copy)]
enum Record {
    /// A routine, nothing else.
    Plain(Pair),
    /// A routine, and a pointer to the name of a component.
    Component(Pair, Pair),
    /// A routine, and a pointer to the driver that registered it.
    Owned(Pair, Pair),
    /// A device, whose driver is asked to shut down.
    Device(Pair),
    /// A routine of the registry, and its altitude.
    Altitude(Pair, Pair),
}

type Pair = (u64, u64);

/// Lists of records. The routine of a bug check follows the links; its component follows a buffer and its length, or directly.
const LISTS: &[(&str, u64, Record)] = &[
    ("KeBugCheckCallbackListHead", 1, Record::Component((0x8, 0x10), (0x14, 0x28))),
    ("KeBugCheckReasonCallbackListHead", 1, Record::Component((0x8, 0x10), (0xc, 0x18))),
    ("KeBugCheckAddPagesCallbackListHead", 1, Record::Component((0x8, 0x10), (0xc, 0x18))),
    ("KeBugCheckAddRemovePagesCallbackListHead", 1, Record::Component((0x8, 0x10), (0xc, 0x18))),
    ("CallbackListHead", 1, Record::Altitude((0x1c, 0x28), (0x20, 0x30))),
    ("IopNotifyShutdownQueueHead", 1, Record::Device((0x8, 0x10))),
    ("IopNotifyLastChanceShutdownQueueHead", 1, Record::Device((0x8, 0x10))),
    ("IopFsNotifyChangeQueueHead", 1, Record::Owned((0xc, 0x18), (0x8, 0x10))),
    ("RtlpDebugPrintCallbackList", 1, Record::Plain((0x8, 0x10))),
    ("PnpProfileNotifyList", 1, Record::Owned((0x14, 0x20), (0x1c, 0x30))),
    ("PnpDeviceClassNotifyList", CLASS_LISTS, Record::Owned((0x14, 0x20), (0x1c, 0x30))),
    ("IopProfileNotifyList", 1, Record::Owned((0x14, 0x20), (0x1c, 0x30))),
    ("IopDeviceClassNotifyList", CLASS_LISTS, Record::Owned((0x14, 0x20), (0x1c, 0x30))),
];

/// Arrays of fast references to a block: rundown protection, routine, context.
const ARRAYS: &[&str] = &[
    "PspLoadImageNotifyRoutine",
    "PspCreateThreadNotifyRoutine",
    "PspCreateProcessNotifyRoutine",
    "CmpCallBackVector",
];

/// Chains of records that begin with the link and the routine.
const CHAINS: &[&str] =
    &["KiNmiCallbackListHead", "SeFileSystemNotifyRoutinesHead", "SeFileSystemNotifyRoutinesExHead"];

/// All routines that are registered. What is missing is noted.
#[must_use]
pub fn callbacks(notes: &Notes, target: &Target) -> Vec<Callback> {
    let mut search = Search { target, notes, found: Vec::new() };
    let known = |name: &str| target.symbol(name).is_ok();
    for kind in ARRAYS.iter().filter(|kind| known(kind)) {
        search.array(kind);
    }
    for (kind, count, record) in LISTS.iter().filter(|(kind, ..)| known(kind)) {
        search.lists(kind, *count, *record);
    }
    for kind in CHAINS.iter().filter(|kind| known(kind)) {
        search.chain(kind);
    }
    search.lego();
    search.object_types();
    // Kernels of all versions have these; a profile of exports alone has not.
    for needed in ["PspCreateProcessNotifyRoutine", "KeBugCheckCallbackListHead"] {
        if !known(needed) {
            notes.partial(format!("callbacks are missing: the profile lacks symbol {needed}"));
        }
    }
    search.found
}

struct Search<'k> {
    target: &'k Target,
    notes: &'k Notes,
    found: Vec<Callback>,
}

impl Search<'_> {
    fn is_32bit(&self) -> bool {
        self.target.types().model().pointer_size() == 4
    }

    fn width(&self) -> u64 {
        u64::from(self.target.types().model().pointer_size())
    }

    fn pick(&self, pair: Pair) -> u64 {
        if self.is_32bit() { pair.0 } else { pair.1 }
    }

    /// The pointer at a place of a record; null is no routine.
    fn pointer(&self, record: u64, offset: u64) -> Read<u64> {
        Ptr(self.target.read_ptr(record.wrapping_add(offset))?).non_null("none registered")
    }

    /// Places of an array: as many as fit before the next symbol.
    fn slots(&self, kind: &str, at: u64) -> u64 {
        let profile = self.target.types().profile();
        let Some(own) = profile.symbol(kind) else { return 0 };
        let next = profile.symbols().map(|symbol| symbol.value).filter(|value| *value > own).min();
        let end = next.map_or(u64::MAX, |next| self.target.to_run_time(next));
        (end.saturating_sub(at) / self.width()).min(MAX_SLOTS)
    }

    fn array(&mut self, kind: &'static str) {
        let Ok(at) = self.target.symbol(kind) else { return };
        // The references are counted in the bits that alignment leaves free.
        let flags = if self.is_32bit() { 7 } else { 0xf };
        for slot in 0..self.slots(kind, at) {
            match FastReference::at(self.target, at.wrapping_add(slot * self.width())).value() {
                Ok(Ptr(value)) if value & !flags == 0 => {}
                Ok(Ptr(value)) => {
                    let record = value & !flags;
                    let routine = self.pointer(record, self.width());
                    let details = Err(Absent::NotApplicable("nothing more is recorded"));
                    self.found.push(Callback { kind, record, routine, details });
                }
                Err(why) => self.notes.partial(format!("entry {slot} of {kind} cannot be read: {why}")),
            }
        }
    }

    fn lists(&mut self, kind: &'static str, count: u64, record: Record) {
        let Ok(first) = self.target.symbol(kind) else { return };
        for index in 0..count {
            let walked =
                walk::list_capped(self.target, first.wrapping_add(index * 2 * self.width()), MAX_RECORDS);
            self.notes.walk(kind, &walked.end);
            for at in walked.nodes {
                let (routine, details) = self.read(record, at);
                self.found.push(Callback { kind, record: at, routine, details });
            }
        }
    }

    fn read(&self, record: Record, at: u64) -> (Read<u64>, Read<String>) {
        let none = Err(Absent::NotApplicable("nothing more is recorded"));
        match record {
            Record::Plain(routine) => (self.pointer(at, self.pick(routine)), none),
            Record::Component(routine, name) => {
                let name = self.pointer(at, self.pick(name));
                let name = name.and_then(|name| self.target.read_cstr(name, MAX_COMPONENT));
                (self.pointer(at, self.pick(routine)), name.map(|name| text_of(&name)))
            }
            Record::Owned(routine, driver) => {
                let driver = self.pointer(at, self.pick(driver));
                let name = driver.and_then(|driver| Driver::at(self.target, driver).name());
                (self.pointer(at, self.pick(routine)), name)
            }
            Record::Device(device) => {
                let driver = || {
                    let device = Device::at(self.target, self.pointer(at, self.pick(device))?);
                    Ok(Driver::at(self.target, device.driver()?.non_null("no driver")?))
                };
                let driver = driver();
                (driver.clone().and_then(|driver| driver.function(SHUTDOWN)), driver.and_then(|d| d.name()))
            }
            Record::Altitude(routine, altitude) => {
                let place = at.wrapping_add(self.pick(altitude));
                let altitude = UnicodeString::at(self.target, place).text();
                (self.pointer(at, self.pick(routine)), altitude.map(|text| format!("altitude {text}")))
            }
        }
    }

    fn chain(&mut self, kind: &'static str) {
        let first = self.target.symbol(kind).map_err(Absent::from).and_then(|at| self.target.read_ptr(at));
        match first {
            Ok(first) => {
                let walked = walk::chain(first, MAX_RECORDS, |at| self.target.read_ptr(at));
                self.notes.walk(kind, &walked.end);
                for record in walked.nodes {
                    let routine = self.pointer(record, self.width());
                    let details = Err(Absent::NotApplicable("nothing more is recorded"));
                    self.found.push(Callback { kind, record, routine, details });
                }
            }
            Err(why) => self.notes.partial(format!("{kind} cannot be read: {why}")),
        }
    }

    /// `PspLegoNotifyRoutine`: one routine that is told when a thread ends.
    fn lego(&mut self) {
        let kind = "PspLegoNotifyRoutine";
        let Ok(record) = self.target.symbol(kind) else { return };
        match self.pointer(record, 0) {
            Err(Absent::NotApplicable(_)) => {}
            routine => {
                let details = Err(Absent::NotApplicable("nothing more is recorded"));
                self.found.push(Callback { kind, record, routine, details });
            }
        }
    }

    /// `_OBJECT_TYPE.CallbackList`: links, operations and flags, pointers to entry and type, routines before and after.
    fn object_types(&mut self) {
        if self.target.offset_of(TypeCallbacks::STRUCT, "CallbackList").is_err() {
            return;
        }
        let target = self.target;
        let types = match namespace::types(self.notes, target) {
            Ok(types) => types,
            Err(why) => return self.notes.partial(format!("callbacks of object types are missing: {why}")),
        };
        let width = self.width();
        let first: u64 = if self.is_32bit() { 0x14 } else { 0x28 };
        for of in types {
            let Ok(Addr(head)) = TypeCallbacks::at(target, of.addr()).list() else { continue };
            let name = |of: &ObjectType<'_>| of.name().unwrap_or_else(|_| format!("{:#x}", of.addr()));
            let walked = walk::list_capped(target, head, MAX_RECORDS);
            self.notes.walk(&format!("of callbacks of type {}", name(&of)), &walked.end);
            for record in walked.nodes {
                for (offset, when) in [(first, "before"), (first.wrapping_add(width), "after")] {
                    match self.pointer(record, offset) {
                        Err(Absent::NotApplicable(_)) => {}
                        routine => {
                            let details = Ok(format!("{} handles, {when}", name(&of)));
                            self.found.push(Callback { kind: "CallbackList", record, routine, details });
                        }
                    }
                }
            }
        }
    }
}
