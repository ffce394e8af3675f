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
#include <linux/if_packet.h>
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

/*
 * net/netlink/af_netlink.h and net/packet/internal.h. Stable releases moved their members, so they are declared only for
 * the releases they were compared with.
 */
#define IN_RELEASE(a, b, c) \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(a, b, c) && LINUX_VERSION_CODE < KERNEL_VERSION(a, (b) + 1, 0))
#if IN_RELEASE(5, 10, 250) || IN_RELEASE(6, 1, 190) || IN_RELEASE(6, 12, 110)
struct netlink_table {
	struct rhashtable hash;
	struct hlist_head mc_list;
	struct listeners __rcu *listeners;
	unsigned int flags;
	unsigned int groups;
	struct mutex *cb_mutex;
	struct module *module;
	int (*bind)(struct net *net, int group);
	void (*unbind)(struct net *net, int group);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	void (*release)(struct sock *sk, unsigned long *groups);
#else
	bool (*compare)(struct net *net, struct sock *sock);
#endif
	int registered;
};

struct netlink_sock {
	struct sock sk;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
	unsigned long flags;
#endif
	u32 portid;
	u32 dst_portid;
	u32 dst_group;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
	u32 flags;
#endif
	u32 subscriptions;
	u32 ngroups;
	unsigned long *groups;
	unsigned long state;
	size_t max_recvmsg_len;
	wait_queue_head_t wait;
	bool bound;
	bool cb_running;
	int dump_done_errno;
	struct netlink_callback cb;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	struct mutex nl_cb_mutex;
#else
	struct mutex *cb_mutex;
	struct mutex cb_def_mutex;
#endif
	void (*netlink_rcv)(struct sk_buff *skb);
	int (*netlink_bind)(struct net *net, int group);
	void (*netlink_unbind)(struct net *net, int group);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	void (*netlink_release)(struct sock *sk, unsigned long *groups);
#endif
	struct module *module;
	struct rhash_head node;
	struct rcu_head rcu;
};

struct packet_ring_buffer {
	struct pgv *pg_vec;
	unsigned int head;
	unsigned int frames_per_block;
	unsigned int frame_size;
	unsigned int frame_max;
	unsigned int pg_vec_order;
	unsigned int pg_vec_pages;
	unsigned int pg_vec_len;
	unsigned int __percpu *pending_refcnt;
	union {
		unsigned long *rx_owner_map;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0)
		u64 prb_bdqc[20]; /* struct tpacket_kbdq_core, of which nothing is needed */
#else
		u64 prb_bdqc[19];
#endif
	};
};

struct packet_sock { /* up to the last member that is needed */
	struct sock sk;
	struct packet_fanout *fanout;
	union tpacket_stats_u stats;
	struct packet_ring_buffer rx_ring;
	struct packet_ring_buffer tx_ring;
	int copy_thresh;
	spinlock_t bind_lock;
	struct mutex pg_vec_lock;
	unsigned long flags;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
	unsigned int running;
	unsigned int has_vnet_hdr : 1, tp_loss : 1, tp_tx_has_off : 1;
	int pressure;
#endif
	int ifindex;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	u8 vnet_hdr_sz;
#endif
	__be16 num;
};
#endif /* netlink_sock, packet_sock */

MODULE_LICENSE("GPL");
