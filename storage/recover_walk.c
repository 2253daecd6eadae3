/* From the checkpoint to E, group by group.
 *
 * One step of the walk, at LSN x in file f, takes the first of these that holds:
 *
 *     a CUT behind f ends at x                    go on behind the CUT, whatever lies in f
 *     a hole begins at x                          go on at its end (recover_hole.c)
 *     a good group at x continues the chain       replay it, go on behind it
 *     the next file's first group does            f ends at x, go on there
 *     none                                        E = x
 *
 * Then what lies at E and behind it is looked at (recover_behind.c), and E, D and the rest become
 * facts. */
#include "storage/recover_private.h"

#include "base/plant.h"

static void place_start(struct recover *recover);
static bool start_base(const struct recover *recover, const struct wal_file *file, uint64_t *base);
static int walk_step(struct recover *recover);
static struct wal_file *cut_here(struct recover *recover);
static int step_cut(struct recover *recover, struct wal_file *cut);
static int step_hole(struct recover *recover, const struct hole *hole);
static int step_group(struct recover *recover);
static int step_next_file(struct recover *recover);
static void place_enter(struct recover *recover, struct wal_file *file);
static void place_pass(struct recover *recover, const struct group_head *head);
static bool continues(const struct place *place, const struct group_head *head,
                      const uint8_t *bytes);
static void conclude(struct recover *recover);
static void lost_blame(struct recover *recover, uint64_t number);

int recover_walk(struct recover *recover)
{
    int status;
    recover->behind_from = UINT64_MAX;
    recover->proven_lsn = max_u64(recover->proven_lsn, recover->options->proven_lsn);
    recover_check_strangers(recover);
    recover_check_older(recover);
    place_start(recover);
    do
        status = walk_step(recover);
    while (status == 1);
    if (status == 0 && recover->place.file)
        status = recover_look_behind(recover);
    if (status == 0 && recover->place.file)
        status = recover_look_at_end(recover);
    if (status == 0)
        conclude(recover);
    return status;
}

/* E, D and a clean stop, held against each other. A salvaged log goes on behind a clean end: by its
 * CUT. */
static void conclude(struct recover *recover)
{
    const struct place *place = &recover->place;
    const struct recover_options *options = recover->options;
    uint64_t number = recover_start_number(recover);
    if (!(recover->facts & FACT_SALVAGE)) { // else a CUT is written, which needs neither
        if (place->file)
            recover_check_successor(recover);
        else if (recover->facts == 0)
            (void)recover_file_is_usable(recover, NULL, number);
    }
    if (place->lsn < recover->proven_lsn && !PLANTED(PROOF_IGNORED))
        lost_blame(recover, number);
    bool went_on = recover->data_end_lsn > options->from.lsn || recover->facts & FACT_BEHIND;
    if (options->clean && went_on && recover->hole_count == 0)
        recover_fact(recover, FACT_NOT_CLEAN, place->file, number, place->offset, place->lsn, 0);
}

/* Nothing at E can be called bad, so it is the place where something should be: here, or, when groups go on only in the next
 * file, at the start of that one. */
static void lost_blame(struct recover *recover, uint64_t number)
{
    const struct place *place = &recover->place;
    const struct wal_file *next = place->file ? recover_file_after(recover, place->file) : NULL;
    if (next && recover->behind_file == next && next->first_verdict != GROUP_VERDICT_TORN)
        recover_fact(recover, FACT_BELOW_PROVEN, next, 0, DISK_SEGMENT_DATA, place->lsn, 0);
    else
        recover_fact(recover, FACT_BELOW_PROVEN, place->file, number, place->offset, place->lsn, 0);
}

/* ---- the start ---- */

/* The checkpoint's file, and in it the checkpoint's LSN; without one the place has an LSN but no
 * file, and only a hole leads on. */
static void place_start(struct recover *recover)
{
    const struct recover_options *options = recover->options;
    struct place *place = &recover->place;
    uint64_t number = recover_start_number(recover);
    struct wal_file *file = recover_file_find(recover, number);
    uint64_t base = 0;
    *place = (struct place){.number = 0};
    if (options->has_checkpoint)
        *place = (struct place){.lsn = options->from.lsn,
                                .chain = options->from.chain,
                                .number = options->from.group_number,
                                .append_time_ms = options->from.append_time_ms};
    recover->proven_lsn = max_u64(recover->proven_lsn, place->lsn);
    recover->data_end_lsn = place->lsn;
    bool usable = file && file->fault == FILE_FINE && !file->is_void;
    if (!usable || !start_base(recover, file, &base)) {
        bool excused =
            recover_number_is_void(recover, number) || recover_hole_at(recover, place->lsn);
        if (!excused && recover_file_is_usable(recover, file, number))
            recover_fact(recover, FACT_BAD_START, file, 0, DISK_SEGMENT_DATA, place->lsn, 0);
        return;
    }
    file->pub.base_lsn = base;
    place_enter(recover, file);
    place->offset = DISK_SEGMENT_DATA + (place->lsn - base);
    place->bare =
        place->lsn == base ||
        (file->is_cut && place->lsn - base == group_total_bytes(file->first.payload_bytes));
}

/* A file's first group says where the file begins; of a log that has none, at 0. */
static bool start_base(const struct recover *recover, const struct wal_file *file, uint64_t *base)
{
    uint64_t lsn = recover->place.lsn;
    uint64_t capacity = recover->wal->segment_bytes - DISK_SEGMENT_DATA;
    if (lsn == 0)
        return true;
    return recover_file_base(recover, file, base) && *base <= lsn && lsn - *base <= capacity;
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
    file_reader_open(&recover->reader, file->pub.fd, file->pub.size_bytes);
}

/* ---- one step ---- */

/* 1: went on; 0: E. */
static int walk_step(struct recover *recover)
{
    struct place *place = &recover->place;
    struct wal_file *cut = cut_here(recover);
    if (cut)
        return step_cut(recover, cut);
    const struct hole *hole = recover_hole_at(recover, place->lsn);
    if (hole)
        return step_hole(recover, hole);
    int status = recover_hole_open(recover);
    if (status != 0 || place->file == NULL)
        return status;
    status = step_group(recover);
    return status != 0 ? status : step_next_file(recover);
}

/* The CUT that ends the log's file at this LSN. */
static struct wal_file *cut_here(struct recover *recover)
{
    struct place *place = &recover->place;
    if (place->file) {
        struct wal_file *cut = recover_file_after(recover, place->file);
        return cut && cut->is_cut && le64_get(cut->cut.end_lsn) == place->lsn ? cut : NULL;
    }
    for (uint32_t i = 0; i < recover->numbered; i++) {
        struct wal_file *cut = &recover->files[i];
        if (cut->is_cut && !cut->is_void && le64_get(cut->cut.end_lsn) == place->lsn &&
            cut->pub.number > recover_start_number(recover))
            return cut;
    }
    return NULL;
}

/* The CUT must name the group that we come from; if it does, it is the next group. */
static int step_cut(struct recover *recover, struct wal_file *cut)
{
    struct place *place = &recover->place;
    uint8_t *bytes;
    file_reader_open(&recover->reader, cut->pub.fd, cut->pub.size_bytes);
    int status = file_reader_bytes(&recover->reader, DISK_SEGMENT_DATA,
                                   group_total_bytes(cut->first.payload_bytes), &bytes);
    if (status < 0)
        return status;
    if (le64_get(cut->cut.chain) != place->chain ||
        le64_get(cut->cut.group_number) != place->number || !continues(place, &cut->first, bytes)) {
        recover_fact(recover, FACT_AT_STALE, cut, 0, DISK_SEGMENT_DATA, place->lsn, 0);
        return 0;
    }
    cut->pub.base_lsn = place->lsn;
    place_enter(recover, cut);
    place_pass(recover, &cut->first);
    return 1;
}

/* With nothing good at its end, only a CUT can go on there; it continues the chain from before the
 * hole. */
static int step_hole(struct recover *recover, const struct hole *hole)
{
    struct place *place = &recover->place;
    const struct recover_options *options = recover->options;
    recover->result->lost_bytes += hole->to_lsn - hole->from_lsn;
    if (options->on_hole)
        options->on_hole(options->context, hole->from_lsn, hole->to_lsn);
    if (hole->to_file == 0) {
        if (place->file)
            place->file->pub.end_lsn = place->lsn;
        place->lsn = hole->to_lsn;
        place->offset = recover->wal->segment_bytes; // nothing in this file any more
        return 1;
    }
    struct wal_file *file = recover_file_find(recover, hole->to_file);
    if (!recover_file_is_usable(recover, file, hole->to_file))
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
    int status = recover_group_at(recover, place->file, place->offset, &head, &bytes, &verdict);
    if (status < 0 || verdict != GROUP_VERDICT_GOOD || head.type == GROUP_CUT ||
        !continues(place, &head, bytes))
        return status;
    status = recover_replay_group(recover, &head, bytes);
    if (status < 0 || recover->facts & (FACT_BAD_ENTRY | FACT_UNKNOWN_ENTRY))
        return status;
    place_pass(recover, &head);
    place->bare = false;
    recover->result->bytes += group_total_bytes(head.payload_bytes);
    if (head.type != GROUP_MARK)
        recover->data_end_lsn = place->lsn;
    return 1;
}

static void place_pass(struct recover *recover, const struct group_head *head)
{
    struct place *place = &recover->place;
    uint32_t total = group_total_bytes(head->payload_bytes);
    place->offset += total;
    place->lsn += total;
    place->chain = head->chain;
    place->number = head->number;
    place->append_time_ms = head->append_time_ms;
    place->chain_unknown = false;
    recover->result->groups++;
}

static int step_next_file(struct recover *recover)
{
    struct place *place = &recover->place;
    struct wal_file *next = recover_file_after(recover, place->file);
    struct group_head head;
    enum group_verdict verdict;
    uint8_t *bytes;
    if (next == NULL || next->fault != FILE_FINE || next->pub.number != place->file->pub.number + 1)
        return 0;
    file_reader_open(&recover->reader, next->pub.fd, next->pub.size_bytes);
    int status = recover_group_at(recover, next, DISK_SEGMENT_DATA, &head, &bytes, &verdict);
    if (status < 0 || verdict != GROUP_VERDICT_GOOD || head.type == GROUP_CUT ||
        !continues(place, &head, bytes))
        return status;
    next->pub.base_lsn = place->lsn;
    place_enter(recover, next);
    return 1;
}

/* ---- groups ---- */

int recover_group_at(struct recover *recover, const struct wal_file *file, uint64_t offset,
                     struct group_head *head, uint8_t **bytes, enum group_verdict *verdict)
{
    *verdict = GROUP_VERDICT_NONE;
    if (offset + DISK_BLOCK > file->pub.size_bytes)
        return 0;
    int status = file_reader_bytes(&recover->reader, offset, DISK_BLOCK, bytes);
    if (status < 0)
        return status;
    *verdict = group_head_parse(*bytes, file->pub.generation, file->pub.size_bytes - offset, head);
    if (*verdict == GROUP_VERDICT_NEWER)
        recover_fact(recover, FACT_NEWER, file, 0, offset, head->lsn, 0);
    if (*verdict != GROUP_VERDICT_TORN)
        return 0;
    recover->proven_lsn = max_u64(recover->proven_lsn, head->durable_lsn);
    if (group_total_bytes(head->payload_bytes) >
        recover_group_bytes_max(recover->wal->segment_bytes))
        return 0; // longer than any that we write
    status =
        file_reader_bytes(&recover->reader, offset, group_total_bytes(head->payload_bytes), bytes);
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
