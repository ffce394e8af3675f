#!/bin/bash
# kernel.sh SERIES[-FLAVOUR] : the newest kernel of a series (5.10, 6.1, 6.12) and flavour (cloud-amd64 unless given; 686-pae,
# cloud-arm64 ...) whose image, debug and header packages can all still be downloaded; unpacks it under $GUEST_LAB/build/k/RELEASE and prints RELEASE. A kernel already in the lab is used without network.
set -euo pipefail
. "$(dirname "$0")/env.sh"
series=$1
guest_arch "$series"
number=${series%%-*}
flavour=${series#"$number"} && flavour=${flavour#-} && flavour=${flavour:-cloud-amd64}
export APT_CONFIG=$GUEST_LAB/apt/etc/apt.conf
cd "$GUEST_LAB/pkgs"
download() { # download NAME: unless it is here already
    ls "$1"_*.deb >/dev/null 2>&1 || apt-get -qq download "$1:$deb" 2>/dev/null
}
for p in $GUEST_USERLAND; do ls "$p"_*_"$deb.deb" >/dev/null 2>&1 || missing="${missing:-} $p:$deb/bookworm"; done
# shellcheck disable=SC2086
[ -z "${missing:-}" ] || apt-get -qq download $missing
[ "$deb" != amd64 ] || for suite in $GUEST_GLIBC; do
    mkdir -p "glibc-$suite"
    ls "glibc-$suite"/libc6_*_amd64.deb >/dev/null 2>&1 || (cd "glibc-$suite" && apt-get -qq download "libc6:amd64/$suite")
done
if [ -e "$GUEST_LAB/build/release-$series" ]; then
    cat "$GUEST_LAB/build/release-$series"
    exit
fi

# The number of the build begins with a digit, other flavours (rt-, cloud-) do not.
releases=$(apt-cache search --names-only "^linux-image-${number//./\\.}\\.[0-9.+a-z]*(-[0-9][0-9.a-z]*)?-$flavour-dbg\$" |
    sed 's/^linux-image-//; s/-dbg .*//' | sort -Vr)
for r in $releases; do
    { download "linux-image-$r" || download "linux-image-$r-unsigned"; } && download "linux-image-$r-dbg" && {
        release=$r
        break
    }
    echo "kernel $r: a package is no longer there, trying an older one" >&2
done
[ -n "${release:-}" ] || {
    echo "kernel $series: no $flavour kernel with debug package can be downloaded" >&2
    exit 1
}

d=$GUEST_LAB/build/k/$release
mkdir -p "$d"
dpkg-deb -x "$(ls linux-image-"$release"_*.deb linux-image-"$release"-unsigned_*.deb 2>/dev/null | head -1)" "$d"
[ ! -d "$d/usr/lib/modules" ] || { mkdir -p "$d/lib" && ln -sfn ../usr/lib/modules "$d/lib/modules"; }
dpkg-deb --fsys-tarfile linux-image-"$release"-dbg_*.deb | tar -x -C "$d" --wildcards './usr/lib/debug/boot/*'
depmod -b "$d" "$release"
# Distributions leave BTF out of 32-bit kernels.
! grep -q ^CONFIG_DEBUG_INFO_BTF=y "$d/boot/config-$release" || python3 "$GUEST_TOOL/bin/elf_section.py" "$d/usr/lib/debug/boot/vmlinux-$release" .BTF "$d/vmlinux.btf"
[ -n "${GUEST_KEEP_PACKAGES:-}" ] || rm -f linux-image-"$release"-dbg_*.deb
echo "$release" >"$GUEST_LAB/build/release-$series"
echo "$release"
