//! Drivers: modules in `PsLoadedModuleList`, driver objects with their functions, devices and what is attached to them.

use crate::machine::{Machine, SpaceId};
use crate::modules::Module;
use crate::objects::ObjectOptions;
use crate::pe::{self, CODE, DATA, Image, Section};
use crate::pool::Kind;

/// Requests that a driver may handle: `IRP_MJ_CREATE` to `IRP_MJ_PNP`.
pub const MAJOR_FUNCTIONS: u64 = 28;

/// A driver.
#[derive(Debug, Clone, Default)]
pub struct Driver {
    /// Full path of its object, such as `\Driver\Null`.
    pub object: String,
    /// Its module.
    pub module: Module,
    /// Its name in the registry's list of services.
    pub service: String,
    /// Functions it handles: index and offset in its image. All others go to the kernel's own refusal.
    pub functions: Vec<(u64, u64)>,
    /// Its devices, the first of its list first.
    pub devices: Vec<Device>,
    /// No module in `PsLoadedModuleList`: a hidden driver.
    pub unlinked: bool,
}

/// A device.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// Full path, such as `\Device\Null`; absent: no name.
    pub path: Option<String>,
    /// `FILE_DEVICE_*` number (wdm.h).
    pub device_type: u64,
    /// Path of the device it is attached on top of.
    pub attached_to: Option<String>,
}

/// A driver in memory.
#[derive(Debug, Clone)]
pub struct PlacedDriver {
    /// Address of its `_DRIVER_OBJECT`.
    pub object: u64,
    /// Address of its module's entry.
    pub entry: u64,
    /// Addresses of its `_DEVICE_OBJECT`s.
    pub devices: Vec<u64>,
}

impl Machine {
    /// Makes a kernel module: its image's headers and its entry in `PsLoadedModuleList`. Returns the entry's address.
    pub fn kernel_module(&mut self, module: &Module) -> u64 {
        let is_kernel = module.base == self.system.kernel_base;
        if !is_kernel {
            let image = driver_image(module, self.system.is_64());
            self.load_image(SpaceId::SYSTEM, module.base, &image);
        }
        let size = self.system.layouts.size("_LDR_DATA_TABLE_ENTRY");
        let entry = self.allocate(Kind::NonPaged, *b"MmLd", size);
        self.module_fields(SpaceId::SYSTEM, entry, module);
        for (path, text) in [("FullDllName", module.path.as_str()), ("BaseDllName", module.name())] {
            let string = self.at("_LDR_DATA_TABLE_ENTRY", entry).member(path);
            self.unicode_string(string, text);
        }
        let links = self.at("_LDR_DATA_TABLE_ENTRY", entry).member("InLoadOrderLinks");
        if module.unlinked {
            self.empty_list(links);
        } else {
            let head = self.symbol("PsLoadedModuleList");
            self.append(head, links);
        }
        entry
    }

    /// Makes a driver with its module and devices.
    pub fn driver(&mut self, driver: &Driver) -> PlacedDriver {
        let module = Module { unlinked: driver.unlinked, ..driver.module.clone() };
        let entry = self.kernel_module(&module);
        let size = self.system.layouts.size("_DRIVER_OBJECT");
        let extension_size = self.system.layouts.size("_DRIVER_EXTENSION");
        let object = self.object("Driver", size + extension_size, &ObjectOptions::named(&driver.object));
        let refuse = self.symbol_if("IopInvalidDeviceRequest").unwrap_or(self.system.kernel_base + 0x1000);
        let extension = object + size;
        self.at("_DRIVER_OBJECT", object)
            .set("Type", 4)
            .set("Size", size)
            .set("Flags", 0x12)
            .set("DriverStart", module.base)
            .set("DriverSize", module.size)
            .set("DriverSection", entry)
            .set("DriverExtension", extension)
            .set("DriverInit", module.entry)
            .set("DriverUnload", module.base + 0x1F00);
        for index in 0..MAJOR_FUNCTIONS {
            let own = driver.functions.iter().find(|(function, _)| *function == index);
            let target = own.map_or(refuse, |(_, offset)| module.base + offset);
            self.at("_DRIVER_OBJECT", object).set(&format!("MajorFunction[{index}]"), target);
        }
        let name = self.at("_DRIVER_OBJECT", object).member("DriverName");
        self.unicode_string(name, &driver.object);
        let service =
            self.at("_DRIVER_EXTENSION", extension).set("DriverObject", object).member("ServiceKeyName");
        self.unicode_string(service, &driver.service);
        let mut devices = Vec::new();
        for device in &driver.devices {
            devices.push(self.device(device, object));
        }
        for pair in devices.windows(2) {
            self.at("_DEVICE_OBJECT", pair[0]).set("NextDevice", pair[1]);
        }
        self.at("_DRIVER_OBJECT", object).set("DeviceObject", devices.first().copied().unwrap_or(0));
        PlacedDriver { object, entry, devices }
    }

    fn device(&mut self, device: &Device, driver: u64) -> u64 {
        let size = self.system.layouts.size("_DEVICE_OBJECT");
        let options = ObjectOptions { path: device.path.clone(), ..ObjectOptions::default() };
        let body = self.object("Device", size, &options);
        self.at("_DEVICE_OBJECT", body)
            .set("Type", 3)
            .set("Size", size)
            .set("ReferenceCount", 1)
            .set("DriverObject", driver)
            .set("DeviceType", device.device_type)
            .set("Flags", 0x40)
            .set("StackSize", 1);
        if let Some(lower) = &device.attached_to {
            let lower = self.named(lower);
            self.at("_DEVICE_OBJECT", lower).set("AttachedDevice", body);
            self.at("_DEVICE_OBJECT", body).set("StackSize", 2);
        }
        body
    }
}

/// The image of a driver.
pub fn driver_image(module: &Module, is_64: bool) -> Image {
    let size = u32::try_from(module.size).expect("an image below 4 GiB");
    Image {
        name: module.name().to_owned(),
        base: module.base,
        is_64,
        timestamp: module.timestamp,
        entry: u32::try_from(module.entry - module.base).expect("within the image"),
        subsystem: 1,
        dll: false,
        sections: vec![
            Section { name: ".text", rva: 0x1000, size: 0x1000, flags: CODE },
            Section {
                name: ".data",
                rva: 0x2000,
                size: size.saturating_sub(0x3000).max(0x1000),
                flags: DATA,
            },
        ],
        code: pe::code(module.name()),
        exports: Vec::new(),
        pdb: module.pdb.clone(),
    }
}
