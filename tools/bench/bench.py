#!/usr/bin/env python3
"""Measures rekal on a real kernel and a real image, and the peers it finds on this machine in the same run.

    tools/bench/bench.py --vmlinux VMLINUX [--system-map MAP] --image IMAGE [--pdb PDB] [--repeat 5] [--rekal PATH]
    tools/bench/bench.py --windows win10 [--scratch DIR] (needs the test data and 4 GiB of room, in memory too)

Prints CPU seconds (user + system), wall seconds and peak resident memory of each command: the best of the repetitions,
because CPU seconds on a shared machine only ever err upward. Figures depend on the machine; compare ratios of one run.
Peers are used where installed: `pahole` (walks the same DWARF), `vol` (Volatility 3). Nothing is asserted.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def measure(command, repeat):
    """Best CPU seconds, best wall seconds, peak memory in MB and the worst exit code of `repeat` runs."""
    cpu, wall, peak, code = [], [], 0, 0
    for _ in range(repeat):
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall.append(time.monotonic() - start)
        cpu.append(usage.ru_utime + usage.ru_stime)
        peak = max(peak, usage.ru_maxrss / 1024)
        code = max(code, abs(process.returncode))
    return min(cpu), min(wall), peak, code


def show(name, figures, base=None):
    cpu, wall, peak, code = figures
    ratio = f"  {cpu / base:6.1f}x the CPU of rekal" if base and code == 0 else ""
    status = "" if code == 0 else f"  (failed, exit code {code}: no figure)"
    print(f"{name:44} {cpu:8.2f} CPU s {wall:8.2f} s {peak:8.0f} MB{ratio}{status}", flush=True)


# What a script would do: the same record by a regular expression over the mapped file.
SCAN_IN_PYTHON = r"""
import mmap, re, sys
with open(sys.argv[1], "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
    print(sum(1 for _ in re.finditer(rb"RSDS.{20}[ -~]{0,1020}\.pdb\0", m, re.S)))
"""


def scan(args):
    """RSDS records of a file, with the rate per core: the file's size by the CPU seconds."""
    size = args.scan.stat().st_size
    figures = measure([args.rekal, "version_scan", "--scan_filename", args.scan], args.repeat)
    show(f"rekal version_scan, {size / 1e6:.0f} MB", figures)
    print(f"    {size / max(figures[0], 0.01) / 1e9:.1f} GB/s per core")
    show("python mmap and re (same records)", measure([sys.executable, "-c", SCAN_IN_PYTHON, args.scan], 1), figures[0])
    show("grep -c RSDS (signature only)", measure(["grep", "-c", "-a", "RSDS", args.scan], 1), figures[0])


def windows(args, scratch):
    """A made machine of 4 GiB: recognition from the page cache with and without low memory, its processes, three scans in one pass."""
    maker = ["cargo", "run", "--quiet", "--release", "-p", "testkit", "--example", "make_image", "--", args.windows]
    image, repository = scratch / "windows.raw", scratch / "repository"
    subprocess.run(maker + ["raw", image, "4096"], check=True, cwd=ROOT)
    subprocess.run(maker + ["repository", repository], check=True, cwd=ROOT)
    base = [args.rekal, "--offline", "--repository_path", repository, "-f", image, "--format", "json"]
    recognition = measure(base + ["load_as"], args.repeat)
    show(f"rekal load_as, {args.windows} of 4 GiB", recognition)
    processes = measure(base + ["pslist"], args.repeat)
    show("rekal pslist", processes)
    print(f"    {(processes[1] - recognition[1]) * 1000:.0f} ms after recognition")
    show("rekal batch psscan filescan modscan", measure(base + ["batch", "psscan", "filescan", "modscan"], args.repeat))
    with open(image, "r+b") as low:
        low.write(bytes(1 << 20))
    show("rekal load_as without low memory (whole scan)", measure(base + ["load_as"], args.repeat))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vmlinux", type=Path, help="vmlinux with debug information")
    parser.add_argument("--system-map", type=Path)
    parser.add_argument("--image", type=Path, help="image of a guest of that kernel")
    parser.add_argument("--scan", type=Path, help="file to search for RSDS records, an image of 1 GiB say; read it once first")
    parser.add_argument("--pdb", type=Path, help="large PDB, as tools/bench/big_pdb.py makes it")
    parser.add_argument("--windows", metavar="SYSTEM", help="xp, win7, win10 or win11: measure on a made machine of 4 GiB")
    parser.add_argument("--scratch", type=Path, help="where made images go; a folder in memory spares the disk")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--rekal", type=Path, default=ROOT / "target/release/rekal")
    args = parser.parse_args()
    if not args.rekal.exists():
        sys.exit(f"no {args.rekal}: build it with cargo build --release --bin rekal")
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        if args.windows:
            windows(args, Path(scratch))
        profile = Path(scratch) / "profile.json.gz"
        if args.vmlinux:
            command = [args.rekal, "--overwrite", "convert_profile", args.vmlinux, profile]
            if args.system_map:
                command += ["--system_map", args.system_map]
            figures = measure(command, args.repeat)
            show(f"rekal convert_profile {args.vmlinux.stat().st_size / 1e6:.0f} MB", figures)
            if shutil.which("pahole"):
                show("pahole --sizes (same DWARF)", measure(["pahole", "--sizes", args.vmlinux], 1), figures[0])
        if args.scan:
            scan(args)
        if args.pdb:
            command = [args.rekal, "--overwrite", "parse_pdb", args.pdb, "--output", Path(scratch) / "pdb.json"]
            show(f"rekal parse_pdb {args.pdb.stat().st_size / 1e6:.0f} MB", measure(command, args.repeat))
            print("    (original Rekall 1.6.0, not run here: 22-26 CPU s and up to 600 MB for 2.3 MB)")
        if args.image:
            base = [args.rekal, "-f", args.image] + (["--profile", profile] if profile.exists() else [])
            first = None
            for plugin in ["pslist", "psaux", "lsmod", "lsof", "maps", "netstat", "mount", "dmesg"]:
                figures = measure(base + ["--format", "json", plugin], args.repeat)
                first = first or figures[0]
                show(f"rekal {plugin}, {args.image.stat().st_size / 1e6:.0f} MB image", figures)
            figures = measure(base + ["--format", "json", "batch"], args.repeat)
            show("rekal batch (every command)", figures)
            if shutil.which("vol"):
                figures = measure(["vol", "-q", "-f", args.image, "linux.pslist.PsList"], 1)
                show("vol linux.pslist (installed Volatility 3)", figures, first)


if __name__ == "__main__":
    main()
