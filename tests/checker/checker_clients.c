/* What producers, transactions and groups say. */
#include "tests/checker/checker_private.h"

static uint64_t *place_of(struct checker *checker, const struct history_event *event, uint64_t i);
static void end_reached(struct checker *checker, uint32_t partition, uint64_t end);

static uint64_t count_of(const struct history_event *event)
{
    return event->count ? event->count : 1;
}

/* ---- records ---- */

void on_send(struct checker *checker, const struct history_event *event)
{
    struct lane *lane = lane_of(checker, event->producer, event->partition);
    uint64_t end = event->sequence + count_of(event);
    if (event->sequence < lane->count) {
        found(checker, ANOMALY_MALFORMED,
              "producer %u partition %u sequence %" PRIu64 " is sent, after %" PRIu64,
              event->producer, event->partition, event->sequence, lane->count - 1);
        return;
    }
    GROW(lane->places, lane->room, end);
    for (uint64_t i = event->sequence; i < end; i++)
        lane->places[i] = PLACE_SENT;
    lane->count = end;
    if (lane->span_count == 0 || lane->spans[lane->span_count - 1].txn != event->txn) {
        GROW(lane->spans, lane->span_room, lane->span_count + 1);
        lane->spans[lane->span_count++] = (struct span){event->sequence, event->txn};
    }
    checker->totals.records_sent += count_of(event);
    if (event->txn)
        txn_of(checker, event->txn)->sent += count_of(event);
}

void on_refused(struct checker *checker, const struct history_event *event)
{
    for (uint64_t i = 0; i < count_of(event); i++) {
        uint64_t *place = place_of(checker, event, i);
        if (!place)
            return;
        if (*place & PLACE_SEEN)
            found(checker, ANOMALY_ABORTED_READ,
                  "producer %u partition %u sequence %" PRIu64 " was read at offset %" PRIu64
                  " and then reported as not stored",
                  event->producer, event->partition, event->sequence + i, *place & PLACE_OFFSET);
        if (*place & PLACE_REFUSED)
            continue;
        *place |= PLACE_REFUSED;
        uint64_t txn =
            lane_txn(lane_of(checker, event->producer, event->partition), event->sequence + i);
        if (txn)
            txn_of(checker, txn)->sent--;
    }
}

void on_acked(struct checker *checker, const struct history_event *event)
{
    bool nowhere = event->offset == HISTORY_NO_OFFSET;
    for (uint64_t i = 0; i < count_of(event); i++) {
        uint64_t *place = place_of(checker, event, i), offset = event->offset + i;
        if (!place)
            return;
        if (nowhere) {
            *place |= PLACE_ACKED | (*place & PLACE_SEEN ? 0 : PLACE_NOWHERE);
            continue;
        }
        if (*place & PLACE_SEEN && (*place & PLACE_OFFSET) != offset) {
            found(checker, ANOMALY_INCONSISTENT,
                  "producer %u partition %u sequence %" PRIu64 " was read at offset %" PRIu64
                  " and acked at offset %" PRIu64,
                  event->producer, event->partition, event->sequence + i, *place & PLACE_OFFSET,
                  offset);
            continue;
        }
        *place = (*place & ~PLACE_OFFSET) | PLACE_ACKED | offset;
    }
    if (!nowhere)
        end_reached(checker, event->partition, event->offset + count_of(event));
}

static uint64_t *place_of(struct checker *checker, const struct history_event *event, uint64_t i)
{
    struct lane *lane = lane_of(checker, event->producer, event->partition);
    if (event->sequence + i < lane->count)
        return &lane->places[event->sequence + i];
    found(checker, ANOMALY_MALFORMED,
          "%s of producer %u partition %u sequence %" PRIu64 ", which was not sent",
          history_kind_name(event->kind), event->producer, event->partition, event->sequence + i);
    return NULL;
}

static void end_reached(struct checker *checker, uint32_t partition, uint64_t end)
{
    struct partition *p = partition_of(checker, partition);
    if (p->visible < end)
        p->visible = end;
}

/* ---- transactions ---- */

void on_txn(struct checker *checker, const struct history_event *event)
{
    struct transaction *txn = txn_of(checker, event->txn);
    if (event->kind == HISTORY_COMMIT_ASKED)
        txn->commit_asked = 1;
    else if (event->kind == HISTORY_ABORT_ASKED)
        txn->abort_asked = 1;
    else if (event->kind == HISTORY_ABORTED)
        txn->aborted = 1;
    else if (!txn->committed) {
        txn->committed = 1;
        txn->committed_at = checker->event_count;
    }
    if (txn->committed && txn->aborted)
        found(checker, ANOMALY_INCONSISTENT,
              "transaction %" PRIu64 " was answered both ways: committed and aborted", event->txn);
    if (txn->committed && !txn->commit_asked)
        found(checker, ANOMALY_MALFORMED,
              "transaction %" PRIu64 " is committed, but nobody asked for it", event->txn);
}

/* ---- offsets of groups: an offset that is asked for must not be below what was known before ---- */

void on_offset_commit_asked(struct checker *checker, const struct history_event *event)
{
    struct group_partition *g = group_of(checker, event->group, event->partition);
    GROW(g->commits, g->commit_room, g->commit_count + 1);
    g->commits[g->commit_count++] = (struct offset_commit){event->offset, event->txn, false};
}

void on_offset_committed(struct checker *checker, const struct history_event *event)
{
    struct group_partition *g = group_of(checker, event->group, event->partition);
    if (g->floor < event->offset + 1)
        g->floor = event->offset + 1;
}

void on_offset_reset(struct checker *checker, const struct history_event *event)
{
    struct group_partition *g = group_of(checker, event->group, event->partition);
    g->floor = 0;
    g->commit_count = 0;
    for (uint64_t i = 0; i < g->asked_room; i++)
        g->asked_floors[i] = 0;
}

/* What committed transactions brought counts as well, once their answer is known. */
static uint64_t floor_now(struct checker *checker, struct group_partition *g)
{
    for (uint64_t i = 0; i < g->commit_count; i++) {
        const struct offset_commit *c = &g->commits[i];
        if (c->txn && c->offset + 1 > g->floor && txn_of(checker, c->txn)->committed)
            g->floor = c->offset + 1;
    }
    return g->floor;
}

void on_offset_asked(struct checker *checker, const struct history_event *event)
{
    struct group_partition *g = group_of(checker, event->group, event->partition);
    GROW(g->asked_floors, g->asked_room, (uint64_t)event->reader + 1);
    g->asked_floors[event->reader] = floor_now(checker, g);
}

static void check_fetched_is_known(struct checker *checker, struct group_partition *g,
                                   const struct history_event *event)
{
    bool any = false, early = true;
    uint64_t txn = 0;
    for (uint64_t i = g->commit_count; i-- > 0;) {
        struct offset_commit *c = &g->commits[i];
        if (c->offset != event->offset)
            continue;
        any = true;
        c->fetched = true;
        txn = c->txn;
        early &= c->txn && !txn_of(checker, c->txn)->commit_asked;
    }
    if (!any)
        found(checker, ANOMALY_FOREIGN,
              "group %u partition %u: the committed offset is %" PRIu64 ", which nobody committed",
              event->group, event->partition, event->offset);
    else if (early)
        found(checker, ANOMALY_UNCOMMITTED_READ,
              "group %u partition %u: the committed offset is %" PRIu64 ", of transaction %" PRIu64
              " whose commit was not asked for",
              event->group, event->partition, event->offset, txn);
}

void on_offset_fetched(struct checker *checker, const struct history_event *event)
{
    struct group_partition *g = group_of(checker, event->group, event->partition);
    bool none = event->offset == HISTORY_NO_OFFSET;
    uint64_t got = none ? 0 : event->offset + 1;
    uint64_t floor = event->reader < g->asked_room ? g->asked_floors[event->reader] : 0;
    if (got < floor)
        found(checker, ANOMALY_OFFSET_BACK,
              "group %u partition %u: the committed offset is %" PRId64 ", after %" PRIu64,
              event->group, event->partition, (int64_t)event->offset, floor - 1);
    g->was_fetched = true;
    g->last_fetched = got;
    if (none)
        return;
    check_fetched_is_known(checker, g, event);
    if (g->floor < got)
        g->floor = got;
}
