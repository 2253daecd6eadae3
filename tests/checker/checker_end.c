/* What only the end shows: the missing, the torn, the stuck. */
#include <stdlib.h>

#include "tests/checker/checker_private.h"

static void finish_partitions(struct checker *checker);
static void check_lane(struct checker *checker, struct lane *lane);
static void check_cuts(struct checker *checker, struct lane *lane);
static void check_txns(struct checker *checker);
static void check_offsets(struct checker *checker);

void checker_finish(struct checker *checker)
{
    finish_partitions(checker);
    each_lane(checker, check_lane);
    each_lane(checker, check_cuts);
    check_txns(checker);
    check_offsets(checker);
}

/* ---- did everybody get to the end ---- */

static bool finish_readings(struct checker *checker, uint32_t number, struct partition *p)
{
    bool any = false;
    for (uint32_t r = 0; r < checker->readings.row_count; r++) {
        const struct reading *reading = grid_at(&checker->readings, r, number);
        if (!reading || !reading->done)
            continue;
        any = true;
        if (reading->position >= p->visible)
            p->finished = true;
        else
            found(checker, ANOMALY_STUCK,
                  "partition %u: reader %u got to offset %" PRIu64 ", visible is up to %" PRIu64,
                  number, r, reading->position, p->visible);
    }
    return any;
}

static int by_time(const void *a, const void *b)
{
    const struct known_end *x = a, *y = b;
    return x->asked_at < y->asked_at ? -1 : x->asked_at > y->asked_at;
}

/* Afterwards ends[i] is the lowest answer to anybody who asked at ends[i].asked_at or later. */
static void sort_ends(struct partition *p)
{
    if (p->end_count == 0)
        return;
    qsort(p->ends, p->end_count, sizeof(*p->ends), by_time);
    for (uint64_t i = p->end_count - 1; i-- > 0;) {
        if (p->ends[i].end > p->ends[i + 1].end)
            p->ends[i].end = p->ends[i + 1].end;
    }
}

static bool has_lane(const struct checker *checker, uint32_t partition)
{
    for (uint32_t i = 0; i < checker->lanes.row_count; i++) {
        const struct lane *lane = lane_if_any(checker, i, partition);
        if (lane && lane->count > 0)
            return true;
    }
    return false;
}

static void touch_partition(struct checker *checker, struct lane *lane)
{
    partition_of(checker, lane->partition);
}

static void finish_partitions(struct checker *checker)
{
    each_lane(checker, touch_partition);
    for (uint32_t i = 0; i < checker->partition_room; i++) {
        struct partition *p = checker->partitions[i];
        if (!p)
            continue;
        sort_ends(p);
        if (!finish_readings(checker, i, p) && has_lane(checker, i))
            found(checker, ANOMALY_MALFORMED, "partition %u was read to its end by nobody", i);
    }
}

/* ---- records: acked ones are there, and in order ---- */

static bool is_missing(const struct checker *checker, const struct lane *lane, uint64_t sequence)
{
    uint64_t place = lane->places[sequence];
    const struct partition *p = checker->partitions[lane->partition];
    if (!(place & PLACE_ACKED) || place & PLACE_SEEN || lane_txn(lane, sequence))
        return false;
    uint64_t offset = place & PLACE_OFFSET;
    bool passed = !(place & PLACE_NOWHERE) && offset / 64 < p->seen_room &&
                  p->seen[offset / 64] & 1ull << offset % 64;
    return p->finished || passed;
}

static void check_lane(struct checker *checker, struct lane *lane)
{
    uint64_t last = 0, last_sequence = 0;
    bool any = false;
    for (uint64_t i = 0; i < lane->count; i++) {
        uint64_t place = lane->places[i], offset = place & PLACE_OFFSET;
        if (is_missing(checker, lane, i))
            found(checker, ANOMALY_LOST,
                  "producer %u partition %u sequence %" PRIu64 ", acked at offset %" PRId64
                  ", is not there",
                  lane->producer, lane->partition, i, place & PLACE_NOWHERE ? -1 : (int64_t)offset);
        if (!(place & PLACE_SEEN) || place & PLACE_TWICE)
            continue;
        if (any && offset < last)
            found(checker, ANOMALY_REORDERED,
                  "producer %u partition %u: sequence %" PRIu64 " lies at offset %" PRIu64
                  ", behind sequence %" PRIu64 " at %" PRIu64,
                  lane->producer, lane->partition, last_sequence, last, i, offset);
        any = true;
        last = offset;
        last_sequence = i;
    }
}

/* ---- cuts: whoever asks for an end after the commit's answer sees all of the transaction ---- */

/* The lowest end that anybody was told who asked after `time`; UINT64_MAX: nobody did. */
static uint64_t end_after(const struct partition *p, uint64_t time)
{
    uint64_t low = 0, high = p->end_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (p->ends[middle].asked_at > time)
            high = middle;
        else
            low = middle + 1;
    }
    return low < p->end_count ? p->ends[low].end : UINT64_MAX;
}

static void check_cut(struct checker *checker, struct lane *lane, uint64_t span)
{
    uint64_t number = lane->spans[span].txn;
    const struct transaction *txn = txn_of(checker, number);
    if (!txn->committed)
        return;
    uint64_t end = end_after(checker->partitions[lane->partition], txn->committed_at);
    uint64_t stop = span + 1 < lane->span_count ? lane->spans[span + 1].sequence : lane->count;
    for (uint64_t i = lane->spans[span].sequence; i < stop; i++) {
        uint64_t place = lane->places[i];
        if (!(place & PLACE_SEEN) || (place & PLACE_OFFSET) < end)
            continue;
        found(checker, ANOMALY_TORN,
              "transaction %" PRIu64 " was committed, then partition %u ended at %" PRIu64
              ", before its record at offset %" PRIu64,
              number, lane->partition, end, place & PLACE_OFFSET);
        return;
    }
}

static void check_cuts(struct checker *checker, struct lane *lane)
{
    for (uint64_t i = 0; i < lane->span_count; i++) {
        if (lane->spans[i].txn)
            check_cut(checker, lane, i);
    }
}

/* ---- transactions: all or nothing ---- */

static bool all_finished(const struct checker *checker)
{
    for (uint64_t i = 0; i < checker->partition_room; i++) {
        if (checker->partitions[i] && !checker->partitions[i]->finished)
            return false;
    }
    return true;
}

static bool is_aborted(const struct transaction *txn)
{
    return txn->aborted || (txn->abort_asked && !txn->commit_asked);
}

static void check_txn(struct checker *checker, uint64_t number, const struct transaction *txn)
{
    if (is_aborted(txn)) {
        if (txn->seen && !txn->read_early)
            found(checker, ANOMALY_ABORTED_READ,
                  "%" PRIu64 " of %" PRIu64 " records of transaction %" PRIu64
                  " are visible, its answer was: aborted",
                  txn->seen, txn->sent, number);
        return;
    }
    if (!txn->commit_asked || txn->seen == txn->sent || !all_finished(checker))
        return;
    if (txn->seen)
        found(checker, ANOMALY_TORN,
              "%" PRIu64 " of %" PRIu64 " records of transaction %" PRIu64 " are visible (%s)",
              txn->seen, txn->sent, number, txn->committed ? "committed" : "no answer");
    else if (txn->committed)
        found(checker, ANOMALY_LOST,
              "transaction %" PRIu64 " was committed, and none of its %" PRIu64 " records is there",
              number, txn->sent);
}

static void count_txn(struct checker_totals *totals, const struct transaction *txn)
{
    if (is_aborted(txn))
        totals->aborted++;
    else if (txn->committed)
        totals->committed++;
    else if (txn->seen)
        totals->unknown_seen++;
    else
        totals->unknown_unseen++;
}

static void check_txns(struct checker *checker)
{
    for (uint64_t i = 1; i < checker->txn_room; i++) {
        const struct transaction *txn = &checker->txns[i];
        if (!txn->known)
            continue;
        check_txn(checker, i, txn);
        count_txn(&checker->totals, txn);
    }
}

/* ---- offsets of groups: they share the fate of their transaction ---- */

static bool is_only_one(const struct group_partition *g, const struct offset_commit *commit)
{
    for (uint64_t i = 0; i < g->commit_count; i++) {
        if (&g->commits[i] != commit && g->commits[i].offset == commit->offset)
            return false;
    }
    return true;
}

static void check_offset(struct checker *checker, uint32_t group, uint32_t partition,
                         const struct group_partition *g, const struct offset_commit *commit)
{
    const struct transaction *txn = txn_of(checker, commit->txn);
    bool shown = txn->committed || (txn->seen > 0 && txn->seen == txn->sent);
    if (shown && g->was_fetched && g->last_fetched < commit->offset + 1)
        found(checker, txn->committed && !txn->sent ? ANOMALY_LOST : ANOMALY_TORN,
              "transaction %" PRIu64 " is visible, but offset %" PRIu64
              " of group %u partition %u that was in it is not: %" PRId64,
              commit->txn, commit->offset, group, partition, (int64_t)g->last_fetched - 1);
    if (!commit->fetched || !is_only_one(g, commit))
        return;
    if (is_aborted(txn))
        found(checker, ANOMALY_ABORTED_READ,
              "offset %" PRIu64 " of group %u partition %u comes from transaction %" PRIu64
              ", which was aborted",
              commit->offset, group, partition, commit->txn);
    else if (txn->sent > 0 && txn->seen == 0 && all_finished(checker))
        found(checker, ANOMALY_TORN,
              "offset %" PRIu64 " of group %u partition %u is committed, its transaction %" PRIu64
              " has no record",
              commit->offset, group, partition, commit->txn);
}

static void check_offsets(struct checker *checker)
{
    const struct grid *grid = &checker->groups;
    for (uint32_t i = 0; i < grid->row_count; i++) {
        for (uint32_t j = 0; j < grid->column_counts[i]; j++) {
            const struct group_partition *g = grid->rows[i][j];
            for (uint64_t k = 0; g && k < g->commit_count; k++) {
                if (g->commits[k].txn)
                    check_offset(checker, i, j, g, &g->commits[k]);
            }
        }
    }
}
