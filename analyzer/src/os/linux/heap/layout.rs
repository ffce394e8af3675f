//! How versions of glibc lay out the state of malloc. Distributions strip the types of their C library, so they are written here,
//! from malloc/malloc.c and malloc/arena.c of each release; which of them a process uses is found by what fits its memory.

/// Number of bins and a half: `NBINS * 2 - 2` words, in pairs of links.
pub(super) const BINS: u64 = 127;
/// `BINMAPSIZE` words of 4 bytes.
const BIN_MAP: u64 = 16;

/// `tcache_perthread_struct`: counts, then the heads of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tcache {
    /// Bytes of a count.
    pub(super) count: u64,
    /// Lists, each of chunks of one size.
    pub(super) small: u64,
    /// Lists of chunks of various sizes, behind them; only their heads are not protected.
    pub(super) large: u64,
    /// Whether a count says how many chunks may still come.
    pub(super) counts_free: bool,
}

/// What differs between versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    /// First and last release.
    pub(super) releases: (&'static str, &'static str),
    /// Whether `malloc_state` has `attached_threads`.
    pub(super) attached_threads: bool,
    /// Whether it has `have_fastchunks`.
    pub(super) have_fastchunks: bool,
    /// Whether it has fastbins.
    pub(super) fastbins: bool,
    /// Whether i386 aligns chunks to 16 bytes rather than 8.
    pub(super) wide_alignment: bool,
    /// Caches of threads.
    pub(super) tcache: Option<Tcache>,
    /// Whether links of lists without back links are mixed with their place (safe-linking).
    pub(super) protected: bool,
    /// Whether `heap_info` has `pagesize`.
    pub(super) page_size: bool,
    /// Whether the size of a mapped chunk leaves out its header.
    pub(super) mapped_without_header: bool,
}

const OLDEST: Version = Version {
    releases: ("2.10", "2.22"),
    attached_threads: false,
    have_fastchunks: false,
    fastbins: true,
    wide_alignment: false,
    tcache: None,
    protected: false,
    page_size: false,
    mapped_without_header: false,
};
const V2_23: Version = Version { releases: ("2.23", "2.25"), attached_threads: true, ..OLDEST };
const V2_26: Version = Version {
    releases: ("2.26", "2.26"),
    wide_alignment: true,
    tcache: Some(Tcache { count: 1, small: 64, large: 0, counts_free: false }),
    ..V2_23
};
const V2_27: Version = Version { releases: ("2.27", "2.29"), have_fastchunks: true, ..V2_26 };
const V2_30: Version = Version {
    releases: ("2.30", "2.31"),
    tcache: Some(Tcache { count: 2, small: 64, large: 0, counts_free: false }),
    ..V2_27
};
const V2_32: Version = Version { releases: ("2.32", "2.34"), protected: true, ..V2_30 };
const V2_35: Version = Version { releases: ("2.35", "2.41"), page_size: true, ..V2_32 };
const V2_42: Version = Version {
    releases: ("2.42", "2.42"),
    tcache: Some(Tcache { count: 2, small: 64, large: 12, counts_free: true }),
    ..V2_35
};
const V2_43: Version = Version {
    releases: ("2.43", "2.44"),
    have_fastchunks: false,
    fastbins: false,
    mapped_without_header: true,
    ..V2_42
};

/// All versions, oldest first.
pub(super) const VERSIONS: [Version; 9] = [OLDEST, V2_23, V2_26, V2_27, V2_30, V2_32, V2_35, V2_42, V2_43];

/// A version on a machine with words of so many bytes and chunks of such an alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// The version.
    pub(super) version: Version,
    /// Bytes of a word.
    pub(super) width: u64,
    /// `MALLOC_ALIGNMENT`.
    pub(super) align: u64,
}

impl Layout {
    /// All versions on machines with such words. ARM with 32 bits aligns to 8 bytes in every version.
    pub(super) fn all(width: u64) -> impl Iterator<Item = Self> {
        VERSIONS.into_iter().flat_map(move |version| {
            let aligns: &[u64] = match (width, version.wide_alignment) {
                (8, _) => &[16],
                (_, true) => &[16, 8],
                (_, false) => &[8],
            };
            aligns.iter().map(move |&align| Self { version, width, align })
        })
    }

    /// Bytes of a chunk's header, of which the first word belongs to the chunk before while that is in use.
    pub(super) fn header(&self) -> u64 {
        2 * self.width
    }

    /// Smallest chunk.
    pub(super) fn min_chunk(&self) -> u64 {
        (4 * self.width).next_multiple_of(self.align)
    }

    /// `NFASTBINS`.
    pub(super) fn fastbins(&self) -> u64 {
        match (self.version.fastbins, self.width, self.align) {
            (false, ..) => 0,
            (true, 4, 16) => 11,
            (true, ..) => 10,
        }
    }

    /// Place of the first fastbin in `malloc_state`.
    pub(super) fn first_fastbin(&self) -> u64 {
        // A lock and flags, both an int.
        (8 + if self.version.have_fastchunks { 4 } else { 0u64 }).next_multiple_of(self.width)
    }

    /// Place of the bins in `malloc_state`, behind `top` and `last_remainder`.
    pub(super) fn bins(&self) -> u64 {
        self.first_fastbin() + (self.fastbins() + 2) * self.width
    }

    /// Place of `next`, as seen from the bins.
    pub(super) fn next_from_bins(&self) -> u64 {
        BINS * 2 * self.width + BIN_MAP
    }

    /// Place of `system_mem`, as seen from the bins.
    pub(super) fn system_mem_from_bins(&self) -> u64 {
        self.next_from_bins() + if self.version.attached_threads { 3 } else { 2 } * self.width
    }

    /// Bytes of `malloc_state`.
    pub(super) fn state(&self) -> u64 {
        self.bins() + self.system_mem_from_bins() + 2 * self.width
    }

    /// Bytes of `heap_info`, after which chunks are aligned.
    pub(super) fn heap_info(&self) -> u64 {
        let words = if self.version.page_size { 5 } else { 4 };
        let used = words * self.width;
        (used + self.header()).next_multiple_of(self.align) - self.header()
    }

    /// `HEAP_MAX_SIZE`: size and alignment of the heaps of other arenas than the main one, unless huge pages are asked for.
    pub(super) fn heap_max(&self) -> u64 {
        if self.width == 8 { 64 << 20 } else { 1 << 20 }
    }

    /// The first address from `addr` on where a chunk may begin.
    pub(super) fn chunk_at_or_after(&self, addr: u64) -> u64 {
        let header = self.header();
        addr.saturating_add(header)
            .checked_next_multiple_of(self.align)
            .unwrap_or(u64::MAX)
            .wrapping_sub(header)
    }

    /// Size of the chunk with a thread's cache.
    pub(super) fn tcache_chunk(&self) -> Option<u64> {
        let tcache = self.version.tcache?;
        let bins = tcache.small + tcache.large;
        let bytes = (bins * tcache.count).next_multiple_of(self.width) + bins * self.width;
        Some((bytes + self.width).next_multiple_of(self.align))
    }

    /// Bytes of a chunk that its user may use.
    pub(super) fn usable(&self, size: u64, mapped: bool) -> u64 {
        let header = if mapped && !self.version.mapped_without_header { 2 } else { 1 };
        size.saturating_sub(header * self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By gdb on the debug information of Debian's C libraries: `sizeof(struct malloc_state)`, the places of `bins` and `system_mem`
    /// in it, `sizeof(heap_info)`, and `sizeof(tcache_perthread_struct)`.
    #[test]
    fn sizes_are_those_of_the_libraries() {
        let shown = |version, width, align| {
            let layout = Layout { version, width, align };
            let system_mem = layout.bins() + layout.system_mem_from_bins();
            (layout.state(), layout.bins(), system_mem, layout.heap_info(), layout.tcache_chunk())
        };
        let chunk = |bytes: u64, width: u64| Some((bytes + width).next_multiple_of(16));
        // 2.31-13+deb11u11, 2.36-9+deb12u14, 2.41-12+deb13u5 and 2.43-7 for amd64.
        assert_eq!(shown(V2_30, 8, 16), (2200, 112, 2184, 32, chunk(640, 8)));
        assert_eq!(shown(V2_35, 8, 16), (2200, 112, 2184, 48, chunk(640, 8)));
        assert_eq!(shown(V2_43, 8, 16), (2112, 24, 2096, 48, chunk(760, 8)));
        // 2.36-9+deb12u14 for i386.
        assert_eq!(shown(V2_35, 4, 16), (1116, 64, 1108, 24, chunk(384, 4)));
    }
}
