/* See where.h. */
#include "tools/where.h"

#include <string.h>

#include "base/units.h"

int where_parse(const struct ctl *ctl, const char *option, const char *text, struct where *where)
{
    *where = (struct where){.start = SLUICE_START_OFFSET};
    if (strcmp(text, "beginning") == 0) {
        where->start = SLUICE_START_BEGINNING;
    } else if (strcmp(text, "end") == 0) {
        where->start = SLUICE_START_END;
    } else if (*text == '@') {
        where->start = SLUICE_START_TIMESTAMP;
        if (units_parse_time(text + 1, &where->value))
            return ctl_usage(ctl, "%s %s: want @MILLISECONDS or @2026-11-20T23:00:00Z", option,
                             text);
    } else if (units_parse_u64(text, &where->value)) {
        return ctl_usage(ctl, "%s %s: want beginning, end, an offset, or @TIME", option, text);
    }
    return EXIT_DONE;
}
