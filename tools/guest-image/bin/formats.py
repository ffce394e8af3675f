#!/usr/bin/env python3
"""formats.py DIRECTORY FORMAT... : writes the formats QEMU does not know, from mem.raw or mem.kdump and the guest's own /proc/iomem.

lime    mem.lime           LiME v1: one 32-byte header per "System RAM" range, then its bytes
avml1   mem.avml1          AVML v1: the same with ranges cut to whole pages
avml    mem.avml           AVML v2: blocks of at most 16 MiB, snappy framing, compressed length behind; zero blocks left out
lzo snappy zstd            mem.kdump-lzo, -snappy, -zstd: mem.kdump (plain form) with every page compressed anew
"""
import json
import mmap
import re
import struct
import sys
import zlib

BLOCK = 16 << 20


def map_file(path):
    with open(path, "rb") as f:
        return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)


def system_ram(directory):
    """Physical ranges [start, end) of the guest's RAM."""
    with open(f"{directory}/truth/proc/iomem") as f:
        for line in f:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) : System RAM", line)
            if m:
                yield int(m[1], 16), int(m[2], 16) + 1


def raw_start(directory):
    """Physical address of the first byte of mem.raw."""
    with open(f"{directory}/info.json") as f:
        return json.load(f)["ram_start"]


def write_zero_aware(out, data):
    """Writes data, leaving a hole where a megabyte is all zero."""
    for i in range(0, len(data), 1 << 20):
        part = data[i:i + (1 << 20)]
        if part.count(0) == len(part):
            out.seek(len(part), 1)
        else:
            out.write(part)
    out.truncate(out.tell())


def write_lime(raw, directory, name, page):
    base = raw_start(directory)
    with open(f"{directory}/{name}", "wb") as out:
        for start, end in system_ram(directory):
            start, end = -(-start // page) * page, end // page * page
            out.write(struct.pack("<4sIQQQ", b"EMiL", 1, start, end - 1, 0))
            for p in range(start, end, BLOCK):
                write_zero_aware(out, raw[p - base:min(end, p + BLOCK) - base])


def write_avml(raw, directory):
    import cramjam

    base = raw_start(directory)
    with open(f"{directory}/mem.avml", "wb") as out:
        for start, end in system_ram(directory):
            start, end = -(-start // 4096) * 4096, end // 4096 * 4096
            for p in range(start, end, BLOCK):
                data = raw[p - base:min(end, p + BLOCK) - base]
                if data.count(0) == len(data):
                    continue
                body = bytes(cramjam.snappy.compress(data))
                out.write(struct.pack("<4sIQQQ", b"AVML", 2, p, p + len(data) - 1, 0))
                out.write(body + struct.pack("<Q", len(body)))


def page_compressor(name):
    """The function that compresses one page, and makedumpfile's flag for it."""
    if name == "snappy":
        import cramjam

        return lambda page: bytes(cramjam.snappy.compress_raw(page)), 4
    if name == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(3).compress, 0x20
    import lzallright

    lzo = lzallright.LZOCompressor()
    return lambda page: bytes(lzo.compress(page)), 2


def recompress_kdump(directory, name):
    """disk_dump_header, sub-header, two bitmaps, then 24-byte page descriptors {offset, size, flags, page_flags}."""
    old = map_file(f"{directory}/mem.kdump")
    assert old[:8] == b"KDUMP   "
    fields = 8 + 4 + 65 * 6  # signature, version, utsname
    fields += -fields % 8 + 16  # struct timeval
    _, block, sub_header, bitmaps, _ = struct.unpack_from("<iiiII", old, fields)
    first_descriptor = (1 + sub_header + bitmaps) * block
    second_bitmap = old[(1 + sub_header) * block + bitmaps * block // 2:first_descriptor]
    pages = int.from_bytes(second_bitmap, "little").bit_count()
    compress, flag = page_compressor(name)
    header = bytearray(old[:first_descriptor])
    struct.pack_into("<i", header, fields, flag)
    written, descriptors, data = {}, [], bytearray()
    base = first_descriptor + 24 * pages
    for i in range(pages):
        offset, size, flags, page_flags = struct.unpack_from("<QIIQ", old, first_descriptor + 24 * i)
        if offset not in written:
            page = old[offset:offset + size]
            page = zlib.decompress(page) if flags & 1 else page
            small, new_flag = compress(page), flag
            if len(small) >= block:
                small, new_flag = page, 0
            written[offset] = (base + len(data), len(small), new_flag)
            data += small
        descriptors.append(struct.pack("<QIIQ", *written[offset], page_flags))
    with open(f"{directory}/mem.kdump-{name}", "wb") as out:
        out.write(bytes(header) + b"".join(descriptors))
        out.write(data)


def main():
    directory, wanted = sys.argv[1], sys.argv[2:]
    raw = map_file(f"{directory}/mem.raw")
    for name in wanted:
        if name == "lime":
            write_lime(raw, directory, "mem.lime", 1)
        elif name == "avml1":
            write_lime(raw, directory, "mem.avml1", 4096)
        elif name == "avml":
            write_avml(raw, directory)
        else:
            recompress_kdump(directory, name)


main()
