/* From the checkpoint to E, group by group, and a look at what lies behind.
 *
 * One step of the walk, at LSN x in file f, takes the first of these that holds:
 *
 *     a CUT behind f ends at x                    go on behind the CUT, whatever lies in f
 *     a hole begins at x                          go on at its end (only `wal salvage` makes holes)
 *     a good group at x continues the chain       replay it, go on behind it
 *     the next file's first group does            f ends at x, go on there
 *     none                                        E = x
 *
 * What lies behind E is read to learn how far the log was proven durable (D), and to say what is dropped: the rest
 * of f, and of the files behind it at least as many bytes as can have been in flight, more while groups of this
 * life turn up. Files that were never entered are not read to their end: there may be gigabytes of them, and a
 * file is entered only at its beginning. */
#include "storage/recover_private.h"

static void check_strangers(struct recover *recover);
static void check_older(struct recover *recover);
static bool number_is_void(const struct recover *recover, uint64_t number);
static bool file_is_usable(struct recover *recover, struct wal_file *file, uint64_t number);
static void place_start(struct recover *recover);
static int walk_step(struct recover *recover);
static int step_cut(struct recover *recover, struct wal_file *cut);
static const struct hole *hole_at(const struct recover *recover, uint64_t lsn);
static int step_hole(struct recover *recover, const struct hole *hole);
static int step_group(struct recover *recover);
static int step_next_file(struct recover *recover);
static void place_enter(struct recover *recover, struct wal_file *file);
static int group_at(struct recover *recover, struct wal_file *file, uint64_t offset,
                    struct group_head *head, uint8_t **bytes, enum group_verdict *verdict);
static bool continues(const struct place *place, const struct group_head *head,
                      const uint8_t *bytes);
static int replay_group(struct recover *recover, const struct group_head *head, uint8_t *bytes);
static int look_at_end(struct recover *recover);
static int look_behind(struct recover *recover);
static int look_through(struct recover *recover, struct wal_file *file, uint64_t offset,
                        uint64_t limit, bool *found);
static void count_behind(struct recover *recover, enum group_verdict verdict,
                         const struct group_head *head);
static void check_successor(struct recover *recover);
static void conclude(struct recover *recover);

int recover_walk(struct recover *recover)
{
    recover->behind_from = UINT64_MAX;
    recover->proven_lsn = max_u64(recover->proven_lsn, recover->options->proven_lsn);
    check_strangers(recover);
    check_older(recover);
    place_start(recover);
    if (recover->place.file == NULL)
        return 0;
    int status;
    do
        status = walk_step(recover);
    while (status == 1);
    if (status == 0)
        status = look_at_end(recover);
    if (status == 0)
        status = look_behind(recover);
    if (status < 0)
        return status;
    check_successor(recover);
    conclude(recover);
    return 0;
}

/* E, D and a clean stop, held against each other. */
static void conclude(struct recover *recover)
{
    const struct place *place = &recover->place;
    const struct recover_options *options = recover->options;
    if (place->lsn < recover->proven_lsn)
        recover_fact(recover, FACT_BELOW_PROVEN, place->file, 0, place->offset, place->lsn, 0);
    bool went_on = recover->data_end_lsn > options->from.lsn || recover->facts & FACT_BEHIND;
    if (options->clean && went_on)
        recover_fact(recover, FACT_NOT_CLEAN, place->file, 0, place->offset, place->lsn, 0);
}

/* ---- the row of files ---- */

static uint64_t first_number(const struct recover *recover)
{
    return recover->options->has_checkpoint ? recover->options->first_file : 1;
}

static uint64_t start_number(const struct recover *recover)
{
    return recover->options->has_checkpoint ? recover->options->from.file_number : 1;
}

/* Wherever it lies: what somebody else's file hides, nobody knows. */
static void check_strangers(struct recover *recover)
{
    for (uint32_t i = 0; i < recover->numbered; i++) {
        struct wal_file *file = &recover->files[i];
        if (file->fault == FILE_FOREIGN || file->fault == FILE_NEWER)
            (void)file_is_usable(recover, file, file->pub.number);
    }
}

/* Each number from the oldest that the checkpoint needs up to the one it stands in is there, is ours, and begins
 * where a file in that place can begin. Its groups were checked when they were written and will be when read. */
static void check_older(struct recover *recover)
{
    uint64_t lsn = 0;
    for (uint64_t n = first_number(recover); n < start_number(recover); n++) {
        if (number_is_void(recover, n))
            continue;
        struct wal_file *file = recover_file_find(recover, n);
        if (!file_is_usable(recover, file, n))
            continue;
        bool good = file->first_verdict == GROUP_VERDICT_TORN && file->first.lsn >= lsn;
        if (!good) {
            recover_fact(recover, FACT_BAD_START, file, n, DISK_SEGMENT_DATA, lsn,
                         recover->options->from.lsn);
            continue;
        }
        lsn = file->first.lsn;
        file->pub.base_lsn = lsn;
        file->pub.role = RECOVER_LIVE;
    }
}

static bool number_is_void(const struct recover *recover, uint64_t number)
{
    for (uint32_t i = 0; i < recover->numbered; i++) {
        const struct wal_file *file = &recover->files[i];
        if (!file->is_cut || file->is_void)
            continue;
        for (uint32_t n = 0; n < le32_get(file->cut.void_count); n++)
            if (file->voids[n] == number)
                return true;
    }
    return false;
}

/* Notes what is wrong with a file that the log needs. */
static bool file_is_usable(struct recover *recover, struct wal_file *file, uint64_t number)
{
    static const enum fact facts[] = {[FILE_FOREIGN] = FACT_FOREIGN,
                                      [FILE_NEWER] = FACT_NEWER,
                                      [FILE_BAD_HEADER] = FACT_BAD_HEADER,
                                      [FILE_WRONG_SIZE] = FACT_WRONG_SIZE};
    uint64_t lsn = recover->place.file ? recover->place.lsn : 0;
    if (file == NULL)
        recover_fact(recover, FACT_MISSING, NULL, number, 0, lsn, recover->proven_lsn);
    else if (file->fault != FILE_FINE)
        recover_fact(recover, facts[file->fault], file, number, 0, lsn, recover->proven_lsn);
    return file && file->fault == FILE_FINE;
}

/* ---- the start ---- */

/* The checkpoint's file, and in it the checkpoint's LSN. Its first group says where the file begins. */
static void place_start(struct recover *recover)
{
    const struct recover_options *options = recover->options;
    struct place *place = &recover->place;
    uint64_t number = start_number(recover);
    struct wal_file *file = recover_file_find(recover, number);
    *place = (struct place){.number = 0};
    if (options->has_checkpoint)
        *place = (struct place){.lsn = options->from.lsn,
                                .chain = options->from.chain,
                                .number = options->from.group_number,
                                .append_time_ms = options->from.append_time_ms};
    recover->proven_lsn = max_u64(recover->proven_lsn, place->lsn);
    recover->data_end_lsn = place->lsn;
    if (!file_is_usable(recover, file, number))
        return;
    uint64_t base = 0;
    if (place->lsn > 0) {
        uint64_t capacity = recover->wal->segment_bytes - DISK_SEGMENT_DATA;
        base = file->first.lsn;
        if (file->first_verdict != GROUP_VERDICT_TORN || base > place->lsn ||
            place->lsn - base > capacity) {
            recover_fact(recover, FACT_BAD_START, file, number, DISK_SEGMENT_DATA, 0, place->lsn);
            return;
        }
    }
    uint64_t lsn = place->lsn;
    file->pub.base_lsn = base;
    place_enter(recover, file);
    place->lsn = lsn;
    place->offset = DISK_SEGMENT_DATA + (lsn - base);
    place->bare = lsn == base || (file->is_cut && lsn - base == group_total_bytes(file->first.payload_bytes));
}

static void place_enter(struct recover *recover, struct wal_file *file)
{
    struct place *place = &recover->place;
    if (place->file)
        place->file->pub.end_lsn = place->lsn;
    file->pub.role = RECOVER_LIVE;
    place->file = file;
    place->offset = DISK_SEGMENT_DATA;
    place->bare = true;
    reader_open(&recover->reader, file->pub.fd, file->pub.size_bytes);
}

/* ---- one step ---- */

/* 1: went on; 0: E. */
static int walk_step(struct recover *recover)
{
    struct place *place = &recover->place;
    struct wal_file *cut = recover_cut_of(recover, place->file);
    if (cut && le64_get(cut->cut.end_lsn) == place->lsn)
        return step_cut(recover, cut);
    const struct hole *hole = hole_at(recover, place->lsn);
    if (hole)
        return step_hole(recover, hole);
    int status = step_group(recover);
    if (status != 0)
        return status;
    return step_next_file(recover);
}

/* The CUT must name the group that we come from; if it does, it is the next group. */
static int step_cut(struct recover *recover, struct wal_file *cut)
{
    struct place *place = &recover->place;
    uint8_t *bytes;
    reader_open(&recover->reader, cut->pub.fd, cut->pub.size_bytes);
    uint32_t total = group_total_bytes(cut->first.payload_bytes);
    int status = reader_bytes(&recover->reader, DISK_SEGMENT_DATA, total, &bytes);
    if (status < 0)
        return status;
    if (le64_get(cut->cut.chain) != place->chain ||
        le64_get(cut->cut.group_number) != place->number ||
        !continues(place, &cut->first, bytes)) {
        recover_fact(recover, FACT_AT_STALE, cut, 0, DISK_SEGMENT_DATA, place->lsn,
                     recover->proven_lsn);
        return 0;
    }
    cut->pub.base_lsn = place->lsn;
    place_enter(recover, cut);
    place->offset += total;
    place->lsn += total;
    place->chain = cut->first.chain;
    place->number = cut->first.number;
    place->append_time_ms = cut->first.append_time_ms;
    place->chain_unknown = false;
    recover->result->groups++;
    return 1;
}

static const struct hole *hole_at(const struct recover *recover, uint64_t lsn)
{
    for (uint32_t i = 0; i < recover->hole_count; i++)
        if (recover->holes[i].from_lsn == lsn)
            return &recover->holes[i];
    return NULL;
}

/* Nothing good behind it: only a CUT at to_lsn goes on, and it continues the chain from before. */
static int step_hole(struct recover *recover, const struct hole *hole)
{
    struct place *place = &recover->place;
    recover->result->lost_bytes += hole->to_lsn - hole->from_lsn;
    if (hole->to_file == 0) {
        place->lsn = hole->to_lsn;
        place->offset = recover->wal->segment_bytes; // nothing in this file any more
        return 1;
    }
    struct wal_file *file = recover_file_find(recover, hole->to_file);
    if (!file_is_usable(recover, file, hole->to_file))
        return 0;
    if (file != place->file)
        place_enter(recover, file);
    file->pub.base_lsn = hole->to_lsn - (hole->to_offset - DISK_SEGMENT_DATA);
    place->lsn = hole->to_lsn;
    place->offset = hole->to_offset;
    place->chain_unknown = true;
    place->bare = false;
    return 1;
}

static int step_group(struct recover *recover)
{
    struct place *place = &recover->place;
    struct group_head head;
    enum group_verdict verdict;
    uint8_t *bytes;
    int status = group_at(recover, place->file, place->offset, &head, &bytes, &verdict);
    if (status < 0 || verdict != GROUP_VERDICT_GOOD || !continues(place, &head, bytes) ||
        head.type == GROUP_CUT)
        return status;
    status = replay_group(recover, &head, bytes);
    if (status < 0 || recover->facts & (FACT_BAD_ENTRY | FACT_UNKNOWN_ENTRY))
        return status;
    uint32_t total = group_total_bytes(head.payload_bytes);
    place->offset += total;
    place->lsn += total;
    place->chain = head.chain;
    place->number = head.number;
    place->append_time_ms = head.append_time_ms;
    place->chain_unknown = false;
    place->bare = false;
    recover->result->groups++;
    recover->result->bytes += total;
    if (head.type != GROUP_MARK)
        recover->data_end_lsn = place->lsn;
    return 1;
}

static int step_next_file(struct recover *recover)
{
    struct place *place = &recover->place;
    struct wal_file *next = recover_file_after(recover, place->file);
    if (next == NULL || next->fault != FILE_FINE || next->pub.number != place->file->pub.number + 1)
        return 0;
    struct group_head head;
    enum group_verdict verdict;
    uint8_t *bytes;
    reader_open(&recover->reader, next->pub.fd, next->pub.size_bytes);
    int status = group_at(recover, next, DISK_SEGMENT_DATA, &head, &bytes, &verdict);
    if (status == 0 && verdict == GROUP_VERDICT_GOOD && head.type != GROUP_CUT &&
        continues(place, &head, bytes)) {
        next->pub.base_lsn = place->lsn;
        place_enter(recover, next);
        return 1;
    }
    reader_open(&recover->reader, place->file->pub.fd, place->file->pub.size_bytes);
    return status;
}

/* ---- groups ---- */

/* Reads and judges what lies at an offset; *bytes is valid until the next read. */
static int group_at(struct recover *recover, struct wal_file *file, uint64_t offset,
                    struct group_head *head, uint8_t **bytes, enum group_verdict *verdict)
{
    *verdict = GROUP_VERDICT_NONE;
    if (offset + DISK_BLOCK > file->pub.size_bytes)
        return 0;
    int status = reader_bytes(&recover->reader, offset, DISK_BLOCK, bytes);
    if (status < 0)
        return status;
    *verdict = group_head_parse(*bytes, file->pub.generation, file->pub.size_bytes - offset, head);
    if (*verdict == GROUP_VERDICT_NEWER)
        recover_fact(recover, FACT_NEWER, file, 0, offset, head->lsn, head->lsn);
    if (*verdict != GROUP_VERDICT_TORN)
        return 0;
    recover->proven_lsn = max_u64(recover->proven_lsn, head->durable_lsn);
    if (head->payload_bytes > recover->reader.capacity - DISK_BLOCK)
        return 0; // longer than any that we write
    status = reader_bytes(&recover->reader, offset, group_total_bytes(head->payload_bytes), bytes);
    if (status == 0 && group_payload_is_good(*bytes, head))
        *verdict = GROUP_VERDICT_GOOD;
    return status;
}

static bool continues(const struct place *place, const struct group_head *head,
                      const uint8_t *bytes)
{
    if (head->lsn != place->lsn || head->append_time_ms < place->append_time_ms)
        return false;
    if (place->chain_unknown)
        return head->number > place->number;
    return head->number == place->number + 1 && head->chain == group_chain(place->chain, bytes);
}

/* What this version can read; the rest is refused unless flagged ignorable. */
static bool entry_type_is_known(uint8_t type)
{
    switch (type) {
    case ENTRY_MARK:
    case ENTRY_CUT:
    case ENTRY_EPOCH_START:
    case ENTRY_CONFIG:
    case ENTRY_TIER:
        return false;
    default:
        return type >= ENTRY_BATCH && type <= ENTRY_PRODUCER_OPEN;
    }
}

/* The view of the entry at `at`, or false when it can't be: nothing is believed of it but through this. */
static bool entry_parse(const struct group_head *head, uint8_t *payload, uint32_t at,
                        struct wal_view *view, uint32_t *next)
{
    struct disk_entry entry;
    if (head->payload_bytes - at < sizeof(entry))
        return false;
    memcpy(&entry, payload + at, sizeof(entry));
    uint64_t len = le32_get(entry.payload_bytes);
    if (align_up(len, 8) > head->payload_bytes - at - sizeof(entry))
        return false;
    *view = (struct wal_view){.lsn = head->lsn + GROUP_HEADER_BYTES + at,
                              .append_time_ms = head->append_time_ms,
                              .type = entry.type,
                              .flags = entry.flags,
                              .topic_id = le32_get(entry.topic_id),
                              .partition = le32_get(entry.partition),
                              .payload = payload + at + sizeof(entry),
                              .payload_bytes = (uint32_t)len};
    *next = at + (uint32_t)sizeof(entry) + (uint32_t)align_up(len, 8);
    return true;
}

int recover_visit_entries(const struct group_head *head, uint8_t *bytes, uint64_t file_number,
                          recover_visit_fn visit, void *context)
{
    uint8_t *payload = bytes + GROUP_HEADER_BYTES;
    uint32_t at = 0;
    uint32_t count = 0;
    for (; at < head->payload_bytes; count++) {
        struct wal_view view;
        if (!entry_parse(head, payload, at, &view, &at))
            return E_CORRUPT;
        view.file_number = file_number;
        int status = visit(context, &view);
        if (status < 0)
            return status;
    }
    return count == head->entry_count ? 0 : E_CORRUPT;
}

struct replay {
    struct recover *recover;
    uint64_t lsn;       // of the entry that stopped it
    bool unknown;
};

static int check_entry(void *context, const struct wal_view *view)
{
    struct replay *replay = context;
    replay->lsn = view->lsn;
    if (entry_type_is_known(view->type) || view->flags & ENTRY_IGNORABLE)
        return 0;
    replay->unknown = true;
    return E_NEWER;
}

static int apply_entry(void *context, const struct wal_view *view)
{
    struct replay *replay = context;
    struct recover *recover = replay->recover;
    replay->lsn = view->lsn;
    recover->result->entries++;
    if (!entry_type_is_known(view->type) || recover->options->apply == NULL)
        return 0;
    return recover->options->apply(recover->options->context, view);
}

/* A group whose checksums are right is first checked as a whole, then applied: never half of it. */
static int replay_group(struct recover *recover, const struct group_head *head, uint8_t *bytes)
{
    struct place *place = &recover->place;
    struct replay replay = {.recover = recover, .lsn = head->lsn};
    uint64_t number = place->file->pub.number;
    int status = recover_visit_entries(head, bytes, number, check_entry, &replay);
    int applied = 0;
    if (status == 0)
        applied = recover_visit_entries(head, bytes, number, apply_entry, &replay);
    if (status == 0 && applied == 0)
        return 0;
    enum fact fact = replay.unknown ? FACT_UNKNOWN_ENTRY : FACT_BAD_ENTRY;
    recover_fact(recover, fact, place->file, 0, place->offset + (replay.lsn - place->lsn),
                 replay.lsn, place->lsn + group_total_bytes(head->payload_bytes));
    return applied;
}

/* ---- E and behind ---- */

/* What lies where the next group should be: in this file, or, when nothing does, at the next one's start. */
static int look_at_end(struct recover *recover)
{
    struct place *place = &recover->place;
    struct wal_file *next = recover_file_after(recover, place->file);
    struct wal_file *files[2] = {place->file, next};
    uint64_t offsets[2] = {place->offset, DISK_SEGMENT_DATA};
    for (int i = 0; i < 2; i++) {
        struct group_head head;
        enum group_verdict verdict;
        uint8_t *bytes;
        if (files[i] == NULL || files[i]->fault != FILE_FINE)
            continue;
        reader_open(&recover->reader, files[i]->pub.fd, files[i]->pub.size_bytes);
        int status = group_at(recover, files[i], offsets[i], &head, &bytes, &verdict);
        if (status < 0)
            return status;
        if (verdict == GROUP_VERDICT_NONE || verdict == GROUP_VERDICT_NEWER)
            continue;
        bool good = verdict == GROUP_VERDICT_GOOD;
        recover_fact(recover, good ? FACT_AT_STALE : FACT_AT_BAD, files[i], 0, offsets[i],
                     place->lsn, 0);
        return 0;
    }
    return 0;
}

/* The most that can have been submitted and not durable: every slot full. */
static uint64_t flight_bytes_max(const struct recover *recover)
{
    const struct wal_options *wal = recover->wal;
    uint64_t slots = max_u64(wal->group_slot_count, 64);
    return slots * GROUP_BYTES_MAX + 4 * (uint64_t)max_u64(wal->batch_bytes_max, 4 * MIB);
}

static int look_behind(struct recover *recover)
{
    struct place *place = &recover->place;
    uint64_t left = flight_bytes_max(recover);
    uint64_t size = recover->wal->segment_bytes;
    bool found = false;
    int status = look_through(recover, place->file, place->offset, size, &found);
    left -= min_u64(left, size - min_u64(place->offset, size));
    struct wal_file *file = place->file;
    while (status == 0 && (file = recover_file_after(recover, file)) != NULL) {
        if (file->fault != FILE_FINE)
            continue;
        uint64_t limit = min_u64(size, DISK_SEGMENT_DATA + max_u64(left, DISK_BLOCK));
        found = false;
        status = look_through(recover, file, DISK_SEGMENT_DATA, limit, &found);
        if (status == 0 && found && limit < size)
            status = look_through(recover, file, limit, size, &found);
        left -= min_u64(left, limit);
    }
    return status;
}

/* Every block may begin a group. A good one is skipped as a whole: what a producer sent can't pose as one. */
static int look_through(struct recover *recover, struct wal_file *file, uint64_t offset,
                        uint64_t limit, bool *found)
{
    reader_open(&recover->reader, file->pub.fd, file->pub.size_bytes);
    while (offset + DISK_BLOCK <= limit) {
        struct group_head head;
        enum group_verdict verdict;
        uint8_t *bytes;
        int status = group_at(recover, file, offset, &head, &bytes, &verdict);
        if (status < 0)
            return status;
        offset += verdict == GROUP_VERDICT_GOOD ? group_total_bytes(head.payload_bytes) : DISK_BLOCK;
        if (verdict == GROUP_VERDICT_NONE || verdict == GROUP_VERDICT_NEWER)
            continue;
        *found = true;
        count_behind(recover, verdict, &head);
    }
    return 0;
}

static void count_behind(struct recover *recover, enum group_verdict verdict,
                         const struct group_head *head)
{
    struct recover_result *result = recover->result;
    recover->facts |= FACT_BEHIND;
    if (verdict == GROUP_VERDICT_BAD) {
        result->bad_bytes += DISK_BLOCK;
        return;
    }
    uint32_t total = group_total_bytes(head->payload_bytes);
    if (verdict == GROUP_VERDICT_TORN) {
        result->torn_bytes += total;
        return;
    }
    result->stale_bytes += total;
    if (head->lsn > recover->place.lsn)
        recover->behind_from = min_u64(recover->behind_from, head->lsn);
}

/* The file behind the one that the log ends in, unless that one holds nothing but its CUT and is the last: then
 * it was never left, and its successor is still to be made. */
static void check_successor(struct recover *recover)
{
    struct place *place = &recover->place;
    uint64_t number = place->file->pub.number + 1;
    if (place->file->is_cut && place->bare && recover_highest(recover) < number)
        return;
    struct wal_file *file = recover_file_find(recover, number);
    if (!number_is_void(recover, number))
        (void)file_is_usable(recover, file, number);
}
