//! What the kernel calls back and keeps of the past: notification routines, timers, unloaded drivers, system services.
//!
//! Layouts that no symbols tell (callback records, unloaded drivers, service tables) are those of the public headers (ntddk.h:
//! `KBUGCHECK_CALLBACK_RECORD`) and of Windows Internals.

use crate::kernel::{KI_WAIT_ALWAYS, KI_WAIT_NEVER, encode};
use crate::machine::{Machine, SpaceId};
use crate::pool::Kind;

/// Who is told when a process, thread or image appears, or the machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callback {
    /// `PspCreateProcessNotifyRoutine`.
    Process,
    /// `PspCreateThreadNotifyRoutine`.
    Thread,
    /// `PspLoadImageNotifyRoutine`.
    Image,
    /// `CallbackListHead`, or `CmpCallBackVector` of XP.
    Registry,
    /// `KeBugCheckCallbackListHead`.
    BugCheck,
    /// `KeBugCheckReasonCallbackListHead`.
    BugCheckReason,
    /// `IopNotifyShutdownQueueHead`; the address is that of a device.
    Shutdown,
    /// `IopFsNotifyChangeQueueHead`; the address is the routine, of driver object 0.
    FileSystem,
    /// `RtlpDebugPrintCallbackList`.
    DebugPrint,
    /// `PnpProfileNotifyList`.
    Profile,
    /// The sixth list of `PnpDeviceClassNotifyList`.
    DeviceClass,
    /// `KiNmiCallbackListHead`.
    NonMaskable,
    /// `_OBJECT_TYPE.CallbackList` of the type Process; the routine is called before.
    ProcessHandles,
}

/// A driver that was unloaded.
#[derive(Debug, Clone, Default)]
pub struct Unloaded {
    /// Name of its file.
    pub name: String,
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// When, 100 ns since 1601.
    pub time: u64,
}

impl Machine {
    /// Registers a callback. Returns the address of its record.
    pub fn callback(&mut self, kind: Callback, target: u64) -> u64 {
        let pointer = self.pointer_size();
        match kind {
            Callback::Process => self.notify("PspCreateProcessNotifyRoutine", target),
            Callback::Thread => self.notify("PspCreateThreadNotifyRoutine", target),
            Callback::Image => self.notify("PspLoadImageNotifyRoutine", target),
            Callback::Registry if self.symbol_if("CallbackListHead").is_none() => {
                self.set_variable32("CmpCallBackCount", 1);
                self.notify("CmpCallBackVector", target)
            }
            Callback::Registry => {
                let record = self.listed("CallbackListHead", *b"CMcb", 0x60, &[(0x28, target)]);
                self.unicode_string(record + 0x30, "380010");
                self.set_variable32("CmpCallBackCount", 1);
                record
            }
            Callback::BugCheck => {
                let record = self.listed(
                    "KeBugCheckCallbackListHead",
                    *b"KbRc",
                    8 * pointer,
                    &[(2 * pointer, target)],
                );
                self.component(record, 5 * pointer);
                record
            }
            Callback::BugCheckReason => {
                let list = "KeBugCheckReasonCallbackListHead";
                let record = self.listed(list, *b"KbRc", 8 * pointer, &[(2 * pointer, target)]);
                self.component(record, 3 * pointer);
                record
            }
            Callback::Shutdown => {
                self.listed("IopNotifyShutdownQueueHead", *b"IoSh", 3 * pointer, &[(2 * pointer, target)])
            }
            Callback::FileSystem => {
                self.listed("IopFsNotifyChangeQueueHead", *b"IoFs", 4 * pointer, &[(3 * pointer, target)])
            }
            Callback::DebugPrint => {
                self.listed("RtlpDebugPrintCallbackList", *b"DbCb", 4 * pointer, &[(2 * pointer, target)])
            }
            Callback::Profile | Callback::DeviceClass => {
                // Category, session, routine, context, driver.
                let routine = if pointer == 4 { 0x14 } else { 0x20 };
                let (list, index) = match kind {
                    Callback::Profile => ("PnpProfileNotifyList", 0),
                    _ => ("PnpDeviceClassNotifyList", 5),
                };
                let record = self.allocate(Kind::Paged, *b"Pnp9", 0x40);
                self.write_pointer(SpaceId::SYSTEM, record + routine, target);
                match self.symbol_if(list) {
                    Some(head) => self.append(head + index * 2 * pointer, record),
                    None => self.empty_list(record),
                }
                record
            }
            Callback::NonMaskable => {
                let record = self.allocate(Kind::NonPaged, *b"KNMI", 4 * pointer);
                self.write_pointer(SpaceId::SYSTEM, record + pointer, target);
                if let Some(head) = self.symbol_if("KiNmiCallbackListHead") {
                    let first = self.read_pointer(SpaceId::SYSTEM, head);
                    self.write_pointer(SpaceId::SYSTEM, record, first);
                    self.write_pointer(SpaceId::SYSTEM, head, record);
                }
                record
            }
            Callback::ProcessHandles => {
                let record = self.allocate(Kind::Paged, *b"ObCb", 0x40);
                let before = if pointer == 4 { 0x14 } else { 0x28 };
                self.write_pointer(SpaceId::SYSTEM, record + before, target);
                let of = self.object_type("Process");
                if self.system.layouts.has("_OBJECT_TYPE", "CallbackList") {
                    let head = self.at("_OBJECT_TYPE", of).member("CallbackList");
                    self.append(head, record);
                }
                record
            }
        }
    }

    /// Whether the kernel of the profile has what leads to such callbacks.
    pub fn has_callback(&self, kind: Callback) -> bool {
        let symbol = match kind {
            Callback::DebugPrint => "RtlpDebugPrintCallbackList",
            Callback::Profile => "PnpProfileNotifyList",
            Callback::DeviceClass => "PnpDeviceClassNotifyList",
            Callback::NonMaskable => "KiNmiCallbackListHead",
            Callback::ProcessHandles => return self.system.layouts.has("_OBJECT_TYPE", "CallbackList"),
            _ => return true,
        };
        self.symbol_if(symbol).is_some()
    }

    /// A record in a list: links in front, then pointers.
    fn listed(&mut self, list: &str, tag: [u8; 4], bytes: u64, pointers: &[(u64, u64)]) -> u64 {
        let record = self.allocate(Kind::NonPaged, tag, bytes);
        for &(offset, value) in pointers {
            self.write_pointer(SpaceId::SYSTEM, record + offset, value);
        }
        match self.symbol_if(list) {
            Some(head) => self.append(head, record),
            None => self.empty_list(record),
        }
        record
    }

    /// The name of a component that a bug check record points at.
    fn component(&mut self, record: u64, offset: u64) {
        let name = self.allocate(Kind::NonPaged, *b"KbNm", 16);
        self.write(SpaceId::SYSTEM, name, b"testcomponent\0");
        self.write_pointer(SpaceId::SYSTEM, record + offset, name);
    }

    /// A routine in an array of fast references to records.
    fn notify(&mut self, array: &str, target: u64) -> u64 {
        let pointer = self.pointer_size();
        let record = self.allocate(Kind::NonPaged, *b"Cbrb", 3 * pointer);
        // Rundown protection, function, context.
        self.write_pointer(SpaceId::SYSTEM, record, 0x20);
        self.write_pointer(SpaceId::SYSTEM, record + pointer, target);
        let array_at = self.symbol(array);
        let slot = (0..8)
            .map(|index| array_at + index * pointer)
            .find(|&slot| self.read_pointer(SpaceId::SYSTEM, slot) == 0)
            .expect("at most eight routines");
        let count = (slot - array_at) / pointer + 1;
        self.write_pointer(SpaceId::SYSTEM, slot, record | if self.system.is_64() { 0xF } else { 7 });
        self.set_variable32(&format!("{array}Count"), u32::try_from(count).expect("few"));
        record
    }

    /// Starts a timer whose deferred procedure is at `routine`. `due` is in interrupt time. Returns the `_KTIMER`.
    pub fn timer(&mut self, due: u64, period_ms: u64, routine: u64) -> u64 {
        let (timer_size, dpc_size) = (self.system.layouts.size("_KTIMER"), self.system.layouts.size("_KDPC"));
        let timer = self.allocate(Kind::NonPaged, *b"TimT", timer_size + dpc_size);
        let dpc = timer + timer_size;
        // Since Windows 7 x64 the pointer to the procedure is hidden.
        let hidden = if self.symbol_if("KiWaitNever").is_some() && self.system.is_64() {
            encode(dpc, KI_WAIT_NEVER, KI_WAIT_ALWAYS, timer)
        } else {
            dpc
        };
        self.at("_KDPC", dpc).set("Type", 0x13).set("DeferredRoutine", routine).set("DeferredContext", timer);
        // Dispatcher type 8: a notification timer.
        let mut record = self.at("_KTIMER", timer);
        record.set("Header.Type", 8).set("DueTime", due).set("Period", period_ms).set("Dpc", hidden);
        record.set_if("Header.Inserted", 1);
        let entry = record.member("TimerListEntry");
        let wait = record.member("Header.WaitListHead");
        self.empty_list(wait);
        let hand = (due >> 18) % 256;
        let head = self.timer_heads()[usize::try_from(hand).expect("below 256")];
        self.append(head, entry);
        timer
    }

    /// Heads of the lists of timers.
    fn timer_heads(&self) -> Vec<u64> {
        let layouts = &self.system.layouts;
        match layouts.find("_KPRCB", "TimerTable.TimerEntries") {
            Some(place) => {
                let entry = layouts.size("_KTIMER_TABLE_ENTRY");
                let head = layouts.offset("_KTIMER_TABLE_ENTRY", "Entry");
                (0..place.size / entry).map(|index| self.prcb + place.offset + index * entry + head).collect()
            }
            None => {
                let table = self.symbol("KiTimerTableListHead");
                (0..256).map(|index| table + index * 2 * self.pointer_size()).collect()
            }
        }
    }

    /// Makes the empty lists of callbacks and timers.
    pub(crate) fn make_hook_lists(&mut self) {
        for head in self.timer_heads() {
            self.empty_list(head);
        }
        for list in [
            "KeBugCheckCallbackListHead",
            "KeBugCheckReasonCallbackListHead",
            "CallbackListHead",
            "IopNotifyShutdownQueueHead",
            "IopNotifyLastChanceShutdownQueueHead",
            "IopFsNotifyChangeQueueHead",
            "KeBugCheckAddPagesCallbackListHead",
            "KeBugCheckAddRemovePagesCallbackListHead",
            "RtlpDebugPrintCallbackList",
            "PnpProfileNotifyList",
        ] {
            if let Some(head) = self.symbol_if(list) {
                self.empty_list(head);
            }
        }
        if let Some(first) = self.symbol_if("PnpDeviceClassNotifyList") {
            (0..13).for_each(|index| self.empty_list(first + index * 2 * self.pointer_size()));
        }
        self.set_variable("KiWaitNever", KI_WAIT_NEVER);
        self.set_variable("KiWaitAlways", KI_WAIT_ALWAYS);
    }

    /// Remembers drivers that were unloaded, oldest first.
    pub fn unloaded_drivers(&mut self, drivers: &[Unloaded]) {
        let pointer = self.pointer_size();
        let entry = 5 * pointer + if pointer == 4 { 4 } else { 0 };
        let table = self.allocate(Kind::NonPaged, *b"MmUd", 50 * entry);
        for (index, driver) in (0u64..).zip(drivers) {
            let at = table + index * entry;
            self.unicode_string(at, &driver.name);
            self.write_pointer(SpaceId::SYSTEM, at + 2 * pointer, driver.start);
            self.write_pointer(SpaceId::SYSTEM, at + 3 * pointer, driver.end);
            self.write(SpaceId::SYSTEM, at + 4 * pointer, &driver.time.to_le_bytes());
        }
        self.set_variable("MmUnloadedDrivers", table);
        self.set_variable32("MmLastUnloadedDriver", u32::try_from(drivers.len()).expect("few"));
    }

    /// Fills the table of system services with functions by name, each with its number of arguments on the stack. A service
    /// may also be an address: a hook.
    pub fn system_services(&mut self, services: &[(u64, u64)]) {
        let table = self.symbol("KiServiceTable");
        for (index, &(target, arguments)) in (0u64..).zip(services) {
            if self.system.is_64() {
                let offset = target.wrapping_sub(table) << 4 | arguments;
                self.write(SpaceId::SYSTEM, table + 4 * index, &offset.to_le_bytes()[..4]);
            } else {
                self.write_pointer(SpaceId::SYSTEM, table + 4 * index, target);
            }
        }
        let pointer = self.pointer_size();
        for symbol in ["KeServiceDescriptorTable", "KeServiceDescriptorTableShadow"] {
            if let Some(at) = self.symbol_if(symbol) {
                self.write_pointer(SpaceId::SYSTEM, at, table);
                self.write_pointer(SpaceId::SYSTEM, at + 2 * pointer, services.len() as u64);
                let arguments = self.symbol_if("KiArgumentTable").unwrap_or(0);
                self.write_pointer(SpaceId::SYSTEM, at + 3 * pointer, arguments);
            }
        }
    }
}
