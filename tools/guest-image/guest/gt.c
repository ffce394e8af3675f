// gt: the guest's helper. Every sub-command is one actor whose state the analyzer must find again;
// "truth" reports what the guest's own kernel says about itself.
#include "gt.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    if (!strcmp(command, "truth") && argc > 2) {
        record_truth(argv[2], argc > 3 && !strcmp(argv[3], "kallsyms"));
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
