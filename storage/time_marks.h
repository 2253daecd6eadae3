/* When what was appended: a few (time, LSN) pairs of the open segment, so that retention by time can cut
 * inside it. At most TIME_MARKS_MAX; when they run out every other one goes, so the precision is about 1/128 of the time
 * that the segment is open (less where appends pause: a mark between two pauses may be one that goes). */
#ifndef SLUICE_STORAGE_TIME_MARKS_H
#define SLUICE_STORAGE_TIME_MARKS_H

#include <stdint.h>

#define TIME_MARKS_MAX 256u
#define TIME_MARKS_GAP_MS 100u // at first

struct time_mark {
    uint64_t ms; // everything below lsn was appended at or before this time
    uint64_t lsn;
};

struct time_marks {
    struct time_mark marks[TIME_MARKS_MAX];
    uint32_t count;
    uint64_t gap_ms;
};

void time_marks_clear(struct time_marks *times);
/* Both rise. Mostly does nothing. */
void time_marks_add(struct time_marks *times, uint64_t ms, uint64_t lsn);
/* The highest known LSN below which everything was appended at or before `ms`; 0: none known. */
uint64_t time_marks_cut(const struct time_marks *times, uint64_t ms);

#endif
