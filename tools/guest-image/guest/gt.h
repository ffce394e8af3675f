// Shared by the sources of gt, the guest's helper program.
#ifndef GT_H
#define GT_H

#define _GNU_SOURCE
#include <stddef.h>

// actors.c: runs the actor called name; returns only when there is no such actor.
void run_actor(const char *name, int argc, char **argv);

// heap.c: the heap actor; its report is /run/gt/NAME.
void heap(int argc, char **argv);

// truth.c: writes the guest's own view of itself to the serial port, then parks for ever.
void record_truth(const char *port, int with_kallsyms, int tidy);

// rtnl.c: renders one rtnetlink dump (RTM_GETLINK, RTM_GETADDR or RTM_GETNEIGH) of the current
// network namespace as text; the caller frees it. NULL when the kernel refuses.
char *rtnl_dump(int request, size_t *length);

// rtnl.c: adds a permanent neighbour, IPv4 or IPv6. Returns 0, or -1 with errno set.
int rtnl_add_neighbour(const char *interface, const char *ip, const char *mac);

#endif
