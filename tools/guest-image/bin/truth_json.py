#!/usr/bin/env python3
"""truth_json.py DIRECTORY OUT : packs the part of DIRECTORY/truth that the comparison reads into one JSON file.

One object; a key is a path below truth/, a value is the text of the file, or {"link": target} for a symbolic link. What all
members of a namespace share (mounts, sockets) is kept once, for the first process that has it.
"""
import json
import os
import re
import sys

GLOBAL = re.compile(r"clock|dmesg|kmsg|rtnl/.*|uts/.*|proc/(version|cmdline|stat|cpuinfo|iomem|modules|self)|proc/sys/kernel/.*|sys/kernel/vmcoreinfo")
PROCESS = re.compile(r"proc/\d+/(stat|status|comm|cmdline|maps|mountinfo|loginuid|exe|cwd|root|fd/\d+|fdinfo/\d+|ns/(net|mnt|pid|uts)|net/.*|task/\d+/stat)")


def main():
    root, out = os.path.join(sys.argv[1], "truth"), sys.argv[2]
    packed, mounts_seen = {}, set()
    paths = sorted(os.path.relpath(os.path.join(d, n), root) for d, dirs, files in os.walk(root) for n in files + dirs)
    for path in paths:
        full = os.path.join(root, path)
        if not (GLOBAL.fullmatch(path) or PROCESS.fullmatch(path)):
            continue
        if os.path.islink(full):
            packed[path] = {"link": os.readlink(full)}
        elif os.path.isfile(full):
            if path.endswith("/mountinfo"):
                namespace = os.readlink(os.path.join(os.path.dirname(full), "ns", "mnt"))
                if namespace in mounts_seen:
                    continue
                mounts_seen.add(namespace)
            with open(full, "rb") as f:
                packed[path] = f.read().decode()
    with open(out, "w") as f:
        json.dump(packed, f, indent=0, sort_keys=True)
        f.write("\n")


main()
