//! Drivers, the requests they serve, their devices and what is attached to those.
//!
//! Names of requests and of kinds of devices: Windows Driver Kit, wdm.h (`IRP_MJ_*`) and Windows SDK, winioctl.h (`FILE_DEVICE_*`).

use std::collections::BTreeSet;

use object::walk;
use object::{Addr, Ptr, Read, Target, layout};

use super::object_header::ObjectHeader;
use super::pool::{self, kinds};
use super::{Kernel, namespace, object_scan, unicode};
use crate::error::Error;
use crate::notes::Notes;
use crate::session::Session;
use crate::table::{Cell as _, ObjRef};

/// Most devices of one driver, and most devices on top of each other.
const MAX_DEVICES: usize = 1 << 16;

/// Requests, by their number.
pub const REQUESTS: [&str; 28] = [
    "IRP_MJ_CREATE",
    "IRP_MJ_CREATE_NAMED_PIPE",
    "IRP_MJ_CLOSE",
    "IRP_MJ_READ",
    "IRP_MJ_WRITE",
    "IRP_MJ_QUERY_INFORMATION",
    "IRP_MJ_SET_INFORMATION",
    "IRP_MJ_QUERY_EA",
    "IRP_MJ_SET_EA",
    "IRP_MJ_FLUSH_BUFFERS",
    "IRP_MJ_QUERY_VOLUME_INFORMATION",
    "IRP_MJ_SET_VOLUME_INFORMATION",
    "IRP_MJ_DIRECTORY_CONTROL",
    "IRP_MJ_FILE_SYSTEM_CONTROL",
    "IRP_MJ_DEVICE_CONTROL",
    "IRP_MJ_INTERNAL_DEVICE_CONTROL",
    "IRP_MJ_SHUTDOWN",
    "IRP_MJ_LOCK_CONTROL",
    "IRP_MJ_CLEANUP",
    "IRP_MJ_CREATE_MAILSLOT",
    "IRP_MJ_QUERY_SECURITY",
    "IRP_MJ_SET_SECURITY",
    "IRP_MJ_POWER",
    "IRP_MJ_SYSTEM_CONTROL",
    "IRP_MJ_DEVICE_CHANGE",
    "IRP_MJ_QUERY_QUOTA",
    "IRP_MJ_SET_QUOTA",
    "IRP_MJ_PNP",
];

/// Kinds of devices by their number, from 1 on.
const DEVICE_TYPES: [&str; 59] = [
    "FILE_DEVICE_BEEP",
    "FILE_DEVICE_CD_ROM",
    "FILE_DEVICE_CD_ROM_FILE_SYSTEM",
    "FILE_DEVICE_CONTROLLER",
    "FILE_DEVICE_DATALINK",
    "FILE_DEVICE_DFS",
    "FILE_DEVICE_DISK",
    "FILE_DEVICE_DISK_FILE_SYSTEM",
    "FILE_DEVICE_FILE_SYSTEM",
    "FILE_DEVICE_INPORT_PORT",
    "FILE_DEVICE_KEYBOARD",
    "FILE_DEVICE_MAILSLOT",
    "FILE_DEVICE_MIDI_IN",
    "FILE_DEVICE_MIDI_OUT",
    "FILE_DEVICE_MOUSE",
    "FILE_DEVICE_MULTI_UNC_PROVIDER",
    "FILE_DEVICE_NAMED_PIPE",
    "FILE_DEVICE_NETWORK",
    "FILE_DEVICE_NETWORK_BROWSER",
    "FILE_DEVICE_NETWORK_FILE_SYSTEM",
    "FILE_DEVICE_NULL",
    "FILE_DEVICE_PARALLEL_PORT",
    "FILE_DEVICE_PHYSICAL_NETCARD",
    "FILE_DEVICE_PRINTER",
    "FILE_DEVICE_SCANNER",
    "FILE_DEVICE_SERIAL_MOUSE_PORT",
    "FILE_DEVICE_SERIAL_PORT",
    "FILE_DEVICE_SCREEN",
    "FILE_DEVICE_SOUND",
    "FILE_DEVICE_STREAMS",
    "FILE_DEVICE_TAPE",
    "FILE_DEVICE_TAPE_FILE_SYSTEM",
    "FILE_DEVICE_TRANSPORT",
    "FILE_DEVICE_UNKNOWN",
    "FILE_DEVICE_VIDEO",
    "FILE_DEVICE_VIRTUAL_DISK",
    "FILE_DEVICE_WAVE_IN",
    "FILE_DEVICE_WAVE_OUT",
    "FILE_DEVICE_8042_PORT",
    "FILE_DEVICE_NETWORK_REDIRECTOR",
    "FILE_DEVICE_BATTERY",
    "FILE_DEVICE_BUS_EXTENDER",
    "FILE_DEVICE_MODEM",
    "FILE_DEVICE_VDM",
    "FILE_DEVICE_MASS_STORAGE",
    "FILE_DEVICE_SMB",
    "FILE_DEVICE_KS",
    "FILE_DEVICE_CHANGER",
    "FILE_DEVICE_SMARTCARD",
    "FILE_DEVICE_ACPI",
    "FILE_DEVICE_DVD",
    "FILE_DEVICE_FULLSCREEN_VIDEO",
    "FILE_DEVICE_DFS_FILE_SYSTEM",
    "FILE_DEVICE_DFS_VOLUME",
    "FILE_DEVICE_SERENUM",
    "FILE_DEVICE_TERMSRV",
    "FILE_DEVICE_KSEC",
    "FILE_DEVICE_FIPS",
    "FILE_DEVICE_INFINIBAND",
];

layout! {
    /// `_DRIVER_OBJECT`: a driver.
    pub struct Driver / DriverLayout = "_DRIVER_OBJECT" {
        /// Its first device, null for none.
        device: Ptr = "DeviceObject",
        /// Where its module is mapped.
        start_pointer: Ptr = "DriverStart",
        /// Bytes of its module.
        size: u32 = "DriverSize",
        /// Its `_DRIVER_EXTENSION`.
        extension: Ptr = "DriverExtension",
        /// Full name of its object, a `UNICODE_STRING`.
        name_place: Addr = "DriverName",
        /// Pointers to the functions that serve requests.
        functions: Addr = "MajorFunction",
    }

    struct Extension / ExtensionLayout = "_DRIVER_EXTENSION" {
        service_key: Addr = "ServiceKeyName",
    }

    /// `_DEVICE_OBJECT`: a device.
    pub struct Device / DeviceLayout = "_DEVICE_OBJECT" {
        /// The driver that made it.
        driver: Ptr = "DriverObject",
        /// The next device of the same driver, null for none.
        next: Ptr = "NextDevice",
        /// The device on top of it, null for none.
        attached: Ptr = "AttachedDevice",
        /// Kind of device (`FILE_DEVICE_*`).
        device_type_raw: u32 = "DeviceType",
    }
}

impl Driver<'_> {
    /// Where its module is mapped.
    pub fn start(&self) -> Read<u64> {
        self.start_pointer().map(|Ptr(start)| start)
    }

    /// Full name of its object: `\Driver\Null`.
    pub fn name(&self) -> Read<String> {
        unicode::text_at(self.target(), self.name_place())
    }

    /// Its name in the registry's list of services. `kernel` is the kernel's memory.
    pub fn service_key(&self, kernel: &Target) -> Read<String> {
        let extension = self.extension()?.non_null("no driver extension")?;
        unicode::text_at(kernel, Extension::at(kernel, extension).service_key())
    }

    /// Address of the function that serves a request, by its number of [`REQUESTS`].
    pub fn function(&self, request: u64) -> Read<u64> {
        let Addr(functions) = self.functions()?;
        let width = u64::from(self.target().types().model().pointer_size());
        self.target().read_ptr(functions.wrapping_add(request.wrapping_mul(width)))
    }

    /// The cell that stands for it.
    #[must_use]
    pub fn obj_ref(&self) -> ObjRef {
        ObjRef { type_name: Self::STRUCT, addr: self.addr(), tags: vec![("name", self.name().into_value())] }
    }
}

impl Device<'_> {
    /// Kind of device: `FILE_DEVICE_DISK`, a number where it has no common name.
    pub fn device_type(&self) -> Read<String> {
        let number = self.device_type_raw()?;
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let name = index.and_then(|index| DEVICE_TYPES.get(index));
        Ok(name.map_or_else(|| format!("{number:#x}"), |name| (*name).to_owned()))
    }
}

/// Virtual addresses of all drivers: those in directories of the object manager, and those that a scan of physical memory finds.
pub fn drivers(session: &Session, kernel: &Kernel) -> Result<Vec<u64>, Error> {
    let mut found = BTreeSet::new();
    match namespace::tree(&session.notes, kernel.target()) {
        Ok(tree) => {
            let drivers =
                tree.iter().filter(|(_, header)| header.type_name().is_ok_and(|name| name == "Driver"));
            found.extend(drivers.filter_map(|(_, header)| header.body().ok()));
        }
        Err(why) => session.notes.partial(format!("directories of objects cannot be read: {why}")),
    }
    let physical = pool::physical(kernel);
    let scanned = object_scan::scan(session, kernel, &physical, &kinds::DRIVER)?;
    found.extend(scanned.iter().filter_map(|driver| Some(driver.offset()?.0)));
    Ok(found.into_iter().collect())
}

/// The devices of a driver, each followed by those that are attached on top of it, with their depths: 1 for the driver's own.
#[must_use]
pub fn devices<'k>(notes: &Notes, driver: &Driver<'k>) -> Vec<(u16, Device<'k>)> {
    let target = driver.target();
    let link = |read: fn(&Device<'k>) -> Read<Ptr>| {
        move |addr: u64| read(&Device::at(target, addr)).map(|Ptr(next)| next)
    };
    let Ok(Ptr(first)) = driver.device() else { return Vec::new() };
    let own = walk::chain(first, MAX_DEVICES, link(Device::next));
    notes.walk(&format!("of devices of the driver at {:#x}", driver.addr()), &own.end);
    let mut found = Vec::new();
    for device in own.nodes {
        let above = walk::chain(device, MAX_DEVICES, link(Device::attached));
        notes.walk(&format!("of devices on top of the one at {device:#x}"), &above.end);
        // A device whose link upward is torn is still the driver's.
        let above = if above.nodes.is_empty() { vec![device] } else { above.nodes };
        let depths = 1..=u16::MAX;
        found.extend(depths.zip(above).map(|(depth, addr)| (depth, Device::at(target, addr))));
        if found.len() > MAX_DEVICES {
            notes.partial(format!("devices after the first {MAX_DEVICES} of a driver are left out"));
            break;
        }
    }
    found
}

/// Header of a device, for its name.
pub fn device_header<'k>(device: &Device<'k>) -> Read<ObjectHeader<'k>> {
    ObjectHeader::of_body(device.target(), device.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_devices_stand_at_their_number() {
        // Windows SDK, winioctl.h.
        for (number, name) in [
            (0x07, "FILE_DEVICE_DISK"),
            (0x15, "FILE_DEVICE_NULL"),
            (0x22, "FILE_DEVICE_UNKNOWN"),
            (0x2d, "FILE_DEVICE_MASS_STORAGE"),
            (0x3b, "FILE_DEVICE_INFINIBAND"),
        ] {
            assert_eq!(DEVICE_TYPES.get(number - 1), Some(&name));
        }
    }
}
