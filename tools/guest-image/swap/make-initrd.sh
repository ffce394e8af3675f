#!/bin/bash
# make-initrd.sh RELEASE INITRD OUT : writes OUT: INITRD with gt-swap, the modules of swap devices and gt-extra behind it (the kernel
# unpacks archives that follow each other).
set -euo pipefail
. "$(dirname "$0")/../env.sh"
release=$1 initrd=$2 out=$3 here=$GUEST_TOOL/swap
guest_arch "$release"
modules=$GUEST_LAB/build/k/$release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/tree/{bin,lib/modules/swap,etc}
"$compiler" -O1 -Wall -Wno-unused-result -D_FILE_OFFSET_BITS=64 -o "$work/tree/bin/gt-swap" "$here/gt-swap.c"
# zram's compressors are modules of the crypto interface before v6.12, parts of zram since. It is loaded last.
names="virtio_pci virtio_blk lzo_rle lz4 zstd zram"
for m in $names; do
    modprobe -d "$modules" -S "$release" --show-depends "$m" 2>/dev/null | awk '$1 == "insmod" { print $2 }' || true
done | awk '!seen[$0]++' | while read -r f; do
    name=$(basename "$f")
    name=${name%%.ko*}
    case $f in
    *.xz) xz -dc "$f" ;;
    *.zst) zstd -dcq "$f" ;;
    *) cat "$f" ;;
    esac >"$work/tree/lib/modules/swap/$name.ko"
    echo "$name" >>"$work/tree/etc/gt-swap-modules"
done
case $release in
6.1.*-686*) algorithms="" ;; # nothing tells the layout of zram of a kernel without BTF of modules
5.* | 6.1.*) algorithms="lzo-rle lz4 zstd" ;;
*) algorithms="lz4 zstd deflate" ;;
esac
echo "$algorithms" >"$work/tree/etc/gt-swap-zram"
echo "num_devices=3" >"$work/tree/etc/gt-swap-zram.parameters"
cp "$here/gt-extra" "$work/tree/etc/"
(cd "$work/tree" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$work/extra.cpio"
cat "$initrd" "$work/extra.cpio" >"$out"
