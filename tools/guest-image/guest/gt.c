// gt: the guest's helper. Every sub-command is one actor whose state the analyzer must find again;
// "truth" reports what the guest's own kernel says about itself.
#include "gt.h"

#include <stdio.h>
#include <string.h>

static int has(int argc, char **argv, const char *word) {
    for (int i = 3; i < argc; i++)
        if (!strcmp(argv[i], word)) return 1;
    return 0;
}

int main(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    if (!strcmp(command, "truth") && argc > 2) {
        record_truth(argv[2], has(argc, argv, "kallsyms"), has(argc, argv, "tidy"));
    } else if (!strcmp(command, "neigh") && argc > 4) {
        if (rtnl_add_neighbour(argv[2], argv[3], argv[4]) == 0) return 0;
        perror("gt: neigh");
        return 1;
    } else {
        run_actor(command, argc, argv);
    }
    dprintf(2, "gt: unknown command: %s\n", command);
    return 2;
}
