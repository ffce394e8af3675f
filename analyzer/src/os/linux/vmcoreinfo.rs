//! VMCOREINFO: what a Linux kernel tells crash tools about itself, as text lines `KEY=value`.
//!
//! Linux writes it at boot into one page (kernel/crash_core.c, arch/x86/kernel/crash*.c) and exports it as an ELF note.
//! It holds the release, from v5.11 the build-id of vmlinux, and where KASLR put the kernel; so it is the best
//! evidence of what an image holds. It is a claim of the image like any other: it is checked before use.

use std::collections::HashMap;

use profile::names::BuildId;

/// Longest VMCOREINFO text: the kernel keeps it in one page.
pub(super) const MAX_LEN: usize = 4096;

/// A parsed VMCOREINFO text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmcoreInfo {
    values: HashMap<String, String>,
}

impl VmcoreInfo {
    /// Parses the text up to its first NUL. `None` unless it starts like VMCOREINFO and names a release.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..MAX_LEN).unwrap_or(bytes);
        let end =
            bytes.iter().position(|&b| b != b'\n' && !(b' '..=b'~').contains(&b)).unwrap_or(bytes.len());
        let text = std::str::from_utf8(bytes.get(..end)?).ok()?;
        if !text.starts_with("OSRELEASE=") {
            return None;
        }
        // The last line may be torn, so only whole lines count.
        let whole = text.get(..=text.rfind('\n')?)?;
        let pairs = whole.lines().filter_map(|line| line.split_once('='));
        let values: HashMap<String, String> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        values.contains_key("PAGESIZE").then_some(Self { values })
    }

    /// Kernel release, as `uname -r` shows it.
    #[must_use]
    pub fn release(&self) -> &str {
        self.values.get("OSRELEASE").map_or("", String::as_str)
    }

    /// GNU build-id of vmlinux; from Linux commit 0935288c6e00 (v5.11).
    #[must_use]
    pub fn build_id(&self) -> Option<BuildId> {
        BuildId::from_hex(self.values.get("BUILD-ID")?)
    }

    /// Virtual KASLR slide: run-time minus link-time address of the kernel image.
    #[must_use]
    pub fn kernel_offset(&self) -> Option<u64> {
        u64::from_str_radix(self.values.get("KERNELOFFSET")?, 16).ok()
    }

    /// `phys_base`: physical = virtual - `__START_KERNEL_map` + this, modulo 2^64, for run-time addresses of the image.
    #[must_use]
    pub fn phys_base(&self) -> Option<u64> {
        let text = self.values.get("NUMBER(phys_base)")?;
        text.parse::<i64>().map(i64::cast_unsigned).or_else(|_| text.parse::<u64>()).ok()
    }

    /// `kimage_voffset` of ARM64: physical = virtual - this, for run-time addresses of the image.
    #[must_use]
    pub fn image_offset(&self) -> Option<u64> {
        u64::from_str_radix(self.values.get("NUMBER(kimage_voffset)")?.strip_prefix("0x")?, 16).ok()
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> Option<u64> {
        self.values.get("PAGESIZE")?.parse().ok()
    }

    /// Width of a virtual address of ARM64, in each half.
    #[must_use]
    pub fn address_bits(&self) -> Option<u64> {
        self.values.get("NUMBER(VA_BITS)")?.parse().ok()
    }

    /// Whether page tables have five levels.
    #[must_use]
    pub fn five_levels(&self) -> Option<bool> {
        Some(self.values.get("NUMBER(pgtable_l5_enabled)")? != "0")
    }

    /// Run-time addresses of the symbols it names.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, u64)> {
        self.inside("SYMBOL(").filter_map(|(name, value)| Some((name, u64::from_str_radix(value, 16).ok()?)))
    }

    /// The symbols without those that name the object a pointer variable points to.
    pub fn object_symbols(&self) -> impl Iterator<Item = (&str, u64)> {
        let pointers = ["mem_section", "node_data", "log_buf", "mem_map"];
        self.symbols().filter(move |(name, _)| !pointers.contains(name))
    }

    /// Offsets `(struct, field, bytes)` it names.
    pub fn offsets(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.inside("OFFSET(").filter_map(|(name, value)| {
            let (structure, field) = name.split_once('.')?;
            Some((structure, field, value.parse().ok()?))
        })
    }

    /// Struct sizes in bytes it names.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.inside("SIZE(").filter_map(|(name, value)| Some((name, value.parse().ok()?)))
    }

    fn inside(&self, prefix: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().filter_map(move |(key, value)| {
            Some((key.strip_prefix(prefix)?.strip_suffix(')')?, value.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "OSRELEASE=6.1.0-56-cloud-amd64\nBUILD-ID=3b43fad5034874490492495d552c0af6a5fab235\nPAGESIZE=4096\n\
        SYMBOL(init_uts_ns)=ffffffffacbf9b60\nOFFSET(uts_namespace.name)=0\nSIZE(list_head)=16\n\
        NUMBER(phys_base)=-624951296\nNUMBER(pgtable_l5_enabled)=0\nNUMBER(VA_BITS)=48\nNUMBER(kimage_voffset)=0xffffda29ee600000\nKERNELOFFSET=2a000000\nNUMBER(torn";

    #[test]
    fn values_are_read_and_a_torn_last_line_is_not() {
        let info = VmcoreInfo::parse(TEXT.as_bytes()).expect("well formed");
        assert_eq!(info.release(), "6.1.0-56-cloud-amd64");
        assert_eq!(
            info.build_id().map(|id| id.to_string()).as_deref(),
            Some("3b43fad5034874490492495d552c0af6a5fab235")
        );
        assert_eq!(info.kernel_offset(), Some(0x2a00_0000));
        assert_eq!(info.phys_base(), Some((-624_951_296i64).cast_unsigned()));
        assert_eq!(info.five_levels(), Some(false));
        assert_eq!((info.address_bits(), info.page_size()), (Some(48), Some(4096)));
        assert_eq!(info.image_offset(), Some(0xffff_da29_ee60_0000));
        assert_eq!(info.symbols().collect::<Vec<_>>(), [("init_uts_ns", 0xffff_ffff_acbf_9b60)]);
        assert_eq!(info.offsets().collect::<Vec<_>>(), [("uts_namespace", "name", 0)]);
        assert_eq!(info.sizes().collect::<Vec<_>>(), [("list_head", 16)]);
    }

    #[test]
    fn other_text_is_refused() {
        assert_eq!(VmcoreInfo::parse(b"OSRELEASE="), None);
        assert_eq!(VmcoreInfo::parse(b"OSRELEASE=6.1\nfoo\n\0"), None);
        assert_eq!(VmcoreInfo::parse(b""), None);
    }
}
