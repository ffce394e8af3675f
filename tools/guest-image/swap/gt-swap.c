// gt-swap: fills memory with a pattern that anyone can make again, has the kernel page it out, and reports where each page went.
//
//   gt-swap out NAME PAGES     fills, pages out, writes /run/gt/swap-NAME, sleeps for ever
//   gt-swap on DEVICE PRIORITY swaps to a device; the area of highest priority is filled first
//   gt-swap kcore OUT          copies /proc/kcore to OUT: the kernel's image and the direct map, as one ELF core without holes
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <unistd.h>

#define PAGE 4096
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

// Pages take turns: zeros, one repeated word, noise (does not compress), half noise (compressed it crosses pages), lines of text.
static void fill(unsigned char *page, const char *name, unsigned number) {
    uint64_t state = (number + 1) * 0x9e3779b97f4a7c15ull;
    unsigned kind = number % 8, noise = kind == 2 ? PAGE : kind == 3 ? PAGE / 2 + 256 : 0;
    memset(page, kind == 1 ? 'G' : 0, PAGE);
    if (kind < 2) return;
    for (unsigned at = 0; at < noise; at += 8) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        memcpy(page + at, &state, 8);
    }
    char line[40];
    for (unsigned at = noise; at + 32 <= PAGE; at += 32) {
        snprintf(line, sizeof line, "GT-SWAP %-6s page %06u at %04u", name, number, at);
        memcpy(page + at, line, 31);
        page[at + 31] = '\n';
    }
}

static int out(const char *name, unsigned pages) {
    unsigned char *memory = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(memory, pages * PAGE, 15); // MADV_NOHUGEPAGE
    for (unsigned n = 0; n < pages; n++) {
        *(volatile unsigned char *)(memory + n * PAGE) = 1; // a page of its own, not the shared zero page
        fill(memory + n * PAGE, name, n);
    }
    uint64_t *map = calloc(pages, 8);
    int file = open("/proc/self/pagemap", O_RDONLY);
    unsigned gone = 0;
    for (int turn = 0; turn < 40 && gone < pages; turn++) {
        madvise(memory, pages * PAGE, MADV_PAGEOUT);
        usleep(100000);
        pread(file, map, pages * 8, (uintptr_t)memory / PAGE * 8);
        gone = 0;
        for (unsigned n = 0; n < pages; n++) gone += map[n] >> 62 & 1;
    }
    char path[64];
    snprintf(path, sizeof path, "/run/gt/swap-%s.new", name);
    FILE *f = fopen(path, "w");
    fprintf(f, "pid %d start %lx pages %u\n", getpid(), (unsigned long)memory, pages);
    // Documentation/admin-guide/mm/pagemap.rst: bit 62 swapped, then bits 0-4 the area and 5-54 the page in it.
    for (unsigned n = 0; n < pages; n++) fprintf(f, "%llx\n", (unsigned long long)map[n]);
    fclose(f);
    char final[64];
    snprintf(final, sizeof final, "/run/gt/swap-%s", name);
    rename(path, final);
    for (;;) pause();
    return 0;
}

static void copy(int from, int to, uint64_t at, uint64_t size) {
    static char buffer[1 << 16];
    while (size > 0) {
        size_t want = size < sizeof buffer ? size : sizeof buffer;
        ssize_t got = pread(from, buffer, want, at);
        if (got <= 0) memset(buffer, 0, got = want);
        write(to, buffer, got);
        at += got, size -= got;
    }
}

static int kcore(const char *target) {
    int from = open("/proc/kcore", O_RDONLY), to = open(target, O_WRONLY);
    ElfW(Ehdr) head;
    ElfW(Phdr) all[64], kept[64];
    if (from < 0 || to < 0 || read(from, &head, sizeof head) != sizeof head || head.e_phnum > 64) return 1;
    pread(from, all, head.e_phnum * sizeof *all, head.e_phoff);
    int count = 0;
    uint64_t place = PAGE;
    uint64_t source[64];
    for (int n = 0; n < head.e_phnum; n++) {
        // Huge ones are vmalloc and the room for modules, most of which is not there.
        if (all[n].p_type == PT_LOAD && (all[n].p_memsz > 512u << 20 || all[n].p_filesz == 0)) continue;
        kept[count] = all[n];
        source[count] = all[n].p_offset;
        kept[count].p_offset = place;
        place += (all[n].p_filesz + PAGE - 1) / PAGE * PAGE;
        count++;
    }
    head.e_phnum = count;
    head.e_phoff = sizeof head;
    write(to, &head, sizeof head);
    write(to, kept, count * sizeof *kept);
    for (int n = 0; n < count; n++) {
        lseek(to, kept[n].p_offset, SEEK_SET);
        copy(from, to, source[n], kept[n].p_filesz);
    }
    fsync(to);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 3 && !strcmp(argv[1], "out")) return out(argv[2], atoi(argv[3]));
    if (argc > 3 && !strcmp(argv[1], "on")) return swapon(argv[2], SWAP_FLAG_PREFER | atoi(argv[3])) != 0;
    if (argc > 2 && !strcmp(argv[1], "kcore")) return kcore(argv[2]);
    return 2;
}
