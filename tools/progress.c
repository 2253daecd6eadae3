/* Progress for people: one line on standard error that is rewritten, only when it is a terminal. */
#include <unistd.h>

#include "base/clock.h"
#include "base/units.h"
#include "tools/ctl.h"

#define PERIOD_NS (200 * NS_PER_MS)

void progress_begin(struct progress *progress)
{
    progress->start_ns = clock_mono_ns(clock_system());
    progress->next_ns = isatty(2) ? progress->start_ns + PERIOD_NS : UINT64_MAX;
    progress->shown = false;
}

void progress_show(struct progress *progress, const char *what, uint64_t records, uint64_t bytes)
{
    if (progress->next_ns == UINT64_MAX)
        return;
    uint64_t now = clock_mono_ns(clock_system());
    if (now < progress->next_ns)
        return;
    progress->next_ns = now + PERIOD_NS;
    progress->shown = true;
    char size[UNITS_TEXT_MAX];
    double seconds = (double)(now - progress->start_ns) / 1e9;
    fprintf(stderr, "\r%s %llu records, %s, %.0f records/s\033[K", what,
            (unsigned long long)records, units_format_size(bytes, size), (double)records / seconds);
}

void progress_end(struct progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
}
