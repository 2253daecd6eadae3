/* Appending to the log, and its turn.
 *
 * The happy path of a publish: wal_append() copies the entry into the filling group; wal_turn()
 * stamps and submits the group (wal_group.c); its write completes, the next turn begins a sync
 * round (wal_sync.c); that completes, `durable` and `committed` move, on_committed() is told. What
 * arrives meanwhile fills the next group, so the groups are as large as the device is slow: small
 * when idle, 256 KiB to 1 MiB under load.
 *
 * It can fail when
 *   - no slot is free, or no spare segment is ready: FULL, and on_room() when that has changed;
 *   - a write or an fdatasync failed: on_failed() once, then everything answers CLOSED;
 *   - the entry is larger than a jumbo slot: TOO_LARGE, nothing happened.
 *
 * Why appending is cheap: an entry that fits is two comparisons, the copies and sixteen bytes of
 * header; the checksum is made of what the copies left in the cache; marks and statistics are made
 * once per group. */
#include "storage/wal_private.h"

#include "base/copy.h"

#define HASH_PIECE_BYTES 4096 // stays in the first cache between the copy and the hash

static inline const uint8_t *entry_copy(struct wal *wal, const struct wal_entry *entry,
                                        uint32_t payload_bytes);
static uint8_t *copy_and_hash(struct wal *wal, uint8_t *to, const uint8_t *from, uint32_t len);
static int append_slow(struct wal *wal, uint64_t payload_bytes);
static int turn_begin(struct wal *wal, uint64_t now_ns, uint64_t now_wall_ms);
static int mark_turn(struct wal *wal);
static bool mark_is_wanted(const struct wal *wal);
static bool files_are_busy(const struct wal *wal);
static int files_turn(struct wal *wal);
static int room_turn(struct wal *wal);
static const uint8_t *tail_in(struct wal *wal, struct group_slots *slots, uint64_t lsn,
                              uint32_t len);

/* ---- append ---- */

static inline uint64_t entry_payload_bytes(const struct wal_entry *entry)
{
    uint64_t len = 0;
    for (uint32_t i = 0; i < entry->piece_count; i++)
        len += entry->pieces[i].len;
    return len;
}

int wal_append(struct wal *wal, const struct wal_entry *entry, struct wal_view *view)
{
    uint64_t payload_bytes = entry_payload_bytes(entry);
    uint64_t need = sizeof(struct disk_entry) + align_up(payload_bytes, 8);
    if (UNLIKELY(need > wal->fill_room)) {
        int status = append_slow(wal, payload_bytes);
        if (status < 0)
            return status;
    }
    *view = (struct wal_view){
        .lsn = wal->fill_lsn,
        .append_time_ms = wal->filling->head.append_time_ms,
        .file_number = wal->filling->segment->number,
        .type = entry->type,
        .flags = entry->flags,
        .topic_id = entry->topic_id,
        .partition = entry->partition,
        .payload = entry_copy(wal, entry, (uint32_t)payload_bytes),
        .payload_bytes = (uint32_t)payload_bytes,
    };
    wal->fill_at += need;
    wal->fill_room -= (uint32_t)need;
    wal->fill_lsn += need;
    wal->fill_entries++;
    return 0;
}

/* Header, pieces, zeros to a multiple of 8. Returns where the payload is. */
static inline const uint8_t *entry_copy(struct wal *wal, const struct wal_entry *entry,
                                        uint32_t payload_bytes)
{
    struct disk_entry *disk = (struct disk_entry *)wal->fill_at;
    uint8_t *payload = wal->fill_at + sizeof(*disk);
    uint8_t *to = payload;
    disk->payload_bytes = le32_make(payload_bytes);
    disk->type = entry->type;
    disk->flags = entry->flags;
    disk->reserved = le16_make(0);
    disk->topic_id = le32_make(entry->topic_id);
    disk->partition = le32_make(entry->partition);
    for (uint32_t i = 0; i < entry->piece_count; i++)
        to = copy_and_hash(wal, to, entry->pieces[i].bytes, entry->pieces[i].len);
    memset(to, 0, align_up(payload_bytes, 8) - payload_bytes);
    return payload;
}

/* The slots are larger together than any cache, so a group that is hashed when it is complete comes
 * from memory once more. Measured with 256 KiB batches: 170 ns/KiB one after the other, 110 to 145
 * in turns. What is short is left until enough has come together. */
static uint8_t *copy_and_hash(struct wal *wal, uint8_t *to, const uint8_t *from, uint32_t len)
{
    while (to + len - wal->hashed_at >= HASH_PIECE_BYTES) {
        uint32_t piece = (uint32_t)min_u64(len, HASH_PIECE_BYTES);
        copy_cold(to, from, piece);
        to += piece;
        from += piece;
        len -= piece;
        group_hash_until(wal, to);
    }
    copy_cold(to, from, len);
    return to + len;
}

/* The entry does not fit into the group that is being filled, or there is none. */
static int append_slow(struct wal *wal, uint64_t payload_bytes)
{
    if (payload_bytes >
        max_u64((uint64_t)wal->options.batch_bytes_max + WAL_BATCH_EXTRA, WAL_PAYLOAD_BYTES_MIN))
        return E_TOO_LARGE;
    return group_open(wal, (uint32_t)(sizeof(struct disk_entry) + align_up(payload_bytes, 8)));
}

void wal_group_end(struct wal *wal)
{
    group_seal(wal);
}

/* A file that holds nothing yet, or only its CUT, is as good as the next one. */
void wal_roll(struct wal *wal)
{
    group_seal(wal);
    wal->roll_wanted = !wal->open_is_bare;
}

bool wal_wants_roll(const struct wal *wal)
{
    return wal->roll_wanted;
}

void wal_roll_soon(struct wal *wal)
{
    if (!wal->roll_wanted)
        wal_roll(wal);
    wal->mark_forced = wal->roll_wanted;
}

/* ---- progress ---- */

int wal_turn(struct wal *wal, uint64_t now_ns, uint64_t now_wall_ms)
{
    int work = turn_begin(wal, now_ns, now_wall_ms);
    if (wal->failed || wal->closed)
        return work;
    work += sync_start(wal);
    work += group_submit_some(wal, false);
    work += mark_turn(wal);
    work += files_turn(wal);
    work += room_turn(wal);
    return work;
}

static int turn_begin(struct wal *wal, uint64_t now_ns, uint64_t now_wall_ms)
{
    wal->turn++;
    wal->now_ns = now_ns;
    wal->now_wall_ms = now_wall_ms;
    wal->append_time_ms = max_u64(wal->append_time_ms, now_wall_ms);
    if (wal->sync_timed) {
        wal->sync_timed = false;
        wal->stats.sync_ns_last = now_ns - wal->sync_began_ns;
        wal->stats.sync_ns_max = max_u64(wal->stats.sync_ns_max, wal->stats.sync_ns_last);
    }
    return 0;
}

/* Without it, a log that falls silent would leave its last groups durable but unproven: damage
 * there would look like a torn tail. A MARK proves others, not itself, so one is enough and none
 * follows another. */
static int mark_turn(struct wal *wal)
{
    if (!mark_is_wanted(wal) || wal->now_ns < wal->group_ns + WAL_MARK_IDLE_NS)
        return 0;
    return group_submit_mark(wal);
}

static bool mark_is_wanted(const struct wal *wal)
{
    return (wal->proven_lsn < wal->data_end_lsn || wal->mark_forced) && wal_is_idle(wal);
}

static bool files_are_busy(const struct wal *wal)
{
    return !wal_is_idle(wal) || wal->now_ns < wal->group_ns + WAL_MARK_IDLE_NS;
}

static int files_turn(struct wal *wal)
{
    wal->spares.live_count = segment_queue_count(&wal->live);
    return spares_turn(&wal->spares, &(struct spares_load){.now_ns = wal->now_ns,
                                                           .now_wall_ms = wal->now_wall_ms,
                                                           .busy = files_are_busy(wal),
                                                           .starved = wal->starved});
}

static int room_turn(struct wal *wal)
{
    if (!wal->room_wanted || !group_can_open(wal))
        return 0;
    wal->room_wanted = false;
    wal->starved = false;
    wal->options.on_room(wal->options.context);
    return 1;
}

uint64_t wal_deadline_ns(const struct wal *wal)
{
    if (wal->failed || wal->closed)
        return UINT64_MAX;
    uint64_t deadline = spares_deadline_ns(&wal->spares);
    if (mark_is_wanted(wal) && !group_mark_lacks_file(wal)) // a file's completion wakes us anyway
        deadline = min_u64(deadline, wal->group_ns + WAL_MARK_IDLE_NS);
    return deadline;
}

/* ---- inspect ---- */

struct wal_marks wal_marks(const struct wal *wal)
{
    struct wal_marks marks = wal->marks;
    marks.reserved = wal->filling ? wal->fill_lsn : wal->next_lsn;
    return marks;
}

uint64_t wal_append_time_ms(const struct wal *wal)
{
    return wal->append_time_ms;
}

struct wal_position wal_position(struct wal *wal)
{
    group_seal(wal);
    group_stamp_all(wal);
    wal->position_lsn = wal->next_lsn;
    return (struct wal_position){.lsn = wal->next_lsn,
                                 .chain = wal->chain,
                                 .group_number = wal->next_number - 1,
                                 .append_time_ms = wal->append_time_ms,
                                 .file_number = wal->open->number};
}

uint32_t wal_segment_count(const struct wal *wal)
{
    return segment_queue_count(&wal->live);
}

struct segment *wal_segment_at(const struct wal *wal, uint32_t index)
{
    return segment_queue_at(&wal->live, index);
}

uint32_t wal_spare_count(const struct wal *wal)
{
    return spares_ready_count(&wal->spares);
}

bool wal_is_starved(const struct wal *wal)
{
    return wal->starved;
}

bool wal_is_failed(const struct wal *wal)
{
    return wal->failed;
}

const uint8_t *wal_tail(struct wal *wal, uint64_t lsn, uint32_t len)
{
    const uint8_t *bytes = tail_in(wal, &wal->normal, lsn, len);
    return bytes ? bytes : tail_in(wal, &wal->jumbo, lsn, len);
}

/* Newest first: most readers are at the tail. */
static const uint8_t *tail_in(struct wal *wal, struct group_slots *slots, uint64_t lsn,
                              uint32_t len)
{
    uint32_t i = slots->next;
    for (uint32_t n = 0; n < slots->count; n++) {
        i = (i == 0 ? slots->count : i) - 1;
        struct group *group = &slots->groups[i];
        uint64_t end = group == wal->filling ? wal->fill_lsn : group->lsn + group->total_bytes;
        if (lsn < group->lsn || lsn >= end || len > end - lsn)
            continue;
        group->tail_turn = wal->turn;
        return group->bytes + (lsn - group->lsn);
    }
    return NULL;
}

void wal_discard_next(struct wal *wal)
{
    wal->spares.discard_next = true;
}

void wal_hold_files(struct wal *wal, bool on)
{
    wal->spares.hold_files = on;
}

void wal_recycle_oldest(struct wal *wal)
{
    ASSERT(segment_queue_count(&wal->live) > 1 && wal->closed_count > 0);
    struct segment *segment = segment_queue_at(&wal->live, 0);
    ASSERT(segment->state == SEGMENT_CLOSED && segment->pins == 0);
    wal->live.head++;
    wal->closed_count--;
    wal->stats.segments_recycled++;
    spares_recycle(&wal->spares, segment);
}

struct wal_stats wal_stats(const struct wal *wal)
{
    struct wal_stats stats = wal->stats;
    stats.segments_made = wal->spares.made;
    return stats;
}
