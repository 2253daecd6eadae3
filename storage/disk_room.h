/* How much room the file system has left, polled with statfs and judged with hysteresis.
 *
 *     OK --- below throttle % ---> LOW --- below refuse % ---> FULL
 *      ^---- above it by 1/4 --------'  ^--- above it by 1/4 -----'
 *
 * Without the quarter a broker at the border would change its mind with each recycled file.
 *
 * On a small disk two percent may be less than one segment. Then the log waits for a file that can't be made, and FULL
 * is said as well (needed_bytes), so that producers hear of it. */
#ifndef SLUICE_STORAGE_DISK_ROOM_H
#define SLUICE_STORAGE_DISK_ROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "storage/store.h"

#define DISK_ROOM_POLL_NS (250 * NS_PER_MS)

struct disk_room {
    uint32_t throttle_percent;
    uint32_t refuse_percent;
    enum store_room room;
    uint64_t free_bytes;
    uint64_t total_bytes;
    uint64_t next_poll_ns;
    uint64_t
        missing_bytes; // of the space that is to be kept back: not counted as free. Set by the owner
    uint64_t
        needed_bytes; // somebody waits for so much: less is FULL. Set by the owner, 0 when no longer FULL
};

/* 0 percent: that border does not exist. */
void disk_room_init(struct disk_room *room, uint32_t throttle_percent, uint32_t refuse_percent);
/* Asks when it is time. True when the judgement changed. A failed statfs leaves everything as it was. */
bool disk_room_poll(struct disk_room *room, struct io *io, const char *dir, uint64_t now_ns);
/* The judgement alone. True when it changed. */
bool disk_room_judge(struct disk_room *room, uint64_t free_bytes, uint64_t total_bytes);

#endif
