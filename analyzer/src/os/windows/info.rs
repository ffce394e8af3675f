//! What a system says of itself: the kernel's build strings and the page it shares with programs.
//!
//! Source: `_KUSER_SHARED_DATA` in the Windows SDK (ntddk.h), whose fields never move.

use object::{Absent, Read};

use super::Kernel;
use super::roots::shared_data;
use super::time::file_time;
use crate::table::{Address, Cell, Time, Value, text_of};

/// Longest build string, in bytes.
const MAX_TEXT: usize = 256;

/// `KSYSTEM_TIME` at an offset of the shared page: low part, high part, high part again, which differs while it is written.
fn system_time(kernel: &Kernel, offset: u64) -> Read<u64> {
    let at = shared_data(kernel.is_32bit()) + offset;
    let target = kernel.target();
    let (low, high, again) = (target.read_u32(at)?, target.read_u32(at + 4)?, target.read_u32(at + 8)?);
    if high != again {
        return Err(Absent::Malformed("time that was changing"));
    }
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// The wall clock, UTC.
pub fn now(kernel: &Kernel) -> Read<Time> {
    file_time(system_time(kernel, 0x14)?)
}

/// Minutes that UTC is ahead of local time.
pub fn time_zone_bias(kernel: &Kernel) -> Read<i64> {
    Ok(system_time(kernel, 0x20)?.cast_signed() / 600_000_000)
}

/// Nanoseconds since the system started, suspension not counted.
pub fn up_time(kernel: &Kernel) -> Read<u64> {
    Ok(system_time(kernel, 0x8)?.saturating_mul(100))
}

/// A text variable of the kernel.
fn text(kernel: &Kernel, symbol: &str) -> Read<String> {
    let at = kernel.target().symbol(symbol).map_err(|_| Absent::NotApplicable("not kept by this kernel"))?;
    kernel.target().read_cstr(at, MAX_TEXT).map(|bytes| text_of(&bytes))
}

/// What `imageinfo` shows, in its order.
#[must_use]
pub fn facts(kernel: &Kernel) -> Vec<(&'static str, Value)> {
    let target = kernel.target();
    let shared = |offset: u64| target.read_u32(shared_data(kernel.is_32bit()) + offset);
    let version = kernel.version().ok_or(Absent::Malformed("no version in the page shared with programs"));
    let text_at = |offset: u64| {
        let bytes = target.read_bytes(shared_data(kernel.is_32bit()) + offset, 520, 520)?;
        Ok::<_, Absent>(super::unicode::decode(&bytes))
    };
    let now = now(kernel);
    let boot = now.clone().and_then(|Time(now)| {
        // The clock counts suspension, the count of interrupts does not.
        Ok(Time(now.saturating_sub(i128::from(up_time(kernel)?))))
    });
    // From Windows 8 on ci.dll keeps it.
    let enabled = || -> Read<bool> {
        let at =
            target.symbol("g_CiEnabled").map_err(|_| Absent::NotApplicable("not kept by this kernel"))?;
        Ok(target.read_u32(at)? & 0xff != 0)
    };
    vec![
        ("Kernel base", Address(kernel.base()).into_value()),
        ("Page tables (DTB)", Address(kernel.dtb()).into_value()),
        ("Paging", kernel.paging().name.into_value()),
        ("Profile", kernel.profile_name().to_owned().into_value()),
        ("NT version", version.map(|version| version.to_string()).into_value()),
        ("NT build", text(kernel, "NtBuildLab").into_value()),
        ("NT build ex", text(kernel, "NtBuildLabEx").into_value()),
        ("System root", text_at(0x30).into_value()),
        ("Product type", shared(0x264).map(product).into_value()),
        ("Signed drivers", enabled().into_value()),
        ("Processors", processors(kernel).into_value()),
        ("Time (UTC)", now.into_value()),
        ("Up since (UTC)", boot.into_value()),
        ("Time zone bias (minutes)", time_zone_bias(kernel).into_value()),
    ]
}

/// `NT_PRODUCT_TYPE`.
fn product(kind: u32) -> String {
    match kind {
        1 => "workstation".to_owned(),
        2 => "domain controller".to_owned(),
        3 => "server".to_owned(),
        other => other.to_string(),
    }
}

fn processors(kernel: &Kernel) -> Read<u64> {
    let target = kernel.target();
    let at = target.symbol("KeNumberProcessors")?;
    Ok(u64::from(target.read_u32(at)? & 0xff))
}
