#!/bin/bash
# make-initramfs.sh RELEASE OUT : a reproducible initramfs with busybox, bash, zsh, sleep, nc, gt and some kernel modules, in
# OUT. GUEST_MODULES and GUEST_PROGRAMS (environment) name the modules and the programs besides busybox and gt. Does nothing when OUT is newer than everything here that it is made of.
set -euo pipefail
. "$(dirname "$0")/../env.sh"
release=$1 out=$2
if [ -e "$out" ] && [ -z "$(find "$GUEST_TOOL/guest" "$GUEST_TOOL/env.sh" "$0" -newer "$out")" ]; then exit; fi
guest_arch "$release"
modules=$GUEST_LAB/build/k/$release lib=lib/$triplet
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

if [ "$(cat "$user/unpacked" 2>/dev/null)" != "$GUEST_USERLAND" ]; then
    for p in $GUEST_USERLAND; do dpkg-deb -x "$GUEST_LAB/pkgs/$p"_*_"$deb.deb" "$user"; done
    echo "$GUEST_USERLAND" >"$user/unpacked"
fi
if [ -n "$(find "$GUEST_TOOL/guest" -name '*.[ch]' -newer "$user/gt" 2>/dev/null)" ] || [ ! -e "$user/gt" ]; then
    "$compiler" -O1 -Wall -Wno-unused-result -o "$user/gt" "$GUEST_TOOL"/guest/*.c -pthread
fi

mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,etc,proc,sys,dev,run,tmp,root,mnt/loop,lib/modules,lib64,var/log,"$lib"}
cp "$user/bin/busybox" "$user/gt" "$root/bin/"
cp "$user/bin/sleep" "$root/usr/bin/sleep"
for p in $GUEST_PROGRAMS; do cp "$user/bin/$p" "$root/bin/"; done
ln -s busybox "$root/bin/sh"
# Shared libraries: what the programs need, then what those need.
todo=("$root/bin/gt" "$root/usr/bin/sleep")
for p in $GUEST_PROGRAMS; do todo+=("$root/bin/$p"); done
while [ ${#todo[@]} -gt 0 ]; do
    needed=$(for f in "${todo[@]}"; do readelf -d "$f" | sed -n 's/.*NEEDED.*\[\(.*\)\].*/\1/p'; done | sort -u)
    todo=()
    for l in $needed; do
        [ ! -e "$root/$lib/$l" ] || continue
        cp -L "$(find "$user/lib" "$user/usr/lib" -name "$l" | head -1)" "$root/$lib/$l"
        todo+=("$root/$lib/$l")
    done
done
cp -L "$user/$lib/${loader##*/}" "$root/$lib/"
ln -s "../$lib/${loader##*/}" "$root/$loader"

# gt-heap-SUITE: the heap actor with the C library of another Debian release. All are linked with the oldest one.
[ "$deb" != amd64 ] || [ -z "$GUEST_PROGRAMS" ] || for suite in $GUEST_GLIBC; do
    libc=$GUEST_LAB/build/glibc-$suite
    [ -e "$libc" ] || dpkg-deb -x "$GUEST_LAB/pkgs/glibc-$suite"/libc6_*_amd64.deb "$libc"
    shared=$(dirname "$(find "$libc" -name libpthread.so.0)")
    oldest=${oldest:-$shared}
    mkdir -p "$root/opt/glibc-$suite"
    cp -L "$shared"/{libc.so.6,libpthread.so.0} "$root/opt/glibc-$suite/"
    cp -L "$(find "$shared" -name 'ld-[0-9l]*.so*' -type f | head -1)" "$root/opt/glibc-$suite/ld.so"
    gcc -O1 -Wall -Wno-unused-result -DHEAP_ALONE -nodefaultlibs -Wl,--allow-shlib-undefined -o "$root/bin/gt-heap-$suite" "$GUEST_TOOL/guest/heap.c" \
        "$oldest"/{libpthread.so.0,libc.so.6} "-Wl,--dynamic-linker=/opt/glibc-$suite/ld.so" "-Wl,-rpath,/opt/glibc-$suite"
done

install -m 755 "$GUEST_TOOL/guest/init" "$root/init"
cp "$GUEST_TOOL"/guest/*history.txt "$root/etc/"
printf '%s\n' root:x:0:0:root:/root:/bin/bash 'user:x:1000:1000:GT User:/tmp:/bin/sh' nobody:x:65534:65534:nobody:/:/bin/false >"$root/etc/passwd"
printf '%s\n' root:x:0: user:x:1000: >"$root/etc/group"

# Modules with what they depend on, in load order.
for m in $GUEST_MODULES; do
    modprobe -d "$modules" -S "$release" --show-depends "$m" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
done | awk '!seen[$0]++' | while read -r f; do
    name=$(basename "$f")
    name=${name%%.ko*}
    case $f in
    *.xz) xz -dc "$f" ;;
    *.zst) zstd -dcq "$f" ;;
    *) cat "$f" ;;
    esac >"$root/lib/modules/$name.ko"
    echo "$name" >>"$root/etc/gt-modules"
done
mknod "$root/dev/console" c 5 1
mknod "$root/dev/null" c 1 3
find "$root" -exec touch -h -d @1700000000 {} +
(cd "$root" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc -R 0:0) >"$out.new"
mv "$out.new" "$out"
