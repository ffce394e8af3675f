//! Pages as the kernel's compressors leave them (crypto/{lzo,lzo-rle,lz4,zstd,deflate}.c; drivers/block/zram/backend_*.c).

use memory::Codec;
use object::{Absent, Read};

use super::PAGE;

/// The format of a compressor.
pub(super) fn algorithm(name: &str) -> Read<Codec> {
    match name {
        "lzo" | "lzo-rle" => Ok(Codec::LzoRle),
        "lz4" | "lz4hc" => Ok(Codec::Lz4),
        "zstd" => Ok(Codec::Zstd),
        "deflate" => Ok(Codec::Deflate),
        _ => Err(Absent::Malformed("is compressed with an algorithm that is not read")),
    }
}

/// The page.
pub(super) fn decompress(codec: Codec, stored: &[u8]) -> Read<Vec<u8>> {
    let mut page = vec![0; PAGE];
    memory::decompress(codec, stored, &mut page)
        .map(|()| page)
        .ok_or(Absent::Malformed("cannot be decompressed"))
}
