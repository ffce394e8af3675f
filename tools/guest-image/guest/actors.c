// The actors: processes whose state is known exactly, one function each. An actor writes /run/gt/NAME when it
// is in place (init waits for that) and then never runs again.
#include "gt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void park(void) {
    for (;;) pause();
}

static int check(int result, const char *what) {
    if (result >= 0) return result;
    dprintf(2, "gt: %s: %s\n", what, strerror(errno));
    _exit(111);
}

static void ready(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "/run/gt/%s", name);
    int fd = open(path, O_CREAT | O_WRONLY, 0666);
    if (fd < 0) return;
    dprintf(fd, "%d\n", getpid());
    close(fd);
}

static void store(int fd, const char *text) {
    check(write(fd, text, strlen(text)), "write");
}

// --- Internet sockets
// ---------------------------------------------------------------------------------------

static socklen_t address(struct sockaddr_storage *a, const char *ip, int port) {
    memset(a, 0, sizeof *a);
    if (strchr(ip, ':')) {
        struct sockaddr_in6 *six = (void *)a;
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        inet_pton(AF_INET6, ip, &six->sin6_addr);
        return sizeof *six;
    }
    struct sockaddr_in *four = (void *)a;
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    inet_pton(AF_INET, ip, &four->sin_addr);
    return sizeof *four;
}

static int bound(int type, const char *ip, int port) {
    struct sockaddr_storage a;
    socklen_t length = address(&a, ip, port);
    int one = 1, s = check(socket(a.ss_family, type, 0), "socket");
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a.ss_family == AF_INET6) setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    check(bind(s, (void *)&a, length), "bind");
    return s;
}

static void connect_to(int s, const char *ip, int port) {
    struct sockaddr_storage a;
    socklen_t length = address(&a, ip, port);
    check(connect(s, (void *)&a, length), "connect");
}

static void tcp_server(int argc, char **argv) {
    char name[64], buffer[64];
    int s = bound(SOCK_STREAM, argv[2], atoi(argv[3]));
    check(listen(s, 7), "listen");
    snprintf(name, sizeof name, "tcpsrv%s", argv[3]);
    ready(name);
    for (;;) {
        int c = accept(s, 0, 0);
        if (c >= 0 && read(c, buffer, sizeof buffer) >= 0) store(c, "HELLO-FROM-SERVER");
    }
}

static void tcp_client(int argc, char **argv) {
    char name[64], buffer[64];
    int s = bound(SOCK_STREAM, argv[2], atoi(argv[4]));
    connect_to(s, argv[2], atoi(argv[3]));
    store(s, "hello-from-client");
    check(read(s, buffer, sizeof buffer), "read");
    if (argc > 5) shutdown(s, SHUT_WR); // leaves FIN_WAIT2 here and CLOSE_WAIT at the server
    snprintf(name, sizeof name, "tcpcli%s", argv[4]);
    ready(name);
    park();
}

// Leaves a connection in TIME_WAIT, which has no process; the kernel forgets it after a minute.
static void time_wait(int argc, char **argv) {
    char byte;
    int listener = bound(SOCK_STREAM, "127.0.0.1", 7777), client = bound(SOCK_STREAM, "127.0.0.1", 51007);
    check(listen(listener, 1), "listen");
    connect_to(client, "127.0.0.1", 7777);
    int server = check(accept(listener, 0, 0), "accept");
    close(client);
    check(read(server, &byte, 1), "read");
    close(server);
    close(listener);
    usleep(100000);
    ready("timewait");
    park();
}

static void datagram_and_raw(int argc, char **argv) {
    bound(SOCK_DGRAM, "0.0.0.0", 5353);
    connect_to(bound(SOCK_DGRAM, "127.0.0.1", 40053), "127.0.0.1", 5353);
    bound(SOCK_DGRAM, "::1", 5354);
    check(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "raw");
    check(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), "raw6");
    int packet = check(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), "packet");
    struct sockaddr_ll link = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = if_nametoindex("lo")};
    bind(packet, (void *)&link, sizeof link);
    int netlink = check(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), "netlink");
    struct sockaddr_nl groups = {.nl_family = AF_NETLINK, .nl_groups = 1};
    bind(netlink, (void *)&groups, sizeof groups);
    ready("udp");
    park();
}

// --- Unix sockets
// -------------------------------------------------------------------------------------------

static void unix_sockets(int argc, char **argv) {
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/run/gt-unix.sock"};
    int pair[2], listener = check(socket(AF_UNIX, SOCK_STREAM, 0), "unix");
    check(bind(listener, (void *)&a, sizeof a), "bind unix");
    check(listen(listener, 3), "listen unix");
    check(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, sizeof a), "connect unix");
    check(accept(listener, 0, 0), "accept unix");
    struct sockaddr_un hidden = {.sun_family = AF_UNIX};
    memcpy(hidden.sun_path, "\0gt-abstract", 12);
    check(bind(socket(AF_UNIX, SOCK_DGRAM, 0), (void *)&hidden, sizeof(sa_family_t) + 12), "bind abstract");
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), "socketpair");
    ready("unix");
    park();
}

// --- Memory and files
// ---------------------------------------------------------------------------------------

static char *map(size_t length, int protection, int flags, int fd) {
    char *p = mmap(0, length, protection, flags, fd, 0);
    check(p == MAP_FAILED ? -1 : 0, "mmap");
    return p;
}

static void memory(int argc, char **argv) {
    static const unsigned char code[] = {0x90, 0x90, 0x90, 0x48, 0x31, 0xc0, 0xb0,
                                         0x3c, 0x48, 0x31, 0xff, 0x0f, 0x05}; // xor rax; mov al,60; syscall
    char *rwx = map(8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    memcpy(rwx, code, sizeof code);
    strcpy(rwx + 256, "GT-RWX-MARKER-8d4f1c02");
    char *heap = malloc(300000);
    memset(heap, 'A', 300000);
    strcpy(heap + 1000, "GT-HEAP-MARKER-55aa31c7 password=hunter2 https://example.org/secret");
    char *shared = map(4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    strcpy(shared, "GT-SHARED-ANON-MARKER");
    char *none = map(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    strcpy(none, "GT-RO-MARKER");
    mprotect(none, 4096, PROT_NONE);
    char stack[64] = "GT-STACK-MARKER-77ee";
    __asm__ volatile("" ::"r"(stack) : "memory");
    int fd = open("/run/gt/rwx.addr", O_CREAT | O_WRONLY, 0644);
    dprintf(fd, "rwx=%p heap=%p shared=%p none=%p stack=%p\n", rwx, heap, shared, none, stack);
    close(fd);
    ready("rwx");
    park();
}

static void files(int argc, char **argv) {
    int deleted = check(open("/tmp/deleted-secret.txt", O_CREAT | O_RDWR, 0600), "deleted");
    store(deleted, "this file is deleted but open: GT-DELETED-FILE-CONTENT\n");
    unlink("/tmp/deleted-secret.txt");
    int kept = check(open("/mnt/loop/dir1/kept.txt", O_RDWR), "kept");
    int passwd = check(open("/etc/passwd", O_RDONLY), "passwd");
    lseek(passwd, 17, SEEK_SET);
    check(open("/mnt/loop/dir1", O_RDONLY | O_DIRECTORY), "directory");
    check(open("/tmp", O_PATH), "O_PATH");
    int log = check(open("/tmp/append.log", O_CREAT | O_WRONLY | O_APPEND, 0644), "append");
    store(log, "line1\nline2\n");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
    fcntl(log, F_SETLK, &lock);
    int odd = check(open("/tmp/odd name\twith\nnewline\\", O_CREAT | O_RDWR, 0644), "odd name");
    store(odd, "GT-ODD-NAME");
    map(4096, PROT_READ, MAP_PRIVATE, odd);
    int ends[2];
    check(pipe(ends), "pipe");
    store(ends[1], "GT-PIPE-CONTENT");
    int event = eventfd(3, 0), poller = epoll_create1(0), watch = inotify_init();
    struct epoll_event e = {.events = EPOLLIN};
    epoll_ctl(poller, EPOLL_CTL_ADD, event, &e);
    inotify_add_watch(watch, "/tmp", IN_CREATE);
    timerfd_create(CLOCK_MONOTONIC, 0);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    signalfd(-1, &signals, 0);
    int anonymous = check(memfd_create("gt-memfd", 0), "memfd");
    store(anonymous, "\x7f"
                     "ELF-GT-MEMFD");
    map(4096, PROT_READ, MAP_SHARED, anonymous);
    map(4096, PROT_READ | PROT_WRITE, MAP_SHARED, kept)[0] ^= 0;
    fcntl(kept, F_DUPFD, 50);
    open("/dev/null", O_RDWR);
    open("/dev/zero", O_RDONLY);
    open("/dev/urandom", O_RDONLY);
    open("/proc/1/status", O_RDONLY);
    open("/proc/self/ns/net", O_RDONLY);
    syscall(SYS_pidfd_open, getpid(), 0);
    check(chdir("/mnt/loop/dir1"), "chdir");
    ready("files");
    park();
}

static void system_v_ipc(int argc, char **argv) {
    strcpy(shmat(shmget(0x47541111, 8192, IPC_CREAT | 0640), 0, 0), "GT-SYSV-SHM-CONTENT");
    struct {
        long type;
        char text[16];
    } message = {1, "GT-MSG"};
    msgsnd(msgget(0x47542222, IPC_CREAT | 0600), &message, sizeof message.text, 0);
    semget(0x47543333, 4, IPC_CREAT | 0666);
    ready("ipc");
    park();
}

// --- Threads, odd states, disguises
// -------------------------------------------------------------------------

static void *worker(void *number) {
    char name[16];
    snprintf(name, sizeof name, "gt-worker-%ld", (long)number);
    prctl(PR_SET_NAME, name);
    park();
    return 0;
}

static void threads(int argc, char **argv) {
    for (long i = 1; i <= 3; i++) {
        pthread_t t;
        pthread_create(&t, 0, worker, (void *)i);
    }
    usleep(200000);
    ready("threads");
    park();
}

// The main thread has gone, its threads live on: the leader is a zombie that still heads a process.
static void dead_leader(int argc, char **argv) {
    pthread_t t;
    pthread_create(&t, 0, worker, (void *)9);
    usleep(200000);
    ready("deadleader");
    pthread_exit(0);
}

static void zombie(int argc, char **argv) {
    pid_t child = fork();
    if (!child) _exit(42);
    siginfo_t info;
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    ready("zombie");
    park();
}

static void traced(int argc, char **argv) {
    pid_t child = fork();
    if (!child) {
        prctl(PR_SET_NAME, "gt-tracee");
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        park();
    }
    int status;
    waitpid(child, &status, 0);
    prctl(PR_SET_NAME, "gt-tracer");
    ready("ptrace");
    park();
}

static void stopped(int argc, char **argv) {
    ready("stopped");
    raise(SIGSTOP);
    park();
}

static void disguised(int argc, char **argv) { // overwrites its arguments with a kernel thread's name
    prctl(PR_SET_NAME, "kworker/0:9");
    size_t length = argv[argc - 1] + strlen(argv[argc - 1]) - argv[0];
    memset(argv[0], 0, length);
    strcpy(argv[0], "[kworker/0:9]");
    ready("disguise");
    park();
}

static void hostile_name(int argc, char **argv) { // a terminal escape as the process name
    prctl(PR_SET_NAME, "gt\x1b[31m) S 1\n\\");
    ready("hostile");
    park();
}

static void deleted_program(int argc, char **argv) { // copies itself, runs the copy and unlinks it
    char buffer[65536];
    int in = open("/proc/self/exe", O_RDONLY);
    int out = open("/tmp/.gt-hidden-bin", O_CREAT | O_WRONLY | O_TRUNC, 0755);
    ssize_t n;
    while ((n = read(in, buffer, sizeof buffer)) > 0) check(write(out, buffer, n), "copy");
    close(in);
    close(out);
    char *arguments[] = {"/tmp/.gt-hidden-bin", "unlinkself", "-f", 0};
    char *environment[] = {"GT_ROLE=deleted-exe", "LD_PRELOAD=/tmp/evil.so", 0};
    check(execve("/tmp/.gt-hidden-bin", arguments, environment), "execve");
}

static void unlink_self(int argc, char **argv) {
    unlink("/tmp/.gt-hidden-bin");
    ready("deletedexe");
    park();
}

static void other_user(int argc, char **argv) {
    int fd = open("/proc/self/loginuid", O_WRONLY);
    if (fd >= 0) dprintf(fd, "4321"), close(fd);
    check(setresgid(1234, 1235, 1236), "setresgid"); // real, effective, saved all differ
    check(setresuid(4321, 4322, 4323), "setresuid");
    prctl(PR_SET_NAME, "gt-user4321");
    ready("caps");
    park();
}

// --- Namespaces
// ---------------------------------------------------------------------------------------------

static void namespaces(int argc, char **argv) {
    check(unshare(CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWIPC), "unshare");
    if (fork()) {
        ready("ns-parent");
        park();
    }
    sethostname("gt-container", 12);
    prctl(PR_SET_NAME, "gt-ns-init");
    if (fork()) park();
    prctl(PR_SET_NAME, "gt-ns-child");
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &request);
    mount("gt-private", "/mnt/private", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k");
    open("/mnt/private/inside.txt", O_CREAT | O_RDWR, 0644);
    int listener = bound(SOCK_STREAM, "0.0.0.0", 8088);
    check(listen(listener, 1), "listen");
    int client = bound(SOCK_STREAM, "127.0.0.1", 51088);
    connect_to(client, "127.0.0.1", 8088);
    check(accept(listener, 0, 0), "accept");
    bound(SOCK_DGRAM, "127.0.0.1", 5388);
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/mnt/private/ns.sock"};
    check(bind(socket(AF_UNIX, SOCK_DGRAM, 0), (void *)&a, sizeof a), "bind unix");
    ready("ns");
    park();
}

// --- bash behind a pseudo-terminal
// --------------------------------------------------------------------------

static void drain(int terminal, int milliseconds) {
    char buffer[4096];
    struct pollfd p = {terminal, POLLIN, 0};
    while (poll(&p, 1, milliseconds) > 0)
        if (read(terminal, buffer, sizeof buffer) <= 0) break;
}

// Types the lines of a script into a shell.
static void typed(const char *script, const char *program, char **arguments, char **environment) {
    int terminal;
    struct winsize size = {24, 80, 0, 0};
    if (!forkpty(&terminal, 0, 0, &size)) {
        check(chdir("/root"), "chdir");
        check(execve(program, arguments, environment), program);
    }
    drain(terminal, 1500);
    FILE *lines = fopen(script, "r");
    char line[512];
    while (lines && fgets(line, sizeof line, lines)) {
        store(terminal, line);
        drain(terminal, 400);
        if (!strncmp(line, "sleep 1;", 8)) sleep(1);
    }
    if (lines) fclose(lines);
    ready(arguments[0]);
    for (;;) drain(terminal, -1);
}

static void interactive_bash(int argc, char **argv) {
    char *arguments[] = {"bash", "--norc", "-i", 0};
    char *environment[] = {"PATH=/bin:/sbin:/usr/bin:/usr/sbin",
                           "HOME=/root",
                           "TERM=dumb",
                           "USER=root",
                           "HISTFILE=/root/.bash_history",
                           "GT_ROLE=interactive-bash",
                           "PS1=gt# ",
                           0};
    prctl(PR_SET_NAME, "gt-sshd");
    typed(argv[2], "/bin/bash", arguments, environment);
}

static void interactive_zsh(int argc, char **argv) {
    char *arguments[] = {"zsh", "-f", "-i", 0};
    char *environment[] = {
        "PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/root", "TERM=dumb", "HISTSIZE=1000", "PS1=gt% ", 0};
    typed(argv[2], "/bin/zsh-static", arguments, environment);
}

static void sleeper(int argc, char **argv) {
    ready(argc > 2 ? argv[2] : "park");
    park();
}

void run_actor(const char *name, int argc, char **argv) {
    static const struct {
        const char *name;
        int arguments;
        void (*run)(int, char **);
    } actors[] = {
        {"park", 0, sleeper},
        {"tcpsrv", 2, tcp_server},
        {"tcpcli", 3, tcp_client},
        {"timewait", 0, time_wait},
        {"udp", 0, datagram_and_raw},
        {"unix", 0, unix_sockets},
        {"rwx", 0, memory},
        {"files", 0, files},
        {"ipc", 0, system_v_ipc},
        {"threads", 0, threads},
        {"deadleader", 0, dead_leader},
        {"zombie", 0, zombie},
        {"ptrace", 0, traced},
        {"stopped", 0, stopped},
        {"disguise", 0, disguised},
        {"hostile", 0, hostile_name},
        {"deletedexe", 0, deleted_program},
        {"unlinkself", 0, unlink_self},
        {"caps", 0, other_user},
        {"ns", 0, namespaces},
        {"heap", 0, heap},
        {"bash", 1, interactive_bash},
        {"zsh", 1, interactive_zsh},
    };
    for (size_t i = 0; i < sizeof actors / sizeof *actors; i++)
        if (!strcmp(actors[i].name, name) && argc >= actors[i].arguments + 2) actors[i].run(argc, argv);
}
