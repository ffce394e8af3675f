//! Processors: `_KPCR` and the `_KPRCB` in it.

use object::{Ptr, Read, Target, Text, Uint, layout};

use crate::table::{Address, Cell, Value, text_of};

/// Most processors of a system.
const MAX_PROCESSORS: u64 = 2048;

layout! {
    struct Region / RegionLayout = "_KPCR" {
        own: Ptr = "Self | SelfPcr",
        gdt: Ptr = "GdtBase | GDT",
        idt: Ptr = "IdtBase | IDT",
        tss: Ptr = "TssBase | TSS",
        major: u16 = "MajorVersion",
        minor: u16 = "MinorVersion",
    }

    struct Block / BlockLayout = "_KPRCB" {
        current: Ptr = "CurrentThread",
        next: Ptr = "NextThread",
        idle: Ptr = "IdleThread",
        mhz: Uint = "MHz",
        vendor: Text = "VendorString",
        root: Uint = "ProcessorState.SpecialRegisters.Cr3",
        features: Uint = "FeatureBits",
        cpu_type: Uint = "CpuType",
    }
}

/// Addresses of the control blocks (`_KPRCB`) of all processors.
pub fn blocks(target: &Target) -> Read<Vec<u64>> {
    let offset = target.offset_of(Region::STRUCT, "PrcbData | Prcb")?;
    Ok(regions(target)?.into_iter().map(|region| region.wrapping_add(offset)).collect())
}

/// Addresses of the control regions of all processors.
pub fn regions(target: &Target) -> Read<Vec<u64>> {
    let table = target.symbol("KiProcessorBlock")?;
    let width = u64::from(target.types().model().pointer_size());
    // In 32-bit regions `Prcb` is the pointer to the block.
    let offset = target.offset_of(Region::STRUCT, "PrcbData | Prcb")?;
    let mut found = Vec::new();
    for index in 0..MAX_PROCESSORS {
        let block = match target.read_ptr(table.wrapping_add(index.wrapping_mul(width))) {
            Ok(block) if block != 0 => block,
            Err(why) if found.is_empty() => return Err(why),
            Ok(_) | Err(_) => break,
        };
        let region = block.wrapping_sub(offset);
        // What stands behind the table is no processor. The first is shown whatever it holds.
        if index > 0 && Region::at(target, region).own() != Ok(Ptr(region)) {
            break;
        }
        found.push(region);
    }
    Ok(found)
}

/// What a processor's control region says.
pub fn facts(target: &Target, region: u64) -> Vec<(&'static str, Value)> {
    let address = |read: Read<Ptr>| read.map(|Ptr(at)| Address(at)).into_value();
    let number = |read: Read<Uint>| read.map(|Uint(number)| number).into_value();
    let view = Region::at(target, region);
    let block = match target.offset_of(Region::STRUCT, "PrcbData | Prcb") {
        Ok(offset) => region.wrapping_add(offset),
        Err(_) => region,
    };
    let prcb = Block::at(target, block);
    let version = view.major().and_then(|major| Ok(format!("{major}.{}", view.minor()?)));
    vec![
        ("KPCR", Address(region).into_value()),
        ("KPRCB", Address(block).into_value()),
        ("Version", version.into_value()),
        ("GDT", address(view.gdt())),
        ("IDT", address(view.idt())),
        ("TSS", address(view.tss())),
        ("Current thread", address(prcb.current())),
        ("Next thread", address(prcb.next())),
        ("Idle thread", address(prcb.idle())),
        ("CR3", prcb.root().map(|Uint(root)| Address(root)).into_value()),
        ("Vendor", prcb.vendor().map(|Text(name)| text_of(&name)).into_value()),
        ("MHz", number(prcb.mhz())),
        ("CPU type", number(prcb.cpu_type())),
        ("Feature bits", prcb.features().map(|Uint(bits)| Address(bits)).into_value()),
    ]
}
