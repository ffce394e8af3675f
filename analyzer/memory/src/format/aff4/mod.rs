//! AFF4 volumes of pmem and of tools that follow the standard: a zip archive or a directory with metadata in
//! Turtle, compressed streams, and a map from physical addresses into them.
//!
//! Physical memory is the stream of the category `memory/physical`, or the only map there is. A map is
//! memory; an image stream holds a file (raw, ELF) that is opened next. `information.yaml` beside the stream
//! tells page table root and kernel base. Not read: maps over maps, encrypted streams, streams in other
//! volumes, bevies that are deflated once more.
//! Source: "AFF4 Standard v1.0" and the writers in c-aff4; its own `pmem.aff4` in the tests.

mod stream;
mod turtle;
mod volume;

use crate::format::{Layer, Opened, Refused, Yields, expect_magic, pmem};
use crate::image::Limits;
use std::path::Path;
use turtle::Graph;
use volume::Volume;

/// Name of the member with the metadata.
pub(crate) const METADATA: &str = "information.turtle";

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    expect_magic(layer, b"PK\x03\x04", "no zip signature at the start")
}

pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let volume = Volume::zip(layer.base, layer.limits)?;
    let metadata = volume.text(&format!("{}/{METADATA}", volume.urn), layer.limits.max_table);
    let metadata = metadata.ok_or(Refused::Foreign("a zip archive that is no AFF4 volume"))?;
    open_volume(&volume, &metadata, layer.limits)
}

/// Opens a directory volume.
pub(crate) fn open_directory(path: &Path, limits: &Limits) -> Result<Opened, Refused> {
    let volume = Volume::directory(path, limits)?;
    let metadata = volume.text(&format!("{}/{METADATA}", volume.urn), limits.max_table);
    open_volume(&volume, &metadata.ok_or("the metadata cannot be read")?, limits)
}

fn open_volume(volume: &Volume, metadata: &str, limits: &Limits) -> Result<Opened, Refused> {
    let graph = turtle::read(metadata, &volume.urn);
    let urn = physical(&graph).ok_or_else(|| {
        let streams =
            graph.order.iter().filter(|urn| graph.is_a(urn, "image") || graph.is_a(urn, "ImageStream"));
        format!("the volume holds no memory, only other streams: {}", streams.count())
    })?;
    let mut warnings = Vec::new();
    let (space, yields) = if graph.is_a(urn, "map") {
        (stream::map(volume, &graph, urn, limits, &mut warnings)?, Yields::Memory)
    } else {
        (stream::image(volume, &graph, urn, limits, &mut warnings)?, Yields::File)
    };
    let notes = ["information.yaml", "../information.yaml"].into_iter().find_map(|name| {
        let name = match name.strip_prefix("../") {
            Some(name) => format!("{}/{name}", volume.urn),
            None => format!("{urn}/{name}"),
        };
        pmem::hints(volume.text(&name, limits.max_table)?.as_bytes())
    });
    let opened = Opened::new(space).hints(notes.unwrap_or_default()).warnings(warnings);
    Ok(Opened { yields: Some(yields), ..opened })
}

/// The stream that is physical memory.
fn physical(graph: &Graph) -> Option<&str> {
    let mut order = graph.order.iter().map(String::as_str);
    let category = |urn: &&str| {
        let mut categories = graph.objects(urn, &["category"]);
        categories
            .any(|category| category.ends_with("memory/physical") || category.ends_with("memory:physical"))
    };
    let mut maps = graph.order.iter().map(String::as_str).filter(|urn| graph.is_a(urn, "map"));
    order.find(category).or_else(|| maps.next().filter(|_| maps.next().is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileSpace;
    use std::path::PathBuf;
    use std::sync::Arc;

    /// The checksum in the header of a PE file, and the one computed as Microsoft's `CheckSumMappedFile` does.
    fn pe_checksums(bytes: &[u8]) -> (u32, u32) {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let field = word(0x3c) as usize + 24 + 64;
        let mut sum = 0u32;
        for (index, pair) in bytes.chunks(2).enumerate() {
            let value = u32::from(pair[0]) | u32::from(*pair.get(1).unwrap_or(&0)) << 8;
            if index * 2 != field && index * 2 != field + 2 {
                sum += value;
                sum = (sum & 0xffff) + (sum >> 16);
            }
        }
        (word(field), sum + u32::try_from(bytes.len()).unwrap())
    }

    /// Truth: the linker's checksum inside the drivers that pmem carries in a volume of its own making.
    #[test]
    fn streams_of_a_real_volume_decode_to_files_whose_own_checksum_fits() {
        let path =
            PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/containers/pmem.aff4"));
        if !path.exists() {
            eprintln!("skipped: no {}", path.display());
            return;
        }
        let limits = Limits::default();
        let file: Arc<dyn crate::AddressSpace> = Arc::new(FileSpace::open(&path, &limits).unwrap());
        let volume = Volume::zip(&file, &limits).unwrap();
        assert_eq!(volume.urn, "aff4://8a037b54-4ffb-4d16-9504-3f46e6628549");
        let metadata = volume.text(&format!("{}/{METADATA}", volume.urn), 1 << 20).unwrap();
        let graph = turtle::read(&metadata, &volume.urn);
        for (name, size) in
            [("fcat.exe", 1_139_712), ("winpmem_x64.sys", 39_560), ("winpmem_x86.sys", 42_248)]
        {
            let mut warnings = Vec::new();
            let urn = format!("{}/{name}", volume.urn);
            let stream = stream::image(&volume, &graph, &urn, &limits, &mut warnings).unwrap();
            assert_eq!((stream.end(), warnings.len()), (size, 0));
            let bytes = stream.read_vec(0, size, 1 << 21).unwrap();
            let (told, computed) = pe_checksums(&bytes);
            assert!(told == 0 || told == computed, "{name}: {told:#x} {computed:#x}");
        }
        let error = crate::open(&path, &limits).unwrap_err().to_string();
        assert!(error.contains("the volume holds no memory, only other streams: 3"), "{error}");
    }
}
