#!/usr/bin/env python3
"""Measures repo-server beside nginx serving the same tree over the loopback, with wrk.

    tools/bench/serve.py [--server PATH] [--seconds 8] [--rounds 3] [--profiles 100000]

Requests per second on profiles of 300 KB and on small symlinks: both servers in turn, the best of the rounds, because a
shared machine only ever errs downward; the latency at half of that rate; memory with many profiles in the inventory and
2,000 idle connections. Needs nginx and wrk. Figures depend on the machine; compare ratios of one run. Nothing is asserted.

Both have a worker per core, connections that stay open, and no log of requests; nginx has sendfile, tcp_nopush and a cache
of open files. wrk takes part of the same cores.
"""
import argparse
import gzip
import json
import os
import random
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = 100
IDLE = 2000
PAUSE_MS = 4

NGINX = """
daemon off; pid {home}/nginx.pid; error_log {home}/error.log; worker_processes auto;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache max=2000;
  client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
  uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
  server {{ listen 127.0.0.1:{port}; root {root}; default_type application/gzip; }}
}}
"""

LUA = """
local number = 0
request = function()
  number = (number + 1) % {files}
  return wrk.format("GET", "{path}" .. number .. ".gz")
end
{delay}
"""


def document(symbols, seed):
    chance = random.Random(seed)
    constants = {f"symbol_{chance.getrandbits(48):012x}": chance.getrandbits(47) for _ in range(symbols)}
    metadata = {"ProfileClass": "Linux", "Type": "Profile"}
    return gzip.compress(json.dumps({"$CONSTANTS": constants, "$METADATA": metadata}).encode(), 6, mtime=0)


def small_tree(root):
    """300 KB profiles and symlinks to them."""
    for number in range(FILES):
        for name, content in (
            (f"Linux/{number}", document(17500, number)),
            (f"Alias/{number}", gzip.compress(json.dumps(
                {"$METADATA": {"Type": "Symlink", "Target": f"Linux/{number}"}}).encode(), 6, mtime=0)),
        ):
            path = root / "v1.0" / f"{name}.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def large_tree(root, count):
    for number in range(count):
        path = root / "v1.0" / "Linux" / f"{number % 100}" / f"{number:032x}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"ProfileClass": "Linux", "Type": "Profile", "BuildID": f"{number:040x}", "arch": "AMD64",
                    "Release": f"6.1.0-{number}-amd64"}
        path.write_bytes(gzip.compress(json.dumps({"$METADATA": metadata}).encode(), 1, mtime=0))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(port, process):
    for _ in range(1200):
        if process.poll() is not None:
            raise SystemExit(f"a server ended: {process.args}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("a server does not answer")


def repo_server(program, root, home):
    config = home / "config.toml"
    config.write_text("[limits]\nconnections_per_address = 4000\n[log]\nrequests = false\n")
    port = free_port()
    process = subprocess.Popen([program, "--root", root, "--listen", f"127.0.0.1:{port}", "--config", config],
                               stderr=subprocess.DEVNULL)
    wait(port, process)
    return port, process


def nginx(root, home):
    port = free_port()
    config = home / "nginx.conf"
    config.write_text(NGINX.format(home=home, port=port, root=root))
    process = subprocess.Popen(["nginx", "-c", config, "-p", home], stderr=subprocess.DEVNULL)
    wait(port, process)
    return port, process


def wrk(port, path, seconds, home, connections=32, delay_ms=0):
    """Requests per second and the 99th percentile of the latency in milliseconds."""
    delay = f"delay = function() return {delay_ms} end" if delay_ms else ""
    script = home / "script.lua"
    script.write_text(LUA.format(files=FILES, path=path, delay=delay))
    command = ["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script, f"http://127.0.0.1:{port}"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        print("   ", re.search(r"(Non-2xx.*|Socket errors.*)", text).group(1).strip())
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    return rate, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def memory(process, field):
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", text).group(1)) / 1024


def throughput(options, home):
    root = home / "tree"
    small_tree(root)
    size = (root / "v1.0/Linux/0.gz").stat().st_size
    os.chmod(home, 0o755)
    ours, peer = repo_server(options.server, root, home), nginx(root, home)
    try:
        for what, path in ((f"profiles of {size // 1000} kB", "/v1.0/Linux/"), ("symlinks", "/v1.0/Alias/")):
            best = {"repo-server": 0.0, "nginx": 0.0}
            for _ in range(options.rounds):
                for name, (port, _process) in (("repo-server", ours), ("nginx", peer)):
                    best[name] = max(best[name], wrk(port, path, options.seconds, home)[0])
            ratio = best["repo-server"] / best["nginx"]
            print(f"{what:22} repo-server {best['repo-server']:9.0f} requests/s   nginx {best['nginx']:9.0f}   {ratio:.2f} of nginx")
            for name, (port, _process) in (("repo-server", ours), ("nginx", peer)):
                # So many connections that pause between their requests; how many is found by a trial.
                connections = max(2, round(best[name] / 2 * PAUSE_MS / 1000))
                trial, _ = wrk(port, path, 1, home, connections, PAUSE_MS)
                connections = max(2, round(connections * best[name] / 2 / trial))
                results = [wrk(port, path, options.seconds, home, connections, PAUSE_MS) for _ in range(options.rounds)]
                rate, p99 = min(results, key=lambda result: result[1])
                print(f"{'':22} {name} at {rate / best[name]:.2f} of its rate: 99 % within {p99:.2f} ms")
    finally:
        for _port, process in (ours, peer):
            process.terminate()
            process.wait()


def size_of_many(options, home):
    root = home / "many"
    large_tree(root, options.profiles)
    start = time.monotonic()
    port, process = repo_server(options.server, root, home)
    try:
        ready = time.monotonic() - start
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(IDLE)]
        # So that the body of the inventory is counted too.
        subprocess.run(["curl", "-sfo", "/dev/null", f"http://127.0.0.1:{port}/v1.0/inventory.gz"], check=True)
        print(f"{options.profiles} profiles: ready after {ready:.1f} s; with {IDLE} idle connections "
              f"{memory(process, 'VmRSS'):.0f} MB of memory, at most {memory(process, 'VmHWM'):.0f} MB")
        for connection in idle:
            connection.close()
    finally:
        process.terminate()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=ROOT / "target/release/repo-server", help="the program to measure")
    parser.add_argument("--seconds", type=int, default=8, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts")
    parser.add_argument("--profiles", type=int, default=100_000, help="in the inventory when memory is measured")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        throughput(options, Path(home))
        size_of_many(options, Path(home))


if __name__ == "__main__":
    main()
