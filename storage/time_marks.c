/* Happy path of an append: the last mark is young enough, nothing happens. See time_marks.h. No failure modes. */
#include "storage/time_marks.h"

#include "base/check.h"

static void thin_out(struct time_marks *times);

void time_marks_clear(struct time_marks *times)
{
    times->count = 0;
    times->gap_ms = TIME_MARKS_GAP_MS;
}

void time_marks_add(struct time_marks *times, uint64_t ms, uint64_t lsn)
{
    if (LIKELY(times->count > 0 && ms < times->marks[times->count - 1].ms + times->gap_ms))
        return;
    if (times->count == TIME_MARKS_MAX)
        thin_out(times);
    times->marks[times->count++] = (struct time_mark){ms, lsn};
}

uint64_t time_marks_cut(const struct time_marks *times, uint64_t ms)
{
    uint32_t low = 0, high = times->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (times->marks[middle].ms <= ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? times->marks[low - 1].lsn : 0;
}

static void thin_out(struct time_marks *times)
{
    for (uint32_t i = 0; i < TIME_MARKS_MAX / 2; i++)
        times->marks[i] = times->marks[2 * i + 1];
    times->count = TIME_MARKS_MAX / 2;
    times->gap_ms *= 2;
}
