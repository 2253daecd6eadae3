/* "beginning", "end", an offset, "@MS" or "@RFC3339": a place in a partition, as users type it. */
#ifndef SLUICE_TOOLS_WHERE_H
#define SLUICE_TOOLS_WHERE_H

#include "tools/ctl.h"

struct where {
    enum sluice_start start;
    uint64_t value;
};

/* EXIT_DONE, or EXIT_USAGE with a message that names the option. */
int where_parse(const struct ctl *ctl, const char *option, const char *text, struct where *where);

#endif
