//! `devicetree`: drivers, their devices, and the devices on top of those.
//!
//! A device on top of another sees all its requests first. Drivers of directories and of a scan. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::driver::{Driver, device_header, devices, drivers};
use crate::os::windows::names::full_name;
use crate::plugin::prelude::*;

/// The command.
pub struct Devicetree;

row! {
    pub struct Row {
        /// `DRV` for a driver, `DEV` for its device, `ATT` for one on top of that.
        kind as "Type": &'static str,
        /// Its address.
        address as "Address": Address,
        /// Its name; of a device on top, the name of its driver where it has none.
        name as "Name": Read<String>,
        /// Kind of device.
        device_type: Read<String>,
        /// Full name of a device.
        path as "Path": Read<String>,
    }
}

impl Plugin for Devicetree {
    const NAME: &'static str = "devicetree";
    const SUMMARY: &'static str = "Show drivers, their devices, and what is attached to them";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for addr in drivers(session, &kernel)? {
            let driver = Driver::at(kernel.target(), addr);
            let none = || Err(Absent::NotApplicable("a driver"));
            let address = Address(addr);
            out.push(Row { kind: "DRV", address, name: driver.name(), device_type: none(), path: none() })?;
            for (depth, device) in devices(&session.notes, &driver) {
                let header = device_header(&device);
                let owner = || device.driver().and_then(|owner| Driver::at(kernel.target(), owner.0).name());
                let name = match header.clone().and_then(|header| header.name()) {
                    Err(Absent::NotApplicable(_)) if depth > 1 => owner(),
                    name => name,
                };
                out.push_at(
                    depth,
                    Row {
                        kind: if depth == 1 { "DEV" } else { "ATT" },
                        address: Address(device.addr()),
                        name,
                        device_type: device.device_type(),
                        path: header.and_then(|header| full_name(&header)),
                    },
                )?;
            }
        }
        Ok(())
    }
}
