// truth: PID 1 copies what the kernel tells about itself (chiefly /proc) over a serial port, then parks.
//
// Stream: "@@GT-TRUTH-BEGIN v2", then records "\n@@KIND LENGTH NAME\n<LENGTH bytes>" with KIND one of FILE,
// LINK (target of a symbolic link), MISSING (could not be opened) and RESTART (a process came or went while
// recording: forget everything before), then "\n@@GT-TRUTH-END <bytes written>\n".
//
// The recorder must not change what it has recorded, itself included: its heap has its final size and its
// descriptors are open before the first record is written, and nothing is closed afterwards.
#include "gt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { HEAP_BYTES = 32 << 20, PATH_BYTES = 1024, DMESG_BYTES = 4 << 20 };

static const char *const global_files[] = {"/proc/version",
                                           "/proc/cmdline",
                                           "/proc/uptime",
                                           "/proc/stat",
                                           "/proc/loadavg",
                                           "/proc/cpuinfo",
                                           "/proc/meminfo",
                                           "/proc/iomem",
                                           "/proc/ioports",
                                           "/proc/modules",
                                           "/proc/filesystems",
                                           "/proc/partitions",
                                           "/proc/swaps",
                                           "/proc/devices",
                                           "/proc/misc",
                                           "/proc/interrupts",
                                           "/proc/locks",
                                           "/proc/keys",
                                           "/proc/crypto",
                                           "/proc/consoles",
                                           "/proc/buddyinfo",
                                           "/proc/zoneinfo",
                                           "/proc/slabinfo",
                                           "/proc/vmallocinfo",
                                           "/proc/timer_list",
                                           "/proc/sysvipc/shm",
                                           "/proc/sysvipc/msg",
                                           "/proc/sysvipc/sem",
                                           "/proc/tty/drivers",
                                           "/proc/sys/kernel/random/boot_id",
                                           "/proc/sys/kernel/hostname",
                                           "/proc/sys/kernel/ostype",
                                           "/proc/sys/kernel/osrelease",
                                           "/proc/sys/kernel/version",
                                           "/proc/sys/kernel/tainted",
                                           "/sys/kernel/vmcoreinfo",
                                           "/sys/kernel/notes",
                                           "/sys/kernel/boot_params/version",
                                           "/etc/passwd",
                                           "/etc/group",
                                           0};

static const char *const process_files[] = {"stat",      "status",       "comm",  "cmdline",       "environ",
                                            "maps",      "smaps_rollup", "auxv",  "limits",        "cgroup",
                                            "mountinfo", "wchan",        "stack", "oom_score_adj", "loginuid",
                                            "sched",     "io",           "statm", "syscall",       0};

// Recorded once per network namespace, through the first process in it.
static const char *const net_files[] = {"tcp",      "tcp6",  "udp",  "udp6",      "udplite",      "udplite6",
                                        "raw",      "raw6",  "icmp", "icmp6",     "unix",         "netlink",
                                        "packet",   "arp",   "dev",  "route",     "ipv6_route",   "if_inet6",
                                        "fib_trie", "ptype", "snmp", "dev_mcast", "nf_conntrack", 0};

static int port = -1;
static long written;

static void put(const void *data, size_t length) {
    const char *p = data;
    while (length) {
        ssize_t n = write(port, p, length > 4096 ? 4096 : length);
        if (n < 0 && errno != EINTR && errno != EAGAIN) return;
        if (n < 0) continue;
        p += n;
        length -= n;
        written += n;
    }
}

static void record(const char *kind, const char *name, const void *data, size_t length) {
    char head[PATH_BYTES + 64];
    put(head, snprintf(head, sizeof head, "\n@@%s %zu %s\n", kind, length, name));
    put(data, length);
}

static char *slurp(const char *path, size_t *length, size_t limit) {
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    if (fd < 0) return 0;
    size_t capacity = 65536;
    char *data = malloc(capacity);
    ssize_t n;
    *length = 0;
    while ((n = read(fd, data + *length, capacity - *length)) > 0) {
        *length += n;
        if (*length >= limit) break;
        if (capacity - *length < 32768) data = realloc(data, capacity *= 2);
    }
    close(fd);
    return data;
}

static void file(const char *path) {
    size_t length;
    char *data = slurp(path, &length, 16 << 20);
    record(data ? "FILE" : "MISSING", path, data, data ? length : 0);
    free(data);
}

static void link_target(const char *path) {
    char target[4096];
    ssize_t n = readlink(path, target, sizeof target);
    if (n >= 0) record("LINK", path, target, n);
}

static int by_number(const struct dirent **a, const struct dirent **b) {
    long x = atol((*a)->d_name), y = atol((*b)->d_name);
    return (x > y) - (x < y);
}
static int is_number(const struct dirent *d) {
    return d->d_name[0] >= '0' && d->d_name[0] <= '9';
}
static int not_dots(const struct dirent *d) {
    return strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
}

typedef void visitor(const char *path);

static void each(const char *directory, int numbers, visitor *visit) {
    struct dirent **list;
    int n = scandir(directory, &list, numbers ? is_number : not_dots, numbers ? by_number : alphasort);
    for (int i = 0; i < n; i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/%s", directory, list[i]->d_name);
        visit(path);
        free(list[i]);
    }
    if (n >= 0) free(list);
}

static void regular_file(const char *path) {
    struct stat s;
    if (!lstat(path, &s) && S_ISREG(s.st_mode)) file(path);
}
static void files_below(const char *path) {
    struct stat s;
    if (lstat(path, &s)) return;
    if (S_ISREG(s.st_mode)) file(path);
    if (S_ISDIR(s.st_mode)) each(path, 0, files_below);
}

static void task(const char *path) {
    char name[PATH_BYTES + 16];
    snprintf(name, sizeof name, "%s/stat", path);
    file(name);
}

static void process(const char *path) {
    char name[PATH_BYTES + 16];
    for (int i = 0; process_files[i]; i++) {
        snprintf(name, sizeof name, "%s/%s", path, process_files[i]);
        file(name);
    }
    static const char *const links[] = {"exe", "cwd", "root", 0};
    for (int i = 0; links[i]; i++) {
        snprintf(name, sizeof name, "%s/%s", path, links[i]);
        link_target(name);
    }
    snprintf(name, sizeof name, "%s/fd", path);
    each(name, 1, link_target);
    snprintf(name, sizeof name, "%s/fdinfo", path);
    each(name, 1, file);
    snprintf(name, sizeof name, "%s/ns", path);
    each(name, 0, link_target);
    snprintf(name, sizeof name, "%s/task", path);
    each(name, 1, task);
}

static void net_namespace(const char *process_path, const char *inode) {
    char name[PATH_BYTES + 32];
    for (int i = 0; net_files[i]; i++) {
        snprintf(name, sizeof name, "%s/net/%s", process_path, net_files[i]);
        file(name);
    }
    snprintf(name, sizeof name, "%s/ns/net", process_path);
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = open(name, O_RDONLY | O_CLOEXEC);
    static const struct {
        int request;
        const char *name;
    } dumps[] = {{RTM_GETLINK, "link"}, {RTM_GETADDR, "addr"}, {RTM_GETNEIGH, "neigh"}};
    if (home >= 0 && there >= 0 && !setns(there, CLONE_NEWNET)) {
        for (int i = 0; i < 3; i++) {
            size_t length = 0;
            char *text = rtnl_dump(dumps[i].request, &length);
            snprintf(name, sizeof name, "rtnl/%s/%s", inode, dumps[i].name);
            record(text ? "FILE" : "MISSING", name, text, length);
            free(text);
        }
        setns(home, CLONE_NEWNET);
    }
    close(home);
    close(there);
}

// The host name of each UTS namespace, which no file of /proc shows to outsiders.
static void uts_namespace(const char *process_path, const char *inode) {
    char name[PATH_BYTES + 32], host[256] = "";
    snprintf(name, sizeof name, "%s/ns/uts", process_path);
    int home = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC), there = open(name, O_RDONLY | O_CLOEXEC);
    if (home >= 0 && there >= 0 && !setns(there, CLONE_NEWUTS)) {
        gethostname(host, sizeof host - 1);
        setns(home, CLONE_NEWUTS);
        snprintf(name, sizeof name, "uts/%s", inode);
        record("FILE", name, host, strlen(host));
    }
    close(home);
    close(there);
}

static char namespaces_seen[16][64];
static int namespace_count;

// Calls visit for the first process of each namespace of a kind.
static void each_namespace(const char *process_path, const char *kind,
                           void (*visit)(const char *, const char *)) {
    char name[PATH_BYTES + 16], target[64] = "", *inode;
    snprintf(name, sizeof name, "%s/ns/%s", process_path, kind);
    if (readlink(name, target, sizeof target - 1) <= 0) return; // zombies have none
    for (int i = 0; i < namespace_count; i++)
        if (!strcmp(namespaces_seen[i], target)) return;
    if (namespace_count == 16) return;
    strcpy(namespaces_seen[namespace_count++], target);
    inode = strchr(target, '[');
    if (!inode) return;
    inode[strcspn(inode, "]")] = 0;
    visit(process_path, inode + 1);
}
static void namespaces_of(const char *process_path) {
    each_namespace(process_path, "net", net_namespace);
    each_namespace(process_path, "uts", uts_namespace);
}

// One line per file: major:minor inode mode uid gid size mtime path [-> target].
static FILE *tree_out;
static void tree(const char *path) {
    char target[PATH_BYTES] = "";
    struct stat s;
    if (lstat(path, &s)) return;
    if (S_ISLNK(s.st_mode) && readlink(path, target, sizeof target - 1) < 0) *target = 0;
    fprintf(tree_out, "%lx:%lx %lu %o %u %u %lld %ld.%09ld %s%s%s\n", (long)s.st_dev >> 8,
            (long)s.st_dev & 255, (long)s.st_ino, s.st_mode, s.st_uid, s.st_gid, (long long)s.st_size,
            (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec, path, *target ? " -> " : "", target);
    if (S_ISDIR(s.st_mode)) each(path, 0, tree);
}

// realtime and boottime read as close together as ten tries give: their difference is the boot time.
static void clocks(void) {
    struct timespec real, boot, again, best_real = {0}, best_boot = {0};
    long best = -1;
    for (int i = 0; i < 10; i++) {
        clock_gettime(CLOCK_BOOTTIME, &boot);
        clock_gettime(CLOCK_REALTIME, &real);
        clock_gettime(CLOCK_BOOTTIME, &again);
        long apart = (again.tv_sec - boot.tv_sec) * 1000000000L + again.tv_nsec - boot.tv_nsec;
        if (best >= 0 && apart >= best) continue;
        best = apart, best_real = real, best_boot = boot;
    }
    char text[200];
    int n = snprintf(text, sizeof text,
                     "realtime %ld.%09ld\nboottime %ld.%09ld\nuncertainty_ns %ld\nticks_per_second %ld\n",
                     (long)best_real.tv_sec, best_real.tv_nsec, (long)best_boot.tv_sec, best_boot.tv_nsec,
                     best, sysconf(_SC_CLK_TCK));
    record("FILE", "clock", text, n);
}

static void kernel_log(void) {
    char *text = malloc(DMESG_BYTES);
    int n = syscall(SYS_syslog, 3, text, DMESG_BYTES); // SYSLOG_ACTION_READ_ALL
    if (n > 0) record("FILE", "dmesg", text, n);
    // Structured: "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT" records, one read() each.
    int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    size_t length = 0;
    ssize_t k;
    while (fd >= 0 && length + 16384 < DMESG_BYTES) {
        k = read(fd, text + length, 16384);
        if (k < 0 && errno == EPIPE) continue; // overwritten meanwhile
        if (k <= 0) break;
        length += k;
    }
    if (fd >= 0) close(fd);
    if (length) record("FILE", "kmsg", text, length);
    free(text);
}

static void module_sections(const char *path) {
    char name[PATH_BYTES + 16];
    snprintf(name, sizeof name, "%s/sections", path);
    each(name, 0, file);
    snprintf(name, sizeof name, "%s/parameters", path);
    each(name, 0, regular_file);
}

// All process ids with their start times, as text: equal before and after means no process came or went.
static FILE *census_out;
static void census_line(const char *path) {
    char name[PATH_BYTES + 16];
    size_t length;
    snprintf(name, sizeof name, "%s/stat", path);
    char *stat = slurp(name, &length, 4096), *end = 0;
    if (stat) {
        stat[length < 4096 ? length : 4095] = 0;
        end = strrchr(stat, ')');
    }
    unsigned long long start = 0;
    if (end)
        sscanf(end + 2, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
               &start);
    fprintf(census_out, "%s %llu\n", path, start);
    free(stat);
}
static char *census(void) {
    char *text = 0;
    size_t length = 0;
    census_out = open_memstream(&text, &length);
    each("/proc", 1, census_line);
    fclose(census_out);
    return text;
}

static void everything(int with_kallsyms) {
    for (int i = 0; global_files[i]; i++) file(global_files[i]);
    clocks();
    static const char *const links[] = {"/proc/self", "/proc/net", "/proc/mounts", 0};
    for (int i = 0; links[i]; i++) link_target(links[i]);
    file("/proc/1/mounts");
    namespace_count = 0;
    each("/proc", 1, namespaces_of);
    files_below("/run/gt");
    each("/sys/module", 0, module_sections);
    files_below("/sys/firmware/memmap");
    kernel_log();
    static const char *const roots[] = {"/tmp", "/run", "/root", "/mnt", "/etc", "/bin", 0};
    char *text = 0;
    size_t length = 0;
    tree_out = open_memstream(&text, &length);
    for (int i = 0; roots[i]; i++) tree(roots[i]);
    fclose(tree_out);
    record("FILE", "tree", text, length);
    free(text);
    if (with_kallsyms) file("/proc/kallsyms");
    each("/proc", 1, process); // last: closest to the moment of the dump
}

static void drop_caches(const char *value) {
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, value, 1) < 0) _exit(1); // no perror() here: it allocates
    close(fd);
}

// Gives back what only the recorder needed (kernels booted with init_on_free=1 zero it), for images that must
// compress well. Nothing recorded changes: the heap keeps its size, and only unused cache entries go.
static void tidy_up(void) {
    size_t page = sysconf(_SC_PAGESIZE);
    char *end = sbrk(0), *start = end - HEAP_BYTES;
    madvise((char *)(((size_t)start + page - 1) & -page), HEAP_BYTES - page,
            MADV_DONTNEED); // no malloc after this
    drop_caches("3");
}

void record_truth(const char *device, int with_kallsyms, int tidy) {
    prctl(PR_SET_NAME, "init");
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, 2 * HEAP_BYTES);
    free(malloc(HEAP_BYTES));
    int console = open("/dev/console", O_WRONLY | O_NOCTTY);
    port = open(device, O_WRONLY | O_NOCTTY);
    struct termios t;
    if (port >= 0 && !tcgetattr(port, &t)) {
        cfmakeraw(&t);
        t.c_cflag |= CLOCAL;
        cfsetspeed(&t, B115200);
        tcsetattr(port, TCSANOW, &t);
    }
    if (tidy) drop_caches("4"); // says once, in the log, that it will not say so again
    put("@@GT-TRUTH-BEGIN v2", 19);
    for (int attempt = 0; attempt < 4; attempt++) {
        char *before = census();
        everything(with_kallsyms);
        char *after = census();
        int same = !strcmp(before, after);
        free(before);
        free(after);
        if (same) break;
        record("RESTART", "", "", 0);
    }
    char end[64];
    put(end, snprintf(end, sizeof end, "\n@@GT-TRUTH-END %ld\n", written));
    tcdrain(port);
    if (tidy) tidy_up();
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, 0);
    static const char ready[] = "\nGT-READY\n"; // write(), not dprintf(): that allocates
    if (write(console, ready, sizeof ready - 1) < 0) _exit(1);
    tcdrain(console);
    for (;;) pause();
}
