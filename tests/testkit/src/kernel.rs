//! The kernel itself: its image, the debugger's data block, the page shared with users, the low stub and the processor's blocks.

use crate::machine::{Machine, SpaceId};
use crate::pe::{CODE, DATA, Image, READ_ONLY, Section};
use crate::physical::PAGE;
use crate::pool::Kind;

/// Physical address near which the kernel's image stands.
const KERNEL_PHYSICAL: u64 = 0x0100_0000;

/// `_KDDEBUGGER_DATA64` (wdbgexts.h): offset of each field and the variable whose address it holds.
const DEBUGGER_DATA: &[(u64, &str)] = &[
    (0x20, "RtlpBreakWithStatusInstruction"),
    (0x38, "KiCallUserMode"),
    (0x48, "PsLoadedModuleList"),
    (0x50, "PsActiveProcessHead"),
    (0x58, "PspCidTable"),
    (0x60, "ExpSystemResourcesList"),
    (0x68, "ExpPagedPoolDescriptor"),
    (0x70, "ExpNumberOfPagedPools"),
    (0x78, "KeTimeIncrement"),
    (0x80, "KeBugCheckCallbackListHead"),
    (0x88, "KiBugCheckData"),
    (0x90, "IopErrorLogListHead"),
    (0x98, "ObpRootDirectoryObject"),
    (0xA0, "ObpTypeObjectType"),
    (0xA8, "MmSystemCacheStart"),
    (0xB0, "MmSystemCacheEnd"),
    (0xB8, "MmSystemCacheWs"),
    (0xC0, "MmPfnDatabase"),
    (0xC8, "MmSystemPtesStart"),
    (0xD0, "MmSystemPtesEnd"),
    (0xD8, "MmSubsectionBase"),
    (0xE0, "MmNumberOfPagingFiles"),
    (0xE8, "MmLowestPhysicalPage"),
    (0xF0, "MmHighestPhysicalPage"),
    (0xF8, "MmNumberOfPhysicalPages"),
    (0x100, "MmMaximumNonPagedPoolInBytes"),
    (0x108, "MmNonPagedSystemStart"),
    (0x110, "MmNonPagedPoolStart"),
    (0x118, "MmNonPagedPoolEnd"),
    (0x120, "MmPagedPoolStart"),
    (0x128, "MmPagedPoolEnd"),
    (0x130, "MmPagedPoolInfo"),
    (0x140, "MmSizeOfPagedPoolInBytes"),
    (0x190, "MmStandbyPageListHead"),
    (0x198, "MmModifiedPageListHead"),
    (0x1B8, "PoolTrackTable"),
    (0x1C0, "NonPagedPoolDescriptor"),
    (0x1C8, "MmHighestUserAddress"),
    (0x1D0, "MmSystemRangeStart"),
    (0x1D8, "MmUserProbeAddress"),
    (0x1E0, "KdPrintDefaultCircularBuffer"),
    (0x200, "MmLoadedUserImageList"),
    (0x208, "NtBuildLab"),
    (0x218, "KiProcessorBlock"),
    (0x220, "MmUnloadedDrivers"),
    (0x228, "MmLastUnloadedDriver"),
    (0x268, "CmNtCSDVersion"),
    (0x270, "MmPhysicalMemoryBlock"),
    (0x2D8, "KeLoaderBlock"),
];

/// Sizes and offsets at the end of the block: place, struct, member (none: its size).
const DEBUGGER_OFFSETS: &[(u64, &str, &str)] = &[
    (0x2A8, "_EPROCESS", ""),
    (0x2AA, "_EPROCESS", "Peb"),
    (0x2AC, "_EPROCESS", "InheritedFromUniqueProcessId"),
    (0x2AE, "_EPROCESS", "Pcb.DirectoryTableBase"),
    (0x2B0, "_KPRCB", ""),
    (0x2E0, "_KPCR", ""),
    (0x2E2, "_KPCR", "Self|SelfPcr"),
    (0x2E4, "_KPCR", "CurrentPrcb|Prcb"),
    (0x2E6, "_KPCR", "Prcb|PrcbData"),
];

/// Value of `KiWaitNever`.
pub(crate) const KI_WAIT_NEVER: u64 = 0x5A17_C3D2_08B4_9E6B;
/// Value of `KiWaitAlways`.
pub(crate) const KI_WAIT_ALWAYS: u64 = 0x00C8_37B9_D15E_62A4;

/// `PAGE_*` constants (winnt.h) by protection index: plain, not cached, guarded, write-combined.
const PROTECTIONS: [u32; 32] = {
    let plain = [0x01, 0x02, 0x10, 0x20, 0x04, 0x08, 0x40, 0x80];
    let modifiers = [0, 0x200, 0x100, 0x400];
    let mut table = [0x01; 32];
    let mut index = 0;
    while index < 32 {
        if index % 8 != 0 {
            table[index] = plain[index % 8] | modifiers[index / 8];
        }
        index += 1;
    }
    table
};

impl Machine {
    /// Maps the kernel with large pages and writes its headers.
    pub(crate) fn make_kernel_image(&mut self) {
        let base = self.system.kernel_base;
        let last = self.system.layouts.profile().symbols().map(|symbol| symbol.value).max().unwrap_or(0);
        let end =
            u32::try_from(last).expect("offsets of symbols fit an image").next_multiple_of(0x1000) + 0x1000;
        // The sections of real kernels by name, at made-up places: code in front, data in the middle.
        let section = |name, from: u32, to: u32, flags| Section { name, rva: from, size: to - from, flags };
        let sections = vec![
            section(".text", 0x1000, 0x2000, CODE),
            section("INITKDBG", 0x2000, 0x3000, CODE),
            section("MISYSPTE", 0x3000, 0x4000, CODE),
            section("POOLMI", 0x4000, 0x5000, CODE),
            section("POOLCODE", 0x5000, 0x6000, CODE),
            section("PAGEKD", 0x6000, 0x7000, CODE),
            section("PAGE", 0x7000, 0x8000, CODE),
            section(".rdata", 0x8000, 0x9000, READ_ONLY),
            section(".data", 0x9000, end, DATA),
        ];
        let exported = |name: &str| {
            let prefix =
                ["Ex", "Io", "Ke", "Mm", "Ob", "Ps", "Zw"].iter().any(|prefix| name.starts_with(prefix));
            prefix && name.as_bytes().get(2).is_some_and(u8::is_ascii_uppercase)
        };
        let exports: Vec<(String, u32)> = self
            .system
            .layouts
            .profile()
            .symbols()
            .filter(|symbol| exported(symbol.name))
            .map(|symbol| (symbol.name.to_owned(), u32::try_from(symbol.value).expect("within the image")))
            .collect();
        let image = Image {
            name: "ntoskrnl.exe".to_owned(),
            base,
            is_64: self.system.is_64(),
            timestamp: 0x4A5B_C600,
            entry: 0x1000,
            subsystem: 1,
            dll: false,
            sections,
            code: Vec::new(),
            exports,
            pdb: Some(self.system.pdb.clone()),
        };
        let made = image.make();
        self.kernel_size = u64::from(made.size);
        let large = self.tables.paging.large_page();
        let start = base / large * large;
        let len = (base + u64::from(made.size)).next_multiple_of(large) - start;
        self.tables.map_large(&mut self.physical, start, len, KERNEL_PHYSICAL);
        for (rva, bytes) in made.parts {
            self.write(SpaceId::SYSTEM, base + u64::from(rva), &bytes);
        }
        self.set_variable("PsNtosImageBase", base);
    }

    /// The page shared with every process.
    pub(crate) fn make_shared_data(&mut self) {
        let at = self.system.shared_data();
        self.ensure(SpaceId::SYSTEM, at, PAGE);
        let (major, minor, build) = self.system.version;
        let now = self.now;
        let mut record = self.at("_KUSER_SHARED_DATA", at);
        record
            .set("NtMajorVersion", u64::from(major))
            .set("NtMinorVersion", u64::from(minor))
            .set_if("NtBuildNumber", u64::from(build))
            .set("NtProductType", 1)
            .set("ProductTypeIsValid", 1)
            .set_if("TickCountQuad", 0x4_0000)
            .set("TickCountLowDeprecated|TickCountLow", 0x4_0000)
            .set("TickCountMultiplier", 0x0FA0_0000);
        // 20 minutes after the start of the machine.
        for (path, value) in [("SystemTime", now), ("InterruptTime", 20 * 60 * 10_000_000)] {
            record
                .set(&format!("{path}.LowPart"), value & 0xFFFF_FFFF)
                .set(&format!("{path}.High1Time"), value >> 32)
                .set(&format!("{path}.High2Time"), value >> 32);
        }
        let root = record.member("NtSystemRoot");
        self.write_utf16(SpaceId::SYSTEM, root, "C:\\Windows");
    }

    /// The block that debuggers read: `KdDebuggerDataBlock`.
    pub(crate) fn make_debugger_data(&mut self) {
        let at = self.symbol("KdDebuggerDataBlock");
        // XP, 7 and 10 have blocks of these sizes.
        let size: u32 = match self.system.version {
            (5, ..) => 0x290,
            (6, ..) => 0x340,
            _ => 0x380,
        };
        let head = self.symbol_if("KdpDebuggerDataListHead").unwrap_or(at);
        let mut block = vec![0; size as usize];
        let mut put = |offset: u64, bytes: &[u8]| {
            let offset = usize::try_from(offset).expect("a small offset");
            if let Some(room) = block.get_mut(offset..offset + bytes.len()) {
                room.copy_from_slice(bytes);
            }
        };
        // The list is one of 32-bit links, padded, on 32-bit systems.
        let pointer = usize::try_from(self.pointer_size()).expect("4 or 8");
        put(0, &head.to_le_bytes()[..pointer]);
        put(pointer as u64, &head.to_le_bytes()[..pointer]);
        put(0x10, b"KDBG");
        put(0x14, &size.to_le_bytes());
        put(0x18, &self.system.kernel_base.to_le_bytes());
        put(0x138, &PAGE.to_le_bytes());
        for &(offset, symbol) in DEBUGGER_DATA {
            // 64-bit fields of 32-bit systems hold sign-extended addresses.
            let address = self.symbol_if(symbol).unwrap_or(0);
            let extended = if pointer == 4 { address | 0xFFFF_FFFF_0000_0000 } else { address };
            put(offset, &extended.to_le_bytes());
        }
        for &(offset, name, member) in DEBUGGER_OFFSETS {
            let value = match member {
                "" => self.system.layouts.size(name),
                _ => self.system.layouts.offset(name, member),
            };
            put(offset, &u16::try_from(value).unwrap_or(0).to_le_bytes());
        }
        if head != at {
            self.write_pointer(SpaceId::SYSTEM, head, at);
            self.write_pointer(SpaceId::SYSTEM, head + self.pointer_size(), at);
        }
        self.write(SpaceId::SYSTEM, at, &block);
        if let Some(version) = self.symbol_if("KdVersionBlock")
            && self.system.layouts.size_if("_DBGKD_GET_VERSION64").is_some()
        {
            let (base, build) = (self.system.kernel_base, u64::from(self.system.version.2));
            // A free build.
            self.at("_DBGKD_GET_VERSION64", version)
                .set("MajorVersion", 0xF)
                .set("MinorVersion", build)
                .set("KernBase", base);
        }
        if let Some(lab) = self.symbol_if("NtBuildLab") {
            let text = format!("{}\0", self.system.build_lab);
            self.write(SpaceId::SYSTEM, lab, text.as_bytes());
        }
        if let Some(table) = self.symbol_if("MmProtectToValue") {
            for (index, value) in (0u64..).zip(PROTECTIONS) {
                self.write(SpaceId::SYSTEM, table + 4 * index, &value.to_le_bytes());
            }
        }
        if let Some(number) = self.symbol_if("NtBuildNumber") {
            // The high nibble says free build.
            self.write(SpaceId::SYSTEM, number, &(self.system.version.2 | 0xF000_0000).to_le_bytes());
        }
    }

    /// Hides the debugger's block the way Windows 8 and later do until a debugger comes.
    pub fn encode_debugger_data(&mut self) {
        let at = self.symbol("KdDebuggerDataBlock");
        let flag = self.symbol("KdpDataBlockEncoded");
        self.write(SpaceId::SYSTEM, flag, &[1]);
        for offset in (0..0x380).step_by(8) {
            let bytes = self.read(SpaceId::SYSTEM, at + offset, 8);
            let plain = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            let hidden = encode(plain, KI_WAIT_NEVER, KI_WAIT_ALWAYS, flag);
            self.write(SpaceId::SYSTEM, at + offset, &hidden.to_le_bytes());
        }
    }

    /// The page below 1 MiB that starts further processors, with the system's page table in it (x64).
    pub(crate) fn make_low_stub(&mut self) {
        if !self.system.is_64() {
            return;
        }
        let at = if self.system.version.0 >= 10 { 0x1_3000 } else { 0x2000 };
        // PROCESSOR_START_BLOCK: a near jump, then the completion flag; the kernel's entry and CR3 follow.
        self.physical.write(at, &0x0000_0001_0006_00E9u64.to_le_bytes());
        let entry =
            self.symbol_if("KiProcessorStartup|KiSystemStartup").unwrap_or(self.system.kernel_base + 0x1000);
        self.physical.write(at + 0x70, &entry.to_le_bytes());
        let dtb = self.dtb(SpaceId::SYSTEM);
        self.physical.write(at + 0xA0, &dtb.to_le_bytes());
    }

    /// Processor control region and block of the only processor.
    pub(crate) fn make_processor(&mut self) {
        let size = self.system.layouts.size("_KPCR");
        let at = if self.system.is_64() {
            self.symbol_if("KiInitialPCR").unwrap_or_else(|| self.allocate(Kind::NonPaged, *b"KPCR", size))
        } else {
            const XP_KPCR: u64 = 0xFFDF_F000;
            self.ensure(SpaceId::SYSTEM, XP_KPCR, size);
            XP_KPCR
        };
        let dtb = self.dtb(SpaceId::SYSTEM);
        let (block, pointer) =
            if self.system.is_64() { ("Prcb", "CurrentPrcb") } else { ("PrcbData", "Prcb") };
        let prcb = self.at("_KPCR", at).member(block);
        self.at("_KPCR", at)
            .set("Self|SelfPcr", at)
            .set(pointer, prcb)
            .set("MajorVersion", 1)
            .set("MinorVersion", 1)
            .set_if("IdtBase|IDT", at + 0x800)
            .set_if("GdtBase|GDT", at + 0x400);
        self.at("_KPRCB", prcb)
            .set("MajorVersion", 1)
            .set("MinorVersion", 1)
            .set_if("MHz", 2400)
            .set_if("ProcessorState.SpecialRegisters.Cr3", dtb);
        let vendor = self.at("_KPRCB", prcb).member("VendorString");
        self.write(SpaceId::SYSTEM, vendor, b"GenuineIntel\0");
        let block = self.symbol("KiProcessorBlock");
        self.write_pointer(SpaceId::SYSTEM, block, prcb);
        self.set_variable32("KeNumberProcessors", 1);
        self.prcb = prcb;
    }

    /// Marks the running thread of the processor.
    pub(crate) fn finish_processor(&mut self) {
        let Some(thread) = self.processes.iter().find_map(|process| process.threads.first().copied()) else {
            return;
        };
        let prcb = self.prcb;
        self.at("_KPRCB", prcb).set("CurrentThread", thread).set("IdleThread", thread);
    }

    /// Page frame database: one entry per frame that is in use.
    pub(crate) fn make_pfn_database(&mut self) {
        let entry = self.system.layouts.size("_MMPFN");
        let base = self.system.pfn_database;
        // Making the database takes frames, which need entries themselves.
        let mut covered = 0;
        loop {
            // As much as the machine will have in the end.
            let end = self.memory_end() / PAGE;
            if covered >= end {
                break;
            }
            for frame in covered..end {
                self.ensure(SpaceId::SYSTEM, base + frame * entry, entry);
            }
            covered = end;
        }
        self.set_variable("MmPfnDatabase", base);
    }

    /// Fills the page frame database.
    pub(crate) fn fill_pfn_database(&mut self) {
        use crate::physical::Use;
        let entry = self.system.layouts.size("_MMPFN");
        let base = self.system.pfn_database;
        let uses: Vec<(u64, Use)> = self.physical.uses.iter().map(|(&frame, &used)| (frame, used)).collect();
        let (paging, self_index) = (self.tables.paging, self.tables.self_index);
        for (frame, used) in uses {
            let at = base + frame * entry;
            let (pte, pte_address, location, prototype) = match used {
                Use::Root { space } => {
                    let owner = self
                        .processes
                        .iter()
                        .find(|process| process.space.0 == space)
                        .map_or(0, |p| p.eprocess);
                    self.at("_MMPFN", at).set("u1.Flink", owner);
                    let root = frame * PAGE;
                    (root, paging.self_entry(self_index), 6, 0)
                }
                Use::Mapped { pte, va, .. } => (pte, paging.pte_address(self_index, va), 6, 0),
                Use::Standby { pte, va, .. } => (pte, paging.pte_address(self_index, va), 2, 0),
                Use::Prototype { pte, va } => (pte, va, 6, 1),
            };
            self.at("_MMPFN", at)
                .set("u2.ShareCount", 1)
                .set("u3.ReferenceCount|u3.e2.ReferenceCount", 1)
                .set("PteAddress", pte_address)
                .set("u3.e1.PageLocation", location)
                .set_if("u4.PteFrame", pte / PAGE)
                .set("u4.PrototypePte|u3.e1.PrototypePte", prototype);
        }
    }

    /// Maps pages of an image and writes its headers. Returns its size.
    pub(crate) fn load_image(&mut self, space: SpaceId, at: u64, image: &Image) -> u64 {
        let made = image.make();
        for (rva, bytes) in &made.parts {
            self.ensure(space, at + u64::from(*rva), bytes.len() as u64);
            self.write(space, at + u64::from(*rva), bytes);
        }
        u64::from(made.size)
    }
}

/// The inverse of decoding: byte swap, two exclusive ors and a rotation.
pub(crate) fn encode(plain: u64, never: u64, always: u64, flag: u64) -> u64 {
    let rotation = u32::try_from(never & 0x3F).expect("six bits");
    ((plain ^ always).swap_bytes() ^ flag).rotate_right(rotation) ^ never
}
