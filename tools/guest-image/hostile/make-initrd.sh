#!/bin/bash
# make-initrd.sh RELEASE INITRD OUT : builds the hostile module against the lab's headers of RELEASE (profile-zip.sh unpacks them) and
# writes OUT: INITRD with the module and gt-extra behind it (the kernel unpacks archives that follow each other).
set -euo pipefail
. "$(dirname "$0")/../env.sh"
release=$1 initrd=$2 out=$3 here=$GUEST_TOOL/hostile
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{build,tree/lib/modules,tree/etc}
cp "$here/rekal_hostile.c" "$here/Kbuild" "$work/build/"
make -C "$GUEST_LAB/headers/$release/usr/src/linux-headers-$release" M="$work/build" CC=gcc modules \
    >"$GUEST_LAB/log/hostile-$release.log" 2>&1 || { tail -20 "$GUEST_LAB/log/hostile-$release.log" >&2 && exit 1; }
strip --strip-debug "$work/build/rekal_hostile.ko" -o "$work/tree/lib/modules/rekal_hostile.ko"
cp "$here/gt-extra" "$work/tree/etc/"
(cd "$work/tree" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$work/extra.cpio"
cat "$initrd" "$work/extra.cpio" >"$out"
