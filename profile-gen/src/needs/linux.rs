//! What the Linux plugins need.

use super::{NEED, Need};

/// All needs, the essential ones first.
pub(crate) const NEEDS: &[Need] = &[
    Need {
        name: "process list",
        plugins: &["pslist", "pstree", "psaux", "psxview", "lsof", "maps", "memmap"],
        types: &[
            "list_head.next",
            "task_struct.tasks",
            "task_struct.pid",
            "task_struct.tgid",
            "task_struct.comm",
            "task_struct.mm",
            "task_struct.real_parent|task_struct.parent",
        ],
        symbols: &["init_task"],
        essential: true,
        ..NEED
    },
    Need {
        name: "kernel page tables",
        plugins: &["find_dtb", "vtop", "find_kaslr"],
        types: &["mm_struct.pgd"],
        symbols: &["init_top_pgt|init_level4_pgt|swapper_pg_dir"],
        ..NEED
    },
    Need {
        name: "identification",
        plugins: &["banner", "find_kaslr"],
        symbols: &["linux_banner", "_text|_stext"],
        ..NEED
    },
    Need {
        name: "credentials",
        plugins: &["pslist"],
        types: &["task_struct.cred", "cred.uid", "cred.gid", "cred.euid"],
        ..NEED
    },
    Need {
        name: "start times",
        plugins: &["pslist"],
        types: &[
            "task_struct.start_time|task_struct.start_boottime",
            "timekeeper.offs_real|timekeeper.wall_to_monotonic",
        ],
        symbols: &["tk_core|timekeeper|wall_to_monotonic"],
        ..NEED
    },
    Need {
        name: "pid tables",
        plugins: &["psxview"],
        types: &["upid.nr", "pid.tasks", "pid_namespace.idr|upid.pid_chain"],
        symbols: &["init_pid_ns|pid_hash"],
        ..NEED
    },
    Need {
        name: "process memory",
        plugins: &["maps", "memmap", "psaux"],
        types: &[
            "mm_struct.arg_start",
            "mm_struct.arg_end",
            "mm_struct.mm_mt|mm_struct.mmap",
            "vm_area_struct.vm_start",
            "vm_area_struct.vm_end",
            "vm_area_struct.vm_flags",
            "vm_area_struct.vm_file",
            "vm_area_struct.vm_pgoff",
        ],
        ..NEED
    },
    Need {
        name: "maple tree",
        plugins: &["maps", "memmap"],
        when: "mm_struct.mm_mt",
        types: &[
            "maple_tree.ma_root",
            "maple_node.mr64",
            "maple_range_64.pivot",
            "maple_range_64.slot",
            "maple_arange_64.pivot",
            "maple_arange_64.slot",
        ],
        ..NEED
    },
    Need {
        name: "modules",
        plugins: &["lsmod"],
        types: &[
            "module.list",
            "module.name",
            "module.state",
            "module.mem|module.core_layout|module.module_core",
        ],
        symbols: &["modules"],
        ..NEED
    },
    Need {
        name: "mounts and paths",
        plugins: &["mount", "lsof", "maps"],
        types: &[
            "mount.mnt|vfsmount.mnt_parent",
            "mount.mnt_parent|vfsmount.mnt_parent",
            "mount.mnt_mountpoint|vfsmount.mnt_mountpoint",
            "mnt_namespace",
            "nsproxy.mnt_ns",
            "vfsmount.mnt_root",
            "vfsmount.mnt_sb",
            "super_block.s_type",
            "file_system_type.name",
            "dentry.d_name",
            "dentry.d_parent",
            "qstr.name",
            "fs_struct.root",
        ],
        ..NEED
    },
    Need {
        name: "open files",
        plugins: &["lsof"],
        types: &[
            "task_struct.files",
            "files_struct.fdt",
            "fdtable.fd",
            "fdtable.max_fds",
            "file.f_path|file.f_dentry",
            "dentry.d_inode",
            "inode.i_ino",
            "inode.i_mode",
        ],
        ..NEED
    },
    Need {
        name: "sockets",
        plugins: &["netstat"],
        types: &[
            "socket.sk",
            "sock.__sk_common",
            "sock_common.skc_family",
            "sock_common.skc_state",
            "sock.sk_type",
            "sock.sk_protocol",
            "inet_sock.inet_sport|inet_sock.sport",
            "unix_sock.addr",
            "net",
        ],
        ..NEED
    },
    Need {
        name: "network devices",
        plugins: &["ifconfig"],
        types: &[
            "net.dev_base_head",
            "net_device.name",
            "net_device.dev_list",
            "net_device.dev_addr|net_device.perm_addr",
            "net_device.flags",
            "net_device.ip_ptr",
            "in_device.ifa_list",
            "in_ifaddr.ifa_local",
        ],
        symbols: &["net_namespace_list|init_net|init_nsproxy"],
        ..NEED
    },
    Need {
        name: "neighbour tables",
        plugins: &["arp"],
        types: &[
            "neigh_table.nht|neigh_table.hash_buckets",
            "neighbour.ha",
            "neighbour.dev",
            "neighbour.primary_key",
        ],
        symbols: &["neigh_tables"],
        ..NEED
    },
    Need { name: "kernel log", plugins: &["dmesg"], symbols: &["prb|log_buf"], ..NEED },
    Need {
        name: "kernel log records",
        plugins: &["dmesg"],
        when: "printk_ringbuffer",
        types: &[
            "printk_ringbuffer.desc_ring",
            "printk_ringbuffer.text_data_ring",
            "prb_desc.state_var",
            "printk_info.ts_nsec",
            "printk_info.text_len",
        ],
        ..NEED
    },
    Need {
        name: "physical address map",
        plugins: &["iomem"],
        types: &["resource.start", "resource.end", "resource.name", "resource.child", "resource.sibling"],
        symbols: &["iomem_resource"],
        ..NEED
    },
    Need {
        name: "host name",
        plugins: &["hostname"],
        types: &["uts_namespace.name", "new_utsname.nodename"],
        symbols: &["init_uts_ns"],
        ..NEED
    },
    Need {
        name: "processors",
        plugins: &["cpuinfo"],
        when: "cpuinfo_x86",
        types: &["cpuinfo_x86.x86_model_id"],
        symbols: &["cpu_info|boot_cpu_data|per_cpu__cpu_info"],
        ..NEED
    },
];
