# Sourced by the scripts here: the lab folder, this folder, and what the guest's initramfs is made of.
export GUEST_LAB="${GUEST_LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/rekal-guest-lab}"
GUEST_TOOL="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export GUEST_TOOL
export GUEST_USERLAND="busybox-static bash libc6 libtinfo6 coreutils libselinux1 libpcre2-8-0 libacl1 libattr1 libgmp10 netcat-openbsd libbsd0 libmd0"
export GUEST_PROGRAMS="${GUEST_PROGRAMS-bash nc.openbsd}"
export GUEST_MODULES="${GUEST_MODULES-dummy loop veth tun crc16 ext4 nfnetlink nf_tables nf_conntrack nft_ct af_packet qemu_fw_cfg fuse overlay}"
mkdir -p "$GUEST_LAB"/{pkgs,build,images,log,apt}
