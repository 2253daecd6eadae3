/* Slots and groups: from the first entry of a group to the end of its write.
 *
 * The happy path: group_open() takes the oldest free slot and a place in the open segment,
 * group_seal() fixes its length, group_stamp_all() writes the replicated part of the header,
 * group_submit() the local part and starts the write, group_write_done() hands over to the sync
 * rounds.
 *
 * The payload checksum is made in pieces while the entries are copied (wal.c). Stamping needs that
 * checksum and the chain, so it is done in LSN order, once.
 *
 * Rolling: a group that finds no room in the open segment enters the next one, if that is ready and
 * has a successor of its own. So recovery can demand that the newest file that was entered is never
 * the last. */
#include "storage/wal_private.h"

#include "base/plant.h"

enum want { WANT_NOTHING, WANT_SLOT, WANT_SPARE, WANT_SUCCESSOR };

static struct group_slots *slots_for(struct wal *wal, uint32_t need);
static enum want group_wants(const struct wal *wal, const struct group_slots *slots, uint32_t need);
static bool must_roll(const struct wal *wal, uint32_t need);
static uint64_t segment_room(const struct wal *wal);
static void segment_enter_next(struct wal *wal);
static struct group *group_take(struct wal *wal, struct group_slots *slots, uint8_t type);
static void group_fill(struct wal *wal, struct group *group, uint32_t need);
static void group_end(struct wal *wal, struct group *group, uint32_t used, uint32_t entry_count);
static int refuse(struct wal *wal, enum want want, uint32_t need);
static uint64_t pending_bytes(const struct wal *wal);
static void group_submit(struct wal *wal);
static void group_write_done(struct io_op *op);
static struct group *queue_at(const struct wal *wal, uint32_t index);

/* ---- slots ---- */

uint32_t group_jumbo_bytes(const struct wal_options *options)
{
    uint64_t need = GROUP_HEADER_BYTES + sizeof(struct disk_entry) +
                    align_up((uint64_t)options->batch_bytes_max + WAL_BATCH_EXTRA, 8);
    return (uint32_t)align_up(need, DISK_BLOCK);
}

size_t group_slots_arena_bytes(const struct wal_options *options)
{
    return (size_t)options->group_slot_count * GROUP_BYTES_MAX +
           (size_t)WAL_JUMBO_SLOTS * group_jumbo_bytes(options) + DISK_BLOCK;
}

void group_slots_init(struct wal *wal, struct group_slots *slots, uint32_t count, uint32_t capacity)
{
    slots->count = count;
    slots->next = 0;
    for (uint32_t i = 0; i < count; i++)
        slots->groups[i] = (struct group){
            .wal = wal,
            .bytes = arena_alloc(wal->options.arena, capacity, DISK_BLOCK),
            .capacity = capacity,
        };
}

static struct group_slots *slots_for(struct wal *wal, uint32_t need)
{
    return GROUP_HEADER_BYTES + need > GROUP_BYTES_MAX ? &wal->jumbo : &wal->normal;
}

/* ---- opening ---- */

int group_open(struct wal *wal, uint32_t need)
{
    if (wal->failed || wal->closed)
        return E_CLOSED;
    group_seal(wal);
    struct group_slots *slots = slots_for(wal, need);
    enum want want = group_wants(wal, slots, need);
    if (want != WANT_NOTHING)
        return refuse(wal, want, need);
    if (must_roll(wal, need))
        segment_enter_next(wal);
    group_fill(wal, group_take(wal, slots, GROUP_DATA), need);
    return 0;
}

bool group_can_open(const struct wal *wal)
{
    struct wal *mutable_wal = (struct wal *)(uintptr_t)wal; // slots_for() only chooses
    return group_wants(wal, slots_for(mutable_wal, wal->need_refused), wal->need_refused) ==
           WANT_NOTHING;
}

bool group_mark_lacks_file(const struct wal *wal)
{
    enum want want = group_wants(wal, &wal->mark, 0);
    return want == WANT_SPARE || want == WANT_SUCCESSOR;
}

/* What is missing for a group that holds an entry of `need` bytes. */
static enum want group_wants(const struct wal *wal, const struct group_slots *slots, uint32_t need)
{
    const struct group *group = &slots->groups[slots->next];
    bool is_read = group->tail_turn == wal->turn && group->total_bytes > 0;
    if (group->state != GROUP_FREE || (is_read && !PLANTED(TAIL_REUSED)))
        return WANT_SLOT;
    if (must_roll(wal, need))
        return spares_can_enter(&wal->spares) ? WANT_NOTHING : WANT_SPARE;
    /* Only after a CUT, and after the first file of a full disk, is there a file without a
     * successor. */
    return spares_named_count(&wal->spares) > 0 ? WANT_NOTHING : WANT_SUCCESSOR;
}

static bool must_roll(const struct wal *wal, uint32_t need)
{
    return wal->roll_wanted || group_total_bytes(need) > segment_room(wal);
}

static uint64_t segment_room(const struct wal *wal)
{
    const struct segment *open = wal->open;
    return wal->options.segment_bytes - DISK_SEGMENT_DATA - (open->end_lsn - open->base_lsn);
}

static int refuse(struct wal *wal, enum want want, uint32_t need)
{
    wal->room_wanted = true;
    wal->need_refused = need;
    if (want == WANT_SLOT) {
        wal->stats.full_no_slot++;
    } else {
        wal->starved = true;
        wal->stats.full_no_spare++;
    }
    return E_FULL;
}

static void segment_enter_next(struct wal *wal)
{
    struct segment *segment = spares_enter(&wal->spares);
    ASSERT(!wal->open_is_bare && segment->number > wal->open->number);
    segment->state = SEGMENT_OPEN;
    segment->base_lsn = segment->end_lsn = wal->next_lsn;
    segment_queue_push(&wal->live, segment);
    wal->open = segment;
    wal->open_is_bare = true;
    wal->roll_wanted = wal->mark_forced = false;
}

/* The oldest slot, as the group that begins at the log's end. */
static struct group *group_take(struct wal *wal, struct group_slots *slots, uint8_t type)
{
    struct group *group = &slots->groups[slots->next];
    ASSERT(group->state == GROUP_FREE && wal->filling == NULL);
    slots->next = slots->next + 1 == slots->count ? 0 : slots->next + 1;
    group->state = GROUP_FILLING;
    group->total_bytes = 0;
    group->lsn = wal->next_lsn;
    group->segment = wal->open;
    group->head = (struct group_head){.type = type,
                                      .lsn = wal->next_lsn,
                                      .number = wal->next_number++,
                                      .append_time_ms = wal->append_time_ms};
    wal->queue[wal->queue_tail++ & wal->queue_mask] = group;
    return group;
}

static void group_fill(struct wal *wal, struct group *group, uint32_t need)
{
    uint64_t room = min_u64(group->capacity, segment_room(wal)) - GROUP_HEADER_BYTES;
    ASSERT(room >= need);
    wal->filling = group;
    wal->fill_at = group->bytes + GROUP_HEADER_BYTES;
    wal->fill_lsn = group->lsn + GROUP_HEADER_BYTES;
    /* A jumbo slot holds one entry: it is for a batch that is a group of its own. */
    wal->fill_room = group->capacity > GROUP_BYTES_MAX ? need : (uint32_t)room;
    wal->fill_entries = 0;
    wal->hashed_at = wal->fill_at;
    hash_stream_begin(wal->payload_hash);
}

void group_hash_until(struct wal *wal, const uint8_t *end)
{
    hash_stream_add(wal->payload_hash, wal->hashed_at, (size_t)(end - wal->hashed_at));
    wal->hashed_at = end;
}

/* ---- ending and stamping ---- */

void group_seal(struct wal *wal)
{
    struct group *group = wal->filling;
    if (group == NULL)
        return;
    uint32_t used = (uint32_t)(wal->fill_at - group->bytes);
    wal->filling = NULL;
    wal->fill_room = 0;
    group_end(wal, group, used, wal->fill_entries);
    group_hash_until(wal, group->bytes + group->total_bytes);
    group->payload_checksum = hash_stream_end(wal->payload_hash);
    wal->data_end_lsn = wal->next_lsn;
    wal->stats.entries += wal->fill_entries;
    wal->stats.payload_bytes += used - GROUP_HEADER_BYTES;
}

static void group_end(struct wal *wal, struct group *group, uint32_t used, uint32_t entry_count)
{
    group->head.payload_bytes = used - GROUP_HEADER_BYTES;
    group->head.entry_count = entry_count;
    group->total_bytes = group_total_bytes(group->head.payload_bytes);
    memset(group->bytes + used, 0, group->total_bytes - used);
    group->state = GROUP_SEALED;
    wal->next_lsn += group->total_bytes;
    wal->open->end_lsn = wal->next_lsn;
    wal->open_is_bare = false;
    wal->stats.groups++;
}

void group_stamp_all(struct wal *wal)
{
    for (; wal->queue_stamped != wal->queue_tail; wal->queue_stamped++) {
        struct group *group = queue_at(wal, wal->queue_stamped);
        if (group->state == GROUP_FILLING)
            return;
        group->head.chain = wal->chain;
        wal->chain = group_stamp_replicated(group->bytes, &group->head, group->payload_checksum);
    }
}

/* ---- submitting ---- */

/* Idle: whatever there is goes out at once. Otherwise what has come together since is worth a write
 * of its own from 256 KiB on; less waits for the sync round that is under way. */
int group_submit_some(struct wal *wal, bool all)
{
    int submitted = 0;
    bool eager = all || wal_is_idle(wal);
    while (wal->queue_submitted != wal->queue_tail && wal->writes_in_flight < WAL_WRITES_MAX) {
        if (!eager && pending_bytes(wal) < GROUP_SUBMIT_BYTES)
            break;
        if (queue_at(wal, wal->queue_submitted) == wal->filling)
            group_seal(wal);
        group_submit(wal);
        submitted++;
    }
    return submitted;
}

static uint64_t pending_bytes(const struct wal *wal)
{
    return (wal->filling ? wal->fill_lsn : wal->next_lsn) - wal->marks.submitted;
}

static void group_submit(struct wal *wal)
{
    struct group *group = queue_at(wal, wal->queue_submitted);
    group_stamp_all(wal);
    ASSERT(group->state == GROUP_SEALED && group->lsn == wal->marks.submitted);
    group_stamp_local(group->bytes, group->segment->generation, wal->marks.durable);
    group->state = GROUP_WRITING;
    wal->queue_submitted++;
    wal->writes_in_flight++;
    wal->proven_lsn = wal->marks.durable;
    wal->group_ns = wal->now_ns;
    wal->stats.written_bytes += group->total_bytes;
    wal_marks_advance(wal, WAL_SUBMITTED, group->lsn + group->total_bytes);
    io_write(wal->options.io, &group->op, group->segment->fd, group->bytes, group->total_bytes,
             segment_offset(group->segment, group->lsn), group_write_done);
    if (PLANTED(SYNC_BEFORE_WRITE)) {
        group->state = GROUP_WRITTEN;
        sync_written(wal);
    }
}

static void group_write_done(struct io_op *op)
{
    struct group *group = CONTAINER_OF(op, struct group, op);
    struct wal *wal = group->wal;
    wal->writes_in_flight--;
    if (PLANTED(SYNC_BEFORE_WRITE))
        return;
    ASSERT(group->state == GROUP_WRITING);
    group->state = GROUP_WRITTEN;
    if (op->result < 0)
        wal_fail(wal, op->result, op->os_error, "write", group->segment->path);
    else
        sync_written(wal);
}

int group_submit_mark(struct wal *wal)
{
    if (group_wants(wal, &wal->mark, 0) != WANT_NOTHING)
        return 0;
    if (must_roll(wal, 0))
        segment_enter_next(wal);
    struct group *mark = group_take(wal, &wal->mark, GROUP_MARK);
    group_end(wal, mark, GROUP_HEADER_BYTES, 0);
    mark->payload_checksum = group_payload_checksum(mark->bytes, 0);
    wal->stats.marks++;
    group_submit(wal);
    return 1;
}

static struct group *queue_at(const struct wal *wal, uint32_t index)
{
    return wal->queue[index & wal->queue_mask];
}
