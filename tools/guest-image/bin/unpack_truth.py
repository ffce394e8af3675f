#!/usr/bin/env python3
"""unpack_truth.py DIRECTORY : DIRECTORY/truth.bin -> DIRECTORY/truth/, a mirror of what the guest reported.

Files become files and symbolic links become symbolic links with the same target text (never to be followed on the host:
/proc/1/fd/3 -> "socket:[1234]"). truth/MISSING lists what the guest could not open. The stream is described in guest/truth.c.
"""
import os
import re
import shutil
import sys

HEAD = re.compile(rb"\n@@(FILE|LINK|MISSING|RESTART|GT-TRUTH-END) (\d+)(?: ([^\n]*))?\n")


def records(data):
    start = b"@@GT-TRUTH-BEGIN v2"
    if not data.startswith(start):
        raise SystemExit("not a truth stream")
    position = len(start)
    while True:
        head = HEAD.match(data, position)
        if not head:
            raise SystemExit(f"truth stream is damaged at byte {position}: {data[position:position + 60]!r}")
        if head[1] == b"GT-TRUTH-END":
            return
        end = head.end() + int(head[2])
        yield head[1].decode(), head[3], data[head.end():end]
        position = end


def main():
    directory = os.fsencode(sys.argv[1])
    with open(os.path.join(directory, b"truth.bin"), "rb") as f:
        data = f.read()
    found = {}
    for kind, name, content in records(data):
        if kind == "RESTART":
            found.clear()
        else:
            found[name] = (kind, content)
    root = os.path.join(directory, b"truth")
    shutil.rmtree(root, ignore_errors=True)
    missing = []
    for name, (kind, content) in found.items():
        path = os.path.join(root, name.lstrip(b"/"))
        if kind == "MISSING":
            missing.append(name)
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if kind == "LINK":
            os.symlink(content, path)
        else:
            with open(path, "wb") as f:
                f.write(content)
    with open(os.path.join(root, b"MISSING"), "wb") as f:
        f.write(b"".join(m + b"\n" for m in missing))
    os.unlink(os.path.join(directory, b"truth.bin"))
    processes = sum(1 for n in found if re.fullmatch(rb"/proc/\d+/stat", n))
    print(f"{processes} processes, {len(found)} records, restarts {data.count(b'@@RESTART ')}")


main()
