/* See disk_room.h. Happy path: nothing to do until the next poll is due. Failure mode: statfs fails: one warning,
 * and the last judgement stays. */
#include "storage/disk_room.h"

#include "base/log.h"

static bool is_below(uint64_t free_bytes, uint64_t border, bool is_inside);

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
    free_bytes -= min_u64(free_bytes, room->missing_bytes);
    uint64_t refuse = max_u64(total_bytes / 100 * room->refuse_percent, room->needed_bytes);
    uint64_t throttle = max_u64(total_bytes / 100 * room->throttle_percent, refuse);
    if (is_below(free_bytes, refuse, before == STORE_ROOM_FULL)) {
        room->room = STORE_ROOM_FULL;
        return room->room != before;
    }
    room->needed_bytes = 0;
    bool is_low = is_below(free_bytes, throttle, before != STORE_ROOM_OK);
    room->room = is_low ? STORE_ROOM_LOW : STORE_ROOM_OK;
    return room->room != before;
}

/* Who is inside gets out only a quarter above the border. */
static bool is_below(uint64_t free_bytes, uint64_t border, bool is_inside)
{
    return free_bytes < (is_inside ? border + border / 4 : border);
}
