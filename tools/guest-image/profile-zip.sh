#!/bin/bash
# profile-zip.sh SERIES [DWARF] : the classic profile zip of a lab kernel, made with tools/linux-profile from Debian's header packages
# (unpacked in the lab, not installed). Prints its path. DWARF is the debug information version, 5 unless given.
set -euo pipefail
. "$(dirname "$0")/env.sh"
series=$1 dwarf=${2:-5}
release=$("$GUEST_TOOL/kernel.sh" "$series")
zip=$GUEST_LAB/zips/$release-dwarf$dwarf.zip
kit=$GUEST_TOOL/../linux-profile
if [ -e "$zip" ] && [ -z "$(find "$kit" -newer "$zip" -type f)" ]; then
    echo "$zip"
    exit
fi
h=$GUEST_LAB/headers/$release
if [ ! -e "$h/ready" ]; then
    export APT_CONFIG=$GUEST_LAB/apt/etc/apt.conf
    rm -rf "$h" && mkdir -p "$h/deb"
    # The flavour's headers say which common headers and which kbuild tools they need.
    needs=$(apt-cache depends "linux-headers-$release" | sed -n 's/.*Depends: \(linux-headers-.*\|linux-kbuild-.*\)/\1/p')
    # shellcheck disable=SC2086
    (cd "$h/deb" && apt-get -qq download "linux-headers-$release" $needs 2>/dev/null)
    unset APT_CONFIG
    for d in "$h"/deb/*.deb; do dpkg-deb -x "$d" "$h"; done
    rm -r "$h/deb"
    sed -i "s#include /usr/src#include $h/usr/src#" "$h/usr/src/linux-headers-$release/Makefile"
    touch "$h/ready"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$kit/module.c" "$kit/Makefile" "$work/"
k=$GUEST_LAB/build/k/$release
make -C "$work" zip KVER="$release" KDIR="$h/usr/src/linux-headers-$release" DWARF="$dwarf" EXTRA=CC=gcc BOOT="$k/boot" \
    SYSMAP="$k/usr/lib/debug/boot/System.map-$release" >"$GUEST_LAB/log/zip-$release.log" 2>&1 ||
    { tail -20 "$GUEST_LAB/log/zip-$release.log" >&2 && exit 1; }
mkdir -p "$GUEST_LAB/zips"
cp "$work/$release.zip" "$zip"
echo "$zip"
