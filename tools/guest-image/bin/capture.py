#!/usr/bin/env python3
"""capture.py DIRECTORY --kernel VMLINUZ --initrd CPIO [options]

Boots a guest under QEMU (TCG: the same on every machine), waits until it has reported its truth, pauses it over QMP and
dumps the one paused machine in every format QEMU knows. Leaves in DIRECTORY: mem.raw (offset = physical address, on arm64
from the start of RAM on),
mem.elf, mem-paging.elf, mem.kdump-zlib (flattened), truth.bin, console.log, hmp-*.txt and info.json.
"""
import argparse
import json
import os
import socket
import subprocess
import sys
import time

PCI_HOLE = 0xC000_0000  # where low memory ends on QEMU's pc machine once memory reaches 3.5 GiB
FOUR_GIB = 1 << 32
ARM64_RAM = 0x4000_0000  # where RAM begins on QEMU's virt machine


class Qmp:
    """QEMU's machine protocol: one JSON object per line in both directions, events in between."""

    def __init__(self, path):
        for _ in range(100):
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.connect(path)
                break
            except OSError:
                time.sleep(0.1)
        self.file = self.socket.makefile("rwb")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.file.flush()
        while line := self.file.readline():
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
        raise SystemExit("QMP closed")


def qemu_command(a, directory, qmp):
    command_line = f"console=ttyS0,115200 rdinit=/init panic=-1 loglevel=5 no_hash_pointers {a.append}".strip()
    if a.arch == "arm64":
        # The machine's own serial port is left unused: both are PCI ports, named as on x86.
        emulator, machine, serial = "qemu-system-aarch64", "virt", "pci-serial"
    else:
        emulator, machine, serial = "qemu-system-x86_64", "pc", "isa-serial"
    return [
        emulator, "-machine", machine, "-accel", "tcg", "-cpu", a.cpu, "-m", str(a.mem), "-smp", str(a.smp),
        "-nic", "none", "-display", "none", "-nodefaults", "-no-reboot", "-rtc", "base=2024-05-06T07:08:09,clock=vm",
        "-kernel", a.kernel, "-initrd", a.initrd, "-append", command_line, "-device", "vmcoreinfo",
        "-chardev", f"file,id=c0,path={directory}/console.log", "-device", f"{serial},chardev=c0",
        "-chardev", f"file,id=c1,path={directory}/truth.bin", "-device", f"{serial},chardev=c1",
        "-qmp", f"unix:{qmp},server=on,wait=off",
    ]


def wait_until_ready(process, console, timeout):
    start = time.time()
    while time.time() - start < timeout and process.poll() is None:
        with open(console, "rb") as f:
            text = f.read()
        if b"GT-READY" in text:
            return round(time.time() - start, 1)
        time.sleep(0.1)
    sys.stderr.write(text[-3000:].decode("utf8", "replace"))
    raise SystemExit("the guest did not report in time" if process.poll() is None else "QEMU ended")


def dump(qmp, directory, formats, mem, start):
    size = mem if start or mem < 0xE000_0000 else mem - PCI_HOLE + FOUR_GIB
    steps = {
        "raw": lambda f: qmp("pmemsave", val=start, size=size, filename=f),
        "elf": lambda f: qmp("dump-guest-memory", protocol=f"file:{f}", paging=False),
        "paging": lambda f: qmp("dump-guest-memory", protocol=f"file:{f}", paging=True),
        "kdump": lambda f: qmp("dump-guest-memory", protocol=f"file:{f}", paging=False, format="kdump-zlib"),
    }
    names = {"raw": "mem.raw", "elf": "mem.elf", "paging": "mem-paging.elf", "kdump": "mem.kdump-zlib"}
    for name in formats:
        file = f"{directory}/{names[name]}"
        steps[name](file)
        os.chmod(file, 0o644)
        if not file.endswith("zlib"):
            subprocess.run(["fallocate", "--dig-holes", file], check=False)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory")
    p.add_argument("--kernel", required=True)
    p.add_argument("--initrd", required=True)
    p.add_argument("--arch", choices=["x86", "arm64"], default="x86")
    p.add_argument("--mem", type=int, default=256, help="MiB")
    p.add_argument("--smp", type=int, default=1)
    p.add_argument("--cpu", help="default: max, on x86 without la57")
    p.add_argument("--append", default="", help="more kernel command line")
    p.add_argument("--formats", default="raw,elf,paging,kdump")
    p.add_argument("--timeout", type=int, default=300, help="seconds until the guest must have reported")
    a = p.parse_args()
    a.cpu = a.cpu or ("max,la57=off" if a.arch == "x86" else "max")
    start = ARM64_RAM if a.arch == "arm64" else 0
    directory = os.path.abspath(a.directory)
    os.makedirs(directory, exist_ok=True)
    qmp_path = f"/tmp/guest-image-{os.getpid()}.qmp"  # short: socket names are limited to 108 bytes
    for f in ("console.log", "truth.bin"):
        open(f"{directory}/{f}", "wb").close()
    command = qemu_command(a, directory, qmp_path)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        qmp = Qmp(qmp_path)
        boot_seconds = wait_until_ready(process, f"{directory}/console.log", a.timeout)
        qmp("stop")
        for name, monitor in (("registers", "info registers -a"), ("mtree", "info mtree -f"), ("mem", "info mem")):
            with open(f"{directory}/hmp-{name}.txt", "w") as f:
                f.write(qmp("human-monitor-command", **{"command-line": monitor}))
        dump(qmp, directory, a.formats.split(","), a.mem << 20, start)
        qmp("quit")
        process.wait(20)
    finally:
        if process.poll() is None:
            process.kill()
        if os.path.exists(qmp_path):
            os.unlink(qmp_path)
    info = {"command": command, "mem_mib": a.mem, "ram_start": start, "cpus": a.smp, "append": a.append, "boot_seconds": boot_seconds}
    with open(f"{directory}/info.json", "w") as f:
        json.dump(info, f, indent=1)
    print(f"booted and reported in {boot_seconds} s")


main()
