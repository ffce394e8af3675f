//! The Windows systems that can be made: where things stand that no profile says.
//!
//! Fixed addresses are those of real systems: KUSER_SHARED_DATA and the XP KPCR (ntddk.h), kernel, pools and page frame
//! database in the ranges that each release uses.

use profile::Profile;

use crate::layouts::Layouts;
use crate::paging::Paging;

/// Identity of a module's debug file.
#[derive(Debug, Clone)]
pub struct Pdb {
    /// File name, such as `ntkrnlmp.pdb`.
    pub name: String,
    /// 32 hexadecimal digits of the GUID in the order they are printed, then the age.
    pub guid_age: String,
}

impl Pdb {
    /// A debug file by name and printed GUID with age.
    pub fn new(name: &str, guid_age: &str) -> Self {
        Self { name: name.to_owned(), guid_age: guid_age.to_owned() }
    }
}

/// A driver with symbols.
pub struct Companion {
    /// Its symbols.
    pub profile: Profile,
    /// Its debug file.
    pub pdb: Pdb,
}

/// One release of Windows.
pub struct System {
    /// Layouts and symbols of the kernel.
    pub layouts: Layouts,
    /// Kind of page tables.
    pub paging: Paging,
    /// Version: major, minor, build.
    pub version: (u32, u32, u32),
    /// Text at `NtBuildLab`.
    pub build_lab: &'static str,
    /// Debug file of the kernel.
    pub pdb: Pdb,
    /// Address of the kernel's image.
    pub kernel_base: u64,
    /// Physical address of the system's top page table; absent: anywhere.
    pub dtb: Option<u64>,
    /// Entry of the top table that maps the table itself.
    pub self_map: u64,
    /// First address for the non-paged pool.
    pub nonpaged_pool: u64,
    /// First address for the paged pool.
    pub paged_pool: u64,
    /// Address of the page frame database.
    pub pfn_database: u64,
    /// First address for images of drivers.
    pub drivers: u64,
    /// Byte at `ObHeaderCookie`, where the kernel has it.
    pub cookie: u8,
    /// The network driver; absent: without symbols and tables.
    pub tcpip: Option<Companion>,
    /// Where connections keep their process, if not where the build does.
    pub other_owner: Option<u64>,
}

impl System {
    /// Windows 7 x64 (6.1.7600), from a Rekall profile.
    pub fn windows_7(profile: Profile, guid_age: &str) -> Self {
        Self {
            layouts: Layouts::new(profile),
            paging: Paging::X64,
            version: (6, 1, 7600),
            build_lab: "7600.16385.amd64fre.win7_rtm.090713-1255",
            pdb: Pdb::new("ntkrnlmp.pdb", guid_age),
            kernel_base: 0xFFFF_F800_0261_F000,
            dtb: Some(0x18_7000),
            self_map: 0x1ED,
            nonpaged_pool: 0xFFFF_FA80_0180_0000,
            paged_pool: 0xFFFF_F8A0_0000_0000,
            pfn_database: 0xFFFF_FA80_0000_0000,
            drivers: 0xFFFF_F880_0100_0000,
            cookie: 0,
            tcpip: None,
            other_owner: None,
        }
    }

    /// Windows 10 x64 (10.0.19041), from a profile.
    pub fn windows_10(profile: Profile, guid_age: &str) -> Self {
        Self {
            layouts: Layouts::new(profile),
            paging: Paging::X64,
            version: (10, 0, 19041),
            build_lab: "19041.1.amd64fre.vb_release.191206-1406",
            pdb: Pdb::new("ntkrnlmp.pdb", guid_age),
            kernel_base: 0xFFFF_F804_1260_0000,
            dtb: Some(0x1A_D000),
            self_map: 0x163,
            nonpaged_pool: 0xFFFF_968C_4B60_0000,
            paged_pool: 0xFFFF_BB03_7A80_0000,
            pfn_database: 0xFFFF_E300_0000_0000,
            drivers: 0xFFFF_F804_1600_0000,
            cookie: 0x5C,
            tcpip: None,
            other_owner: None,
        }
    }

    /// Windows 11 x64 (10.0.22000), from a profile.
    pub fn windows_11(profile: Profile, guid_age: &str) -> Self {
        Self {
            version: (10, 0, 22000),
            build_lab: "22000.1.amd64fre.co_release.210604-1628",
            kernel_base: 0xFFFF_F802_3A00_0000,
            dtb: Some(0x1A_E000),
            self_map: 0x1A4,
            drivers: 0xFFFF_F802_3D60_0000,
            cookie: 0xE7,
            ..Self::windows_10(profile, guid_age)
        }
    }

    /// Windows XP SP3 with PAE (5.1.2600), from a profile.
    pub fn windows_xp_pae(profile: Profile, guid_age: &str) -> Self {
        Self {
            layouts: Layouts::new(profile),
            paging: Paging::Pae,
            version: (5, 1, 2600),
            build_lab: "2600.xpsp.080413-2111",
            pdb: Pdb::new("ntkrpamp.pdb", guid_age),
            kernel_base: 0x804D_7000,
            dtb: Some(0x33_E000),
            self_map: 0,
            nonpaged_pool: 0x8180_0000,
            paged_pool: 0xE100_0000,
            pfn_database: 0x8100_0000,
            drivers: 0xF840_0000,
            cookie: 0,
            tcpip: None,
            other_owner: None,
        }
    }

    /// Windows XP SP3 without PAE, from a profile.
    pub fn windows_xp(profile: Profile, guid_age: &str) -> Self {
        Self {
            paging: Paging::X86,
            pdb: Pdb::new("ntoskrnl.pdb", guid_age),
            dtb: Some(0x3_9000),
            ..Self::windows_xp_pae(profile, guid_age)
        }
    }

    /// The same system on a processor with five levels of page tables.
    #[must_use]
    pub fn with_five_levels(self) -> Self {
        Self { paging: Paging::La57, ..self }
    }

    /// Whether pointers have 8 bytes.
    pub fn is_64(&self) -> bool {
        self.layouts.pointer_size() == 8
    }

    /// Address of KUSER_SHARED_DATA in the kernel's half.
    pub fn shared_data(&self) -> u64 {
        if self.is_64() { 0xFFFF_F780_0000_0000 } else { 0xFFDF_0000 }
    }

    /// Address of KUSER_SHARED_DATA in every process.
    pub const USER_SHARED_DATA: u64 = 0x7FFE_0000;
}
