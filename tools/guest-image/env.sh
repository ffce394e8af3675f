# Sourced by the scripts here: the lab folder, this folder, and what the guest's initramfs is made of.
export GUEST_LAB="${GUEST_LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/rekal-guest-lab}"
GUEST_TOOL="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export GUEST_TOOL
export GUEST_USERLAND="busybox-static bash libc6 libtinfo6 coreutils libselinux1 libpcre2-8-0 libacl1 libattr1 libgmp10 netcat-openbsd libbsd0 libmd0 zsh-static"
export GUEST_PROGRAMS="${GUEST_PROGRAMS-bash nc.openbsd zsh-static}"
export GUEST_MODULES="${GUEST_MODULES-dummy loop veth tun crc16 ext4 nfnetlink nf_tables nf_conntrack nft_ct af_packet qemu_fw_cfg fuse overlay}"
# Debian releases whose C library runs a program besides that of the userland (amd64): other versions of malloc.
export GUEST_GLIBC="${GUEST_GLIBC-bullseye trixie}"
# guest_arch SERIES_OR_RELEASE : sets what depends on the processor, told by the kernel's flavour: Debian's name of the architecture, the
# triplet, the compiler, the loader's path, and where the unpacked programs and gt are kept.
guest_arch() {
    case $1 in
    *arm64*) deb=arm64 triplet=aarch64-linux-gnu compiler=aarch64-linux-gnu-gcc loader=lib/ld-linux-aarch64.so.1 ;;
    *686*) deb=i386 triplet=i386-linux-gnu compiler=i686-linux-gnu-gcc loader=lib/ld-linux.so.2 ;;
    *) deb=amd64 triplet=x86_64-linux-gnu compiler=gcc loader=lib64/ld-linux-x86-64.so.2 ;;
    esac
    user=$GUEST_LAB/build/user
    [ "$deb" = amd64 ] || user+=-$deb
}
mkdir -p "$GUEST_LAB"/{pkgs,build,images,log,apt}
