//! The tables of system services: which function of the kernel serves which number.
//!
//! A descriptor is four pointers wide: table, counters, number of services, bytes of arguments. Tables of 64-bit kernels hold
//! distances from the table, with the number of arguments on the stack in the low four bits; before Vista they were not shifted.
//! The second table is win32k's, which is mapped in processes with a session only. Source: Windows Internals, "System service
//! dispatching".

use object::{Read, Target};

use super::{Kernel, processes};
use crate::error::Error;
use crate::session::Session;

/// Most services of one table; the number of a service has 12 bits.
const MAX_SERVICES: u64 = 0x1000;

/// One table of services.
pub struct ServiceTable {
    /// Whose it is: `nt` or `win32k`.
    pub name: &'static str,
    /// Its number, which is above the 12 bits of a service's number.
    pub number: u64,
    /// Address of the function of each service.
    pub services: Vec<Read<u64>>,
}

/// The tables in use.
pub fn tables(session: &Session, kernel: &Kernel) -> Result<Vec<ServiceTable>, Error> {
    let target = kernel.target();
    let first = target
        .symbol("KeServiceDescriptorTableShadow")
        .or_else(|_| target.symbol("KeServiceDescriptorTable"))?;
    let width = u64::from(target.types().model().pointer_size());
    let mut found = Vec::new();
    for (number, name) in [(0, "nt"), (1, "win32k")] {
        let at = first.wrapping_add(4 * width * number);
        let count = target.read_u32(at.wrapping_add(2 * width)).map(u64::from);
        let (base, count) = match (target.read_ptr(at), count) {
            (Ok(0), _) | (_, Ok(0)) => continue,
            (Ok(base), Ok(count)) => (base, count),
            (Err(why), _) | (_, Err(why)) => {
                session.notes.partial(format!("table of system services {name} cannot be read: {why}"));
                continue;
            }
        };
        if count > MAX_SERVICES {
            session
                .notes
                .partial(format!("table of system services {name} names {count} services, not believed"));
        }
        let count = count.min(MAX_SERVICES);
        let services = if target.read_u32(base).is_ok() {
            services(kernel, target, base, count)
        } else {
            match in_session(session, kernel, base)? {
                Some(user) => services(kernel, &user, base, count),
                None => services(kernel, target, base, count),
            }
        };
        if services.iter().any(Result::is_err) {
            session.notes.partial(format!("table of system services {name} cannot be read whole"));
        }
        found.push(ServiceTable { name, number, services });
    }
    Ok(found)
}

/// Memory of a process that maps an address: of the subsystem of a session.
fn in_session(session: &Session, kernel: &Kernel, addr: u64) -> Result<Option<Target>, Error> {
    let all = processes(session, kernel)?;
    let csrss =
        all.iter().filter(|process| process.name().is_ok_and(|name| name.eq_ignore_ascii_case("csrss.exe")));
    let mut memories = csrss.filter_map(|process| process.user_target(kernel).ok());
    Ok(memories.find(|memory| memory.read_u32(addr).is_ok()))
}

fn services(kernel: &Kernel, memory: &Target, base: u64, count: u64) -> Vec<Read<u64>> {
    let shift = if kernel.version().is_some_and(|version| version.major < 6) { 0 } else { 4 };
    (0..count)
        .map(|index| {
            let entry = memory.read_u32(base.wrapping_add(4 * index))?;
            if kernel.is_32bit() {
                return Ok(entry.into());
            }
            let distance = i64::from(entry.cast_signed() & !0xf) >> shift;
            Ok(base.wrapping_add_signed(distance))
        })
        .collect()
}
