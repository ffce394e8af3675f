// rtnetlink without libraries: what `ip addr` and `ip neigh` would print, and one setter.
#include "gt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void print_bytes(FILE *o, const unsigned char *bytes, int length) {
    for (int i = 0; i < length; i++) fprintf(o, "%s%02x", i ? ":" : "", bytes[i]);
}

static void print_ip(FILE *o, int family, const void *address) {
    char text[INET6_ADDRSTRLEN] = "?";
    inet_ntop(family, address, text, sizeof text);
    fputs(text, o);
}

// "INDEX NAME flags=0xFLAGS mtu=MTU mac=MAC" (flags as the kernel's dev_get_flags() gives them)
static void print_link(FILE *o, struct nlmsghdr *h) {
    struct ifinfomsg *m = NLMSG_DATA(h);
    int left = h->nlmsg_len - NLMSG_LENGTH(sizeof *m);
    const char *name = "?";
    unsigned mtu = 0;
    struct rtattr *mac = 0;
    for (struct rtattr *a = IFLA_RTA(m); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if (a->rta_type == IFLA_IFNAME) name = RTA_DATA(a);
        if (a->rta_type == IFLA_MTU) mtu = *(unsigned *)RTA_DATA(a);
        if (a->rta_type == IFLA_ADDRESS) mac = a;
    }
    fprintf(o, "%d %s flags=0x%x mtu=%u mac=", m->ifi_index, name, m->ifi_flags, mtu);
    if (mac) print_bytes(o, RTA_DATA(mac), RTA_PAYLOAD(mac));
    fputc('\n', o);
}

// "INDEX inet|inet6 ADDRESS/PREFIX scope=SCOPE label=LABEL" (label: IPv4 only)
static void print_address(FILE *o, struct nlmsghdr *h) {
    struct ifaddrmsg *m = NLMSG_DATA(h);
    int left = h->nlmsg_len - NLMSG_LENGTH(sizeof *m);
    void *address = 0, *local = 0;
    const char *label = "";
    for (struct rtattr *a = IFA_RTA(m); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if (a->rta_type == IFA_ADDRESS) address = RTA_DATA(a);
        if (a->rta_type == IFA_LOCAL) local = RTA_DATA(a);
        if (a->rta_type == IFA_LABEL) label = RTA_DATA(a);
    }
    fprintf(o, "%d %s ", m->ifa_index, m->ifa_family == AF_INET6 ? "inet6" : "inet");
    if (local || address) print_ip(o, m->ifa_family, local ? local : address);
    fprintf(o, "/%d scope=%d label=%s\n", m->ifa_prefixlen, m->ifa_scope, label);
}

// "INDEX inet|inet6 ADDRESS mac=MAC state=0xSTATE" (state: NUD_* bits)
static void print_neighbour(FILE *o, struct nlmsghdr *h) {
    struct ndmsg *m = NLMSG_DATA(h);
    int left = h->nlmsg_len - NLMSG_LENGTH(sizeof *m);
    void *ip = 0;
    struct rtattr *mac = 0;
    struct rtattr *a = (struct rtattr *)((char *)m + NLMSG_ALIGN(sizeof *m));
    for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if (a->rta_type == NDA_DST) ip = RTA_DATA(a);
        if (a->rta_type == NDA_LLADDR) mac = a;
    }
    if (!ip || (m->ndm_family != AF_INET && m->ndm_family != AF_INET6)) return;
    fprintf(o, "%d %s ", m->ndm_ifindex, m->ndm_family == AF_INET6 ? "inet6" : "inet");
    print_ip(o, m->ndm_family, ip);
    fputs(" mac=", o);
    if (mac) print_bytes(o, RTA_DATA(mac), RTA_PAYLOAD(mac));
    fprintf(o, " state=0x%x\n", m->ndm_state);
}

char *rtnl_dump(int request, size_t *length) {
    int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (s < 0) return 0;
    // Each request has its own fixed header; a longer one makes the kernel log a complaint.
    size_t fixed = request == RTM_GETLINK   ? sizeof(struct ifinfomsg)
                   : request == RTM_GETADDR ? sizeof(struct ifaddrmsg)
                                            : sizeof(struct ndmsg);
    struct {
        struct nlmsghdr h;
        char fixed[16];
    } q = {.h = {.nlmsg_len = NLMSG_LENGTH(fixed),
                 .nlmsg_type = request,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
    char *text = 0;
    FILE *o = open_memstream(&text, length);
    int done = send(s, &q, q.h.nlmsg_len, 0) < 0;
    while (!done) {
        static char buffer[65536] __attribute__((aligned(16)));
        int n = recv(s, buffer, sizeof buffer, 0);
        if (n <= 0) break;
        struct nlmsghdr *h = (struct nlmsghdr *)buffer;
        for (; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n)) {
            done = h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR;
            if (done) break;
            if (request == RTM_GETLINK) print_link(o, h);
            if (request == RTM_GETADDR) print_address(o, h);
            if (request == RTM_GETNEIGH) print_neighbour(o, h);
        }
    }
    fclose(o);
    close(s);
    return text;
}

static void add_attribute(struct nlmsghdr *h, int type, const void *data, int length) {
    struct rtattr *a = (struct rtattr *)((char *)h + NLMSG_ALIGN(h->nlmsg_len));
    a->rta_type = type;
    a->rta_len = RTA_LENGTH(length);
    memcpy(RTA_DATA(a), data, length);
    h->nlmsg_len = NLMSG_ALIGN(h->nlmsg_len) + RTA_ALIGN(a->rta_len);
}

int rtnl_add_neighbour(const char *interface, const char *ip, const char *mac) {
    struct {
        struct nlmsghdr h;
        struct ndmsg m;
        char attributes[64];
    } q = {.h = {.nlmsg_len = NLMSG_LENGTH(sizeof q.m),
                 .nlmsg_type = RTM_NEWNEIGH,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK}};
    unsigned char address[16], hardware[6];
    q.m.ndm_family = strchr(ip, ':') ? AF_INET6 : AF_INET;
    q.m.ndm_ifindex = if_nametoindex(interface);
    q.m.ndm_state = NUD_PERMANENT;
    if (inet_pton(q.m.ndm_family, ip, address) != 1) return errno = EINVAL, -1;
    int n = sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", hardware, hardware + 1, hardware + 2, hardware + 3,
                   hardware + 4, hardware + 5);
    if (n != 6) return errno = EINVAL, -1;
    add_attribute(&q.h, NDA_DST, address, q.m.ndm_family == AF_INET6 ? 16 : 4);
    add_attribute(&q.h, NDA_LLADDR, hardware, 6);

    int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (s < 0) return -1;
    struct {
        struct nlmsghdr h;
        struct nlmsgerr e;
        char rest[256];
    } answer;
    int ok = send(s, &q, q.h.nlmsg_len, 0) >= 0 && recv(s, &answer, sizeof answer, 0) > 0;
    close(s);
    if (ok && answer.e.error) return errno = -answer.e.error, -1;
    return ok ? 0 : -1;
}
