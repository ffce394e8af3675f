#!/bin/bash
# image.sh NAME RELEASE [capture.py options] : boots RELEASE, captures the paused guest in every format and unpacks its truth into
# $GUEST_LAB/images/NAME. FORMATS (environment) narrows the formats; the folder appears only when it is complete.
set -euo pipefail
. "$(dirname "$0")/env.sh"
name=$1 release=$2
shift 2
formats=${FORMATS:-raw elf paging kdump lime avml1 avml lzo snappy zstd}
final=$GUEST_LAB/images/$name work=$GUEST_LAB/images/.$name kernel=$GUEST_LAB/build/k/$release/boot/vmlinuz-$release
initrd=$GUEST_LAB/build/initrd-$release${SMALL:+-small}.cpio
# SMALL=1 (environment): no bash, no file system or firewall modules, and freed memory is zeroed, so that the image compresses well.
if [ -n "${SMALL:-}" ]; then
    export GUEST_PROGRAMS="" GUEST_MODULES="dummy veth tun af_packet qemu_fw_cfg"
    set -- "$@" --append "init_on_free=1 init_on_alloc=1 gt.small"
fi
"$GUEST_TOOL/bin/make-initramfs.sh" "$release" "$initrd"
from_qemu=raw derived=
for f in $formats; do
    case $f in
    raw) ;;
    elf | paging | kdump) from_qemu+=,$f ;;
    *) derived+=" $f" ;;
    esac
done

for try in 1 2 3; do
    rm -rf "$work"
    python3 "$GUEST_TOOL/bin/capture.py" "$work" --kernel "$kernel" --initrd "$initrd" --formats "$from_qemu" "$@" \
        >"$GUEST_LAB/log/$name.log" 2>&1 && python3 "$GUEST_TOOL/bin/unpack_truth.py" "$work" >>"$GUEST_LAB/log/$name.log" 2>&1 && break
    echo "image $name: try $try failed, see $GUEST_LAB/log/$name.log" >&2
    [ "$try" -lt 3 ] || exit 1
done
echo "$release" >"$work/release"
if [ -e "$work/mem.kdump-zlib" ]; then makedumpfile -R "$work/mem.kdump" <"$work/mem.kdump-zlib" >/dev/null; fi
# shellcheck disable=SC2086
[ -z "$derived" ] || "$GUEST_LAB/venv/bin/python" "$GUEST_TOOL/bin/formats.py" "$work" $derived
rm -rf "$final"
mv "$work" "$final"
echo "image $name: $(tail -1 "$GUEST_LAB/log/$name.log")" >&2
