// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 OR MIT
/*
 * A kernel module that does nothing. It includes the headers whose structures memory analysis needs, so that its debug
 * information describes them exactly as the target kernel was configured. It is compiled, never loaded.
 */
#include <linux/version.h>
#include <linux/module.h>
#include <linux/kernel.h>

/* Processes, namespaces, scheduling. */
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/ipc_namespace.h>
#include <linux/kthread.h>
#include <linux/nsproxy.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/seccomp.h>
#include <linux/user_namespace.h>
#include <linux/utsname.h>
#include <linux/workqueue.h>

/* Memory. */
#include <linux/highmem.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/mm_types.h>
#include <linux/mmzone.h>
#include <linux/rmap.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/vmalloc.h>

/* Containers: the lists and trees everything hangs in. */
#include <linux/idr.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/radix-tree.h>
#include <linux/rbtree.h>
#include <linux/rculist_nulls.h>
#include <linux/rhashtable.h>
#include <linux/xarray.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
#include <linux/maple_tree.h>
#endif

/* Files. */
#include <linux/dcache.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/kdev_t.h>
#include <linux/mount.h>
#include <linux/path.h>
#include <linux/pipe_fs_i.h>
#include <linux/proc_fs.h>
#include <linux/proc_ns.h>
#include <linux/seq_file.h>

/* Network. */
#include <linux/if_arp.h>
#include <linux/inetdevice.h>
#include <linux/net.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/af_unix.h>
#include <net/arp.h>
#include <net/if_inet6.h>
#include <net/inet_hashtables.h>
#include <net/inet_sock.h>
#include <net/inet_timewait_sock.h>
#include <net/ip_fib.h>
#include <net/ndisc.h>
#include <net/neighbour.h>
#include <net/net_namespace.h>
#include <net/raw.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <net/udp.h>

/* Devices, terminals, log, time, tracing. */
#include <linux/bpf.h>
#include <linux/console.h>
#include <linux/device.h>
#include <linux/ftrace.h>
#include <linux/hrtimer.h>
#include <linux/kallsyms.h>
#include <linux/keyboard.h>
#include <linux/kobject.h>
#include <linux/kprobes.h>
#include <linux/notifier.h>
#include <linux/timekeeper_internal.h>
#include <linux/timer.h>
#include <linux/tracepoint.h>
#include <linux/tty.h>
#include <linux/tty_driver.h>
#include <linux/tty_ldisc.h>
#ifdef CONFIG_X86
#include <asm/desc.h>
#include <asm/processor.h>
#endif

/*
 * Structures that kernel source files keep to themselves. Each stands for the layout of the versions named; for versions
 * not named it is left out, so that a profile lacks the type instead of having a wrong one.
 */

/* fs/mount.h, 4.13 up to and including 6.12. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
struct mountpoint {
	struct hlist_node m_hash;
	struct dentry *m_dentry;
	struct hlist_head m_list;
	int m_count;
};

struct mnt_pcp {
	int mnt_count;
	int mnt_writers;
};

struct mount {
	struct hlist_node mnt_hash;
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	union {
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0) && !defined(MNT_ONRB)
		struct rb_node mnt_node;
#endif
		struct rcu_head mnt_rcu;
		struct llist_node mnt_llist;
	};
#ifdef CONFIG_SMP
	struct mnt_pcp __percpu *mnt_pcp;
#else
	int mnt_count;
	int mnt_writers;
#endif
	struct list_head mnt_mounts;
	struct list_head mnt_child;
	struct list_head mnt_instance;
	const char *mnt_devname;
#ifdef MNT_ONRB /* 6.8 up to the stable releases that dropped the flag */
	union {
		struct rb_node mnt_node;
		struct list_head mnt_list;
	};
#else
	struct list_head mnt_list;
#endif
	struct list_head mnt_expire;
	struct list_head mnt_share;
	struct list_head mnt_slave_list;
	struct list_head mnt_slave;
	struct mount *mnt_master;
	struct mnt_namespace *mnt_ns;
	struct mountpoint *mnt_mp;
	union {
		struct hlist_node mnt_mp_list;
		struct hlist_node mnt_umount;
	};
	struct list_head mnt_umounting;
#ifdef CONFIG_FSNOTIFY
	struct fsnotify_mark_connector __rcu *mnt_fsnotify_marks;
	__u32 mnt_fsnotify_mask;
#endif
	int mnt_id;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	u64 mnt_id_unique;
#endif
	int mnt_group_id;
	int mnt_expiry_mark;
	struct hlist_head mnt_pins;
	struct hlist_head mnt_stuck_children;
};

struct mnt_namespace {
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
	atomic_t count;
#endif
	struct ns_common ns;
	struct mount *root;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	struct rb_root mounts; /* of mount.mnt_node */
#else
	struct list_head list; /* of mount.mnt_list */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 8, 0)
	spinlock_t ns_lock;
#endif
#endif
	struct user_namespace *user_ns;
	struct ucounts *ucounts;
	u64 seq;
	wait_queue_head_t poll;
	u64 event;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	unsigned int nr_mounts;
#else
	unsigned int mounts;
#endif
	unsigned int pending_mounts;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
	struct rb_node mnt_ns_tree_node;
	refcount_t passive;
#endif
};
#endif /* mount */

/* kernel/printk/printk_ringbuffer.h, 5.10 and later. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 10, 0)
struct printk_info {
	u64 seq;
	u64 ts_nsec;
	u16 text_len;
	u8 facility;
	u8 flags : 5;
	u8 level : 3;
	u32 caller_id;
	struct dev_printk_info dev_info;
};

struct prb_data_blk_lpos {
	unsigned long begin;
	unsigned long next;
};

struct prb_desc {
	atomic_long_t state_var;
	struct prb_data_blk_lpos text_blk_lpos;
};

struct prb_data_ring {
	unsigned int size_bits;
	char *data;
	atomic_long_t head_lpos;
	atomic_long_t tail_lpos;
};

struct prb_desc_ring {
	unsigned int count_bits;
	struct prb_desc *descs;
	struct printk_info *infos;
	atomic_long_t head_id;
	atomic_long_t tail_id;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	atomic_long_t last_finalized_seq;
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(5, 18, 0)
	atomic_long_t last_finalized_id;
#endif
};

struct printk_ringbuffer {
	struct prb_desc_ring desc_ring;
	struct prb_data_ring text_data_ring;
	atomic_long_t fail;
};
#endif /* printk_ringbuffer */

MODULE_LICENSE("GPL");
