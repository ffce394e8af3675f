// The heap actor: a process whose allocations are known one by one. Also a program of its own (with -DHEAP_ALONE), for other
// versions of glibc than that of gt.
//
// It writes to its report, through buffers of its own:
//   used ADDRESS USABLE TEXT    a block in use, its usable size by malloc_usable_size(), and the text at its start
//   free ADDRESS                a block that was given back and not handed out again
//   ref ADDRESS OFFSET TARGET   a block holds, at this offset, the address of another one
// and then what malloc_info() tells of every arena.
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { BLOCKS = 4096, TEXT = 24 };

static struct block {
    char *start;
    size_t size;
    int used;
    char text[TEXT];
} blocks[BLOCKS];
static int count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t threads_done;

static struct block *known(char *start) {
    for (int i = 0; i < count; i++)
        if (blocks[i].start == start) return &blocks[i];
    return &blocks[count < BLOCKS - 1 ? count++ : BLOCKS - 1];
}

static char *note(void *start, size_t size) {
    pthread_mutex_lock(&lock);
    struct block *b = known(start);
    b->start = start;
    b->size = size;
    b->used = 1;
    snprintf(b->text, TEXT, "GT-BLOCK-%04d", (int)(b - blocks));
    if (size < sizeof "GT-BLOCK-0000") b->text[size - 1] = 0;
    strcpy(start, b->text);
    pthread_mutex_unlock(&lock);
    return start;
}

static char *take(size_t size) {
    return note(malloc(size), size);
}

static void give(char *start) {
    pthread_mutex_lock(&lock);
    known(start)->used = 0;
    pthread_mutex_unlock(&lock);
    free(start);
}

// More blocks of each size than a thread's cache holds (7): the rest goes to fastbins or, where they are large, to bins.
static void small_ones(void) {
    static const size_t sizes[] = {24, 40, 56, 100};
    char *held[4][24];
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < 24; i++) held[s][i] = take(sizes[s]);
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < 24; i += 2) give(held[s][i]);
}

// Blocks whose neighbours stay, so that they do not merge: sorted into bins by the larger request, and one left unsorted.
static void large_ones(void) {
    char *held[40];
    for (int i = 0; i < 40; i++) held[i] = take(i % 4 < 2 ? 700 : 1500 + 200 * i);
    for (int i = 0; i < 38; i += 2) give(held[i]);
    take(20000);
    give(held[38]);
}

__attribute__((noreturn)) static void park(void) {
    for (;;) pause();
}

static void *thread_small(void *unused) {
    prctl(PR_SET_NAME, "heap-small");
    for (int i = 0; i < 30; i++) take(10 + 13 * i);
    large_ones();
    small_ones();
    pthread_barrier_wait(&threads_done);
    park();
}

// More than one heap of a non-main arena holds (64 MiB; 1 MiB where words have 4 bytes).
static void *thread_large(void *unused) {
    prctl(PR_SET_NAME, "heap-large");
    for (int i = 0; i < 560; i++) take(120000);
    small_ones();
    pthread_barrier_wait(&threads_done);
    park();
}

void heap(int argc, char **argv) {
    static char report[1 << 18];
    char path[64];
    const char *name = argc > 2 ? argv[2] : "heap";
    snprintf(path, sizeof path, "/run/gt/.%s", name);
    FILE *out = fopen(path, "w");
    if (!out) _exit(111);
    setvbuf(out, report, _IOFBF, sizeof report);
    prctl(PR_SET_NAME, name);
    fprintf(out, "pid %d\n", getpid());
    for (int i = 0; i < 200; i++) take(i * 37 % 900 + 1);
    take(300000);
    take(1 << 20);
    note(memalign(65536, 200000), 200000);
    note(memalign(256, 1000), 1000);
    note(calloc(3, 70000), 210000);
    // A table of addresses, as programs have them.
    char **table = (char **)take(TEXT + 8 * sizeof *table), **slots = table + TEXT / sizeof *table;
    for (int i = 0; i < 8; i++) slots[i] = take(80 + i);
    pthread_t threads[2];
    pthread_barrier_init(&threads_done, 0, 3);
    pthread_create(&threads[0], 0, thread_small, 0);
    pthread_create(&threads[1], 0, thread_large, 0);
    pthread_barrier_wait(&threads_done);
    usleep(100000);
    large_ones();
    small_ones();
    for (int i = 0; i < count; i++) {
        struct block *b = &blocks[i];
        if (b->used)
            fprintf(out, "used %#lx %zu %s\n", (long)b->start, malloc_usable_size(b->start), b->text);
        else
            fprintf(out, "free %#lx\n", (long)b->start);
    }
    for (int i = 0; i < 8; i++)
        fprintf(out, "ref %#lx %#zx %#lx\n", (long)table, (char *)&slots[i] - (char *)table, (long)slots[i]);
    malloc_info(0, out);
    fflush(out);
    char final[64];
    snprintf(final, sizeof final, "/run/gt/%s", name);
    rename(path, final);
    park();
}

#ifdef HEAP_ALONE
int main(int argc, char **argv) {
    heap(argc, argv);
}
#endif
