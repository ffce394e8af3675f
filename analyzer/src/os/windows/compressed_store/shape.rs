//! Where the store manager's structures have their fields, by the number of the build: no symbols of Microsoft have these types.
//!
//! Source: public research, of which only facts are used. Sardar and Stancill, "Extracting Compressed Pages from the Windows 10 Virtual
//! Store" (2019), with the offsets that Mandiant published for builds 14393 to 18362; those that MemProcFS knows of later ones.
//! Microsoft's own symbols confirm what their names tell: nodes of 4096 bytes (`B_TREE<SM_PAGE_KEY, ..., 4096, ...>`), and that
//! `SmStReleaseVirtualRegion`, to which `ST_DATA_MGR` passes its pointer, wants the `SMKM_STORE`.

use memory::Codec;

/// How to get from `SmGlobals` to the store manager (`SMKM_STORE_MGR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    /// It begins there.
    There,
    /// A pointer at an offset leads to a place inside it, which is so many bytes behind its start.
    Behind {
        /// Offset of the pointer.
        pointer: u64,
        /// Bytes between the manager's start and the place.
        inside: u64,
    },
}

/// Offsets in bytes. Those of members of `ST_DATA_MGR` are counted from the `SMKM_STORE` it is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bytes of a pointer.
    pub(super) width: u64,
    /// The way to the manager, which begins with 32 pointers to arrays of 32 `SMKM_STORE_METADATA`.
    pub(super) manager: Manager,
    /// `SMKM_STORE_MGR.sGlobalTree`: its root.
    pub(super) global_tree: u64,
    /// Bytes of `SMKM_STORE_METADATA`, which begins with the address of the store.
    pub(super) metadata: u64,
    /// `ST_DATA_MGR.sLocalTree`: its root.
    pub(super) local_tree: u64,
    /// `ST_DATA_MGR.sChunkMetadata`.
    pub(super) chunks: u64,
    /// Bytes of an entry of an array of chunks, which begins with the address of the chunk.
    pub(super) chunk_entry: u64,
    /// `ST_DATA_MGR.pSmkmStore`: the store's own address. `dwRegionSizeMask` and `dwRegionIndexMask` follow it.
    pub(super) own_store: u64,
    /// `ST_DATA_MGR.wCompressionFormat`, where it is known.
    pub(super) format: Option<u64>,
    /// `SMKM_STORE.pRegionPointerArray`.
    pub(super) regions: u64,
    /// `SMKM_STORE.pStoreOwnerProcess`.
    pub(super) owner: u64,
    /// How pages are compressed.
    pub(super) codec: Codec,
    /// Bits of a page key that are used: those of the page, or those of the pagefile's number too.
    pub(super) key_bits: u32,
}

impl Shape {
    /// The offsets of a build, by whether its pointers have 8 bytes; `None` for builds that nobody described.
    pub(super) fn of(build: u32, wide: bool) -> Option<Self> {
        let (format, regions, owner) = match (build, wide) {
            (14393, true) => (Some(0x3d0), 0x17a8, 0x1918),
            (15063, true) => (Some(0x3d0), 0x1828, 0x1988),
            (16299..=18363, true) => (Some(0x3e0), 0x1848, 0x19a8),
            (19041..=20348 | 22000 | 22621 | 22631, true) => (Some(0x3e0), 0x1848, 0x19b8),
            (26100 | 26200, true) => (None, 0x1b70, 0x1d08),
            (14393, false) => (Some(0x220), 0x1124, 0x1204),
            (15063, false) => (Some(0x220), 0x1174, 0x1244),
            (16299..=18363, false) => (Some(0x224), 0x1184, 0x1254),
            (19041..=19045, false) => (Some(0x224), 0x1184, 0x125c),
            _ => return None,
        };
        let manager = match build {
            22621 | 22631 => Manager::Behind { pointer: 8, inside: 0x7a8 },
            26100.. => Manager::Behind { pointer: 0x10, inside: 0xc30 },
            _ => Manager::There,
        };
        let is_new = build >= 26100;
        let data = if wide { 0x50u64 } else { 0x38 };
        let pick = |of_64: u64, of_32: u64| if wide { of_64 } else { of_32 };
        Some(Self {
            width: pick(8, 4),
            manager,
            global_tree: pick(0x1c0, 0xf4),
            metadata: pick(0x28, 0x14),
            local_tree: data,
            chunks: data.wrapping_add(pick(0xc0, 0x6c)),
            chunk_entry: pick(16, if build == 14393 { 8 } else { 12 }),
            own_store: data.wrapping_add(pick(0x320, 0x1c0)),
            format: format.map(|offset| data.wrapping_add(offset)),
            regions,
            owner,
            codec: if is_new { Codec::Lz4 } else { Codec::Xpress },
            key_bits: if is_new { 28 } else { 32 },
        })
    }
}
