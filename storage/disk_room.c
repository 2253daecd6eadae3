/* See disk_room.h. Happy path: nothing to do until the next poll is due. Failure mode: statfs fails: one warning,
 * and the last judgement stays. */
#include "storage/disk_room.h"

#include "base/log.h"

static bool is_below(uint64_t free_bytes, uint64_t total_bytes, uint32_t percent, bool is_inside);

void disk_room_init(struct disk_room *room, uint32_t throttle_percent, uint32_t refuse_percent)
{
    *room = (struct disk_room){
        .throttle_percent = throttle_percent,
        .refuse_percent = refuse_percent,
        .room = STORE_ROOM_OK,
    };
}

bool disk_room_poll(struct disk_room *room, struct io *io, const char *dir, uint64_t now_ns)
{
    if (now_ns < room->next_poll_ns)
        return false;
    room->next_poll_ns = now_ns + DISK_ROOM_POLL_NS;
    struct io_fs_info info;
    int status = io_fs_info(io, dir, &info);
    if (status < 0) {
        LOG_WARN("disk_room.statfs_failed", LOG_STR("dir", dir), LOG_STATUS(status));
        return false;
    }
    return disk_room_judge(room, info.free_bytes, info.total_bytes);
}

bool disk_room_judge(struct disk_room *room, uint64_t free_bytes, uint64_t total_bytes)
{
    enum store_room before = room->room;
    room->free_bytes = free_bytes;
    room->total_bytes = total_bytes;
    if (is_below(free_bytes, total_bytes, room->refuse_percent, before == STORE_ROOM_FULL))
        room->room = STORE_ROOM_FULL;
    else if (is_below(free_bytes, total_bytes, room->throttle_percent, before != STORE_ROOM_OK))
        room->room = STORE_ROOM_LOW;
    else
        room->room = STORE_ROOM_OK;
    return room->room != before;
}

/* Who is inside gets out only a quarter above the border. */
static bool is_below(uint64_t free_bytes, uint64_t total_bytes, uint32_t percent, bool is_inside)
{
    uint64_t border = total_bytes / 100 * percent;
    if (is_inside)
        border += border / 4;
    return free_bytes < border;
}
