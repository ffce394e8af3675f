#!/usr/bin/env python3
"""elf_section.py ELF SECTION OUT : copy one section of a little-endian ELF64 file (e.g. .BTF of a vmlinux), byte for byte."""
import struct
import sys

path, wanted, out = sys.argv[1:4]
with open(path, "rb") as f:
    header = f.read(64)
    if header[:6] != b"\x7fELF\x02\x01":
        sys.exit(f"{path}: not a little-endian ELF64 file")
    section_offset, = struct.unpack_from("<Q", header, 0x28)
    entry_size, count, names_index = struct.unpack_from("<HHH", header, 0x3A)

    def section(index):
        f.seek(section_offset + index * entry_size)
        name, _, _, _, offset, size = struct.unpack("<IIQQQQ", f.read(40))
        return name, offset, size

    _, names_offset, names_size = section(names_index)
    f.seek(names_offset)
    names = f.read(names_size)
    for index in range(count):
        name, offset, size = section(index)
        if names[name:names.index(b"\0", name)].decode() == wanted:
            f.seek(offset)
            with open(out, "wb") as o:
                o.write(f.read(size))
            break
    else:
        sys.exit(f"{path}: no section {wanted}")
