#!/bin/bash
# matrix.sh [NAME...] : makes every guest image of the first table below that is not in the lab yet (or only those named, of either
# table), JOBS guests at a time, and the profile zip of each kernel. Images made by an older version of these scripts are made again. A kernel that can no longer be downloaded is reported and
# its images are skipped; without 6.1 the script fails. Prints the names of the images that exist, one a line.
set -euo pipefail
. "$(dirname "$0")/env.sh"
all="raw elf paging kdump lime avml1 avml lzo snappy zstd"
# name | series | formats | options
table="
5.10-kaslr   | 5.10 | $all              |
5.10-nokaslr | 5.10 | $all              | --append nokaslr
6.1-kaslr    | 6.1  | $all              |
6.1-nokaslr  | 6.1  | $all              | --append nokaslr
6.12-kaslr   | 6.12 | $all              |
6.12-nokaslr | 6.12 | $all              | --append nokaslr
6.1-smp      | 6.1  | raw paging        | --smp 4
6.1-la57     | 6.1  | raw paging        | --cpu max
6.1-pti      | 6.1  | raw paging        | --append pti=on
6.1-highmem  | 6.1  | raw elf avml      | --mem 4608 --smp 2
6.1-hostile  | 6.1  | raw               |
6.1-swap     | 6.1  | raw               |
6.12-swap    | 6.12 | raw               |
6.1-pae      | 6.1-686-pae     | raw elf paging kdump lime |
6.1-arm64    | 6.1-cloud-arm64 | raw elf kdump lime        | --arch arm64
"
# Only made when named.
more="
5.10-standard | 5.10-amd64 | raw kdump               |
6.1-standard | 6.1-amd64   | raw elf kdump           |
6.12-standard | 6.12-amd64 | raw kdump               |
6.1-i386     | 6.1-686         | raw elf paging            |
5.10-swap    | 5.10 | raw                         |
6.1-pae-swap | 6.1-686-pae     | raw                       |
6.1-arm64-swap | 6.1-cloud-arm64 | raw                     | --arch arm64
6.1-pae-big  | 6.1-686-pae     | raw elf                   | --mem 4608 --smp 2
6.1-a57      | 6.1-cloud-arm64 | raw elf                   | --arch arm64 --cpu cortex-a57 --smp 2
"
"$GUEST_TOOL/setup.sh"

# What an image depends on besides its kernel: a change here means making the images again.
version=$(cd "$GUEST_TOOL" && cat env.sh image.sh bin/{capture,formats,unpack_truth}.py bin/make-initramfs.sh guest/* | sha256sum | cut -c1-16)

make_image() { # NAME SERIES FORMATS OPTIONS
    local name=$1 release stamp extra=
    release=$(cat "$GUEST_LAB/build/release-$2")
    stamp="$version $release $3 $4"
    # Guests with a folder of their own: only they depend on it.
    case $name in
    *-hostile) extra=hostile ;;
    *-swap) extra=swap ;;
    esac
    [ -z "$extra" ] || stamp+=" $({ cat "$GUEST_TOOL/$extra"/* 2>/dev/null || true; } | sha256sum | cut -c1-16)"
    [ "$(cat "$GUEST_LAB/images/$name/stamp" 2>/dev/null)" != "$stamp" ] || return 0
    local options=$4 disks=
    if [ -n "$extra" ]; then
        "$GUEST_TOOL/$extra/make-initrd.sh" "$release" "$GUEST_LAB/build/initrd-$release.cpio" "$GUEST_LAB/build/initrd-$name.cpio"
        options+=" --initrd $GUEST_LAB/build/initrd-$name.cpio"
    fi
    if [ "$extra" = swap ]; then
        # A swap area, and room for a copy of /proc/kcore.
        disks="$GUEST_LAB/build/$name.swap $GUEST_LAB/build/$name.kcore"
        # shellcheck disable=SC2086
        rm -f $disks
        truncate -s 16M "$GUEST_LAB/build/$name.swap"
        truncate -s 320M "$GUEST_LAB/build/$name.kcore"
        local PATH=$GUEST_TOOL/swap/qemu:$PATH
    fi
    # shellcheck disable=SC2086
    GUEST_DISKS=$disks FORMATS=$3 "$GUEST_TOOL/image.sh" "$name" "$release" $options
    for disk in $disks; do mv "$disk" "$GUEST_LAB/images/$name/${disk##*.}"; done
    echo "$stamp" >"$GUEST_LAB/images/$name/stamp"
}

failed=0
wanted=" ${*:-} "
[ "$wanted" = "  " ] || table+=$more
while IFS='|' read -r name series formats options; do
    read -r name <<<"$name"
    read -r series <<<"$series"
    read -r formats <<<"$formats"
    read -r options <<<"$options" || true
    [ -n "$name" ] || continue
    [ "$wanted" = "  " ] || [[ $wanted == *" $name "* ]] || continue
    if ! release=$("$GUEST_TOOL/kernel.sh" "$series"); then
        echo "MISSING: no image $name: the $series kernel cannot be downloaded" >&2
        [ "$series" != 6.1 ] || exit 1
        continue
    fi
    # The zip needs programs of the kernel's own architecture.
    [[ $series == *-* ]] || "$GUEST_TOOL/profile-zip.sh" "$series" >/dev/null
    # The first image of a kernel makes its initramfs; build it here so that parallel jobs find it.
    "$GUEST_TOOL/bin/make-initramfs.sh" "$release" "$GUEST_LAB/build/initrd-$release.cpio"
    while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-1}" ]; do wait -n || failed=1; done
    make_image "$name" "$series" "$formats" "$options" &
done <<<"$table"
while [ "$(jobs -p | wc -l)" -gt 0 ]; do wait -n || failed=1; done
ls "$GUEST_LAB/images"
exit $failed
