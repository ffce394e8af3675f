#!/bin/bash
# setup.sh : once per machine, as root on Debian. Installs QEMU and helpers with apt and makes, inside the lab folder, a private
# apt root that sees bullseye (5.10), bookworm (6.1) and trixie (6.12) of amd64, i386 and arm64 without touching the machine's own apt configuration.
set -euo pipefail
. "$(dirname "$0")/env.sh"
tools="qemu-system-x86 qemu-system-arm gcc-i686-linux-gnu gcc-aarch64-linux-gnu libc6-dev-i386-cross libc6-dev-arm64-cross kmod cpio make gcc libc6-dev zstd xz-utils makedumpfile python3-venv binutils"
# shellcheck disable=SC2086
if ! dpkg -s $tools >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $tools >/dev/null
fi
a=$GUEST_LAB/apt
if ! grep -qs arm64 "$a/ready"; then
    mkdir -p "$a"/{etc,state/lists/partial,cache/archives/partial}
    touch "$a/etc/status"
    # The machine's own mirrors: one for Debian, one for security updates where it has one.
    indexes=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages')
    mirror=$(grep -v security <<<"$indexes" | head -1 || true)
    security=$(grep security <<<"$indexes" | head -1 || true)
    mirror=${mirror:-http://deb.debian.org/debian/}
    security=${security:-http://deb.debian.org/debian-security/}
    key=signed-by=/usr/share/keyrings/debian-archive-keyring.gpg
    {
        for s in bullseye bookworm trixie; do
            echo "deb [$key] $mirror $s main"
            echo "deb [$key] $security $s-security main"
        done
        echo "deb [$key] $mirror bookworm-updates main"
    } >"$a/etc/sources.list"
    cat >"$a/etc/apt.conf" <<C
Dir::Etc::sourcelist "$a/etc/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "$a/state";
Dir::State::Lists "$a/state/lists";
Dir::State::status "$a/etc/status";
Dir::Cache "$a/cache";
APT::Architectures { "amd64"; "i386"; "arm64"; };
APT::Architecture "amd64";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
APT::Sandbox::User "root";
C
    # A suite that has left the mirror is not fatal: kernel.sh says which kernels are missing.
    APT_CONFIG=$a/etc/apt.conf apt-get update -qq || echo "setup: some package lists are missing" >&2
    echo amd64 i386 arm64 >"$a/ready"
fi
[ -d "$GUEST_LAB/venv" ] || {
    python3 -m venv "$GUEST_LAB/venv"
    "$GUEST_LAB/venv/bin/pip" -q install cramjam zstandard lzallright
}
echo "lab ready: $GUEST_LAB" >&2
