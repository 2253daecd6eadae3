/* What readers see: dense offsets, known records, each at one place, none too early. */
#include "tests/checker/checker_private.h"

static void advance(struct checker *checker, const struct history_event *event, uint64_t count);
static void read_one(struct checker *checker, const struct history_event *event, struct lane *lane,
                     uint64_t i);
static void first_sight(struct checker *checker, const struct history_event *event, uint64_t *place,
                        uint64_t i);
static void again(struct checker *checker, const struct history_event *event, uint64_t *place,
                  uint64_t i);
static bool mark_seen(struct partition *partition, uint64_t offset);
static void seen_in_txn(struct checker *checker, uint64_t number);

void on_reader_start(struct checker *checker, const struct history_event *event)
{
    struct reading *reading = reading_of(checker, event->reader, event->partition);
    reading->started = true;
    reading->done = false;
    reading->position = event->offset;
}

void on_reader_done(struct checker *checker, const struct history_event *event)
{
    struct reading *reading = reading_of(checker, event->reader, event->partition);
    reading->done = reading->started;
    if (!reading->started)
        found(checker, ANOMALY_MALFORMED, "reader %u is done with partition %u, never begun",
              event->reader, event->partition);
}

void on_read(struct checker *checker, const struct history_event *event)
{
    uint64_t count = event->count ? event->count : 1;
    struct lane *lane = lane_if_any(checker, event->producer, event->partition);
    advance(checker, event, count);
    for (uint64_t i = 0; i < count; i++)
        read_one(checker, event, lane, i);
}

void on_read_foreign(struct checker *checker, const struct history_event *event)
{
    advance(checker, event, 1);
    mark_seen(partition_of(checker, event->partition), event->offset);
    found(checker, ANOMALY_FOREIGN,
          "partition %u offset %" PRIu64 ": bytes that nobody wrote (reader %u)", event->partition,
          event->offset, event->reader);
}

static void advance(struct checker *checker, const struct history_event *event, uint64_t count)
{
    struct reading *reading = reading_of(checker, event->reader, event->partition);
    if (!reading->started)
        found(checker, ANOMALY_MALFORMED, "reader %u reads partition %u without having begun",
              event->reader, event->partition);
    else if (event->offset > reading->position)
        found(checker, ANOMALY_HOLE,
              "partition %u: reader %u got offset %" PRIu64 " where %" PRIu64 " is next",
              event->partition, event->reader, event->offset, reading->position);
    else if (event->offset < reading->position)
        found(checker, ANOMALY_REORDERED,
              "partition %u: reader %u got offset %" PRIu64 " where %" PRIu64 " is next",
              event->partition, event->reader, event->offset, reading->position);
    reading->started = true;
    reading->position = event->offset + count;
}

static void read_one(struct checker *checker, const struct history_event *event, struct lane *lane,
                     uint64_t i)
{
    uint64_t sequence = event->sequence + i;
    uint64_t *place = lane && sequence < lane->count ? &lane->places[sequence] : NULL;
    if (!place || !(*place & PLACE_SENT) || lane_txn(lane, sequence) != event->txn) {
        mark_seen(partition_of(checker, event->partition), event->offset + i);
        found(checker, ANOMALY_FOREIGN,
              "partition %u offset %" PRIu64 ": producer %u sequence %" PRIu64
              " of transaction %" PRIu64 " was not sent there",
              event->partition, event->offset + i, event->producer, sequence, event->txn);
        return;
    }
    if (*place & PLACE_SEEN)
        again(checker, event, place, i);
    else
        first_sight(checker, event, place, i);
}

static void first_sight(struct checker *checker, const struct history_event *event, uint64_t *place,
                        uint64_t i)
{
    uint64_t offset = event->offset + i, sequence = event->sequence + i;
    bool placed = *place & PLACE_ACKED && !(*place & PLACE_NOWHERE);
    if (placed && (*place & PLACE_OFFSET) != offset)
        found(checker, ANOMALY_INCONSISTENT,
              "producer %u partition %u sequence %" PRIu64 " was acked at offset %" PRIu64
              " and read at %" PRIu64,
              event->producer, event->partition, sequence, *place & PLACE_OFFSET, offset);
    if (*place & PLACE_REFUSED)
        found(checker, ANOMALY_ABORTED_READ,
              "producer %u partition %u sequence %" PRIu64 ", at offset %" PRIu64
              ", was reported as not stored",
              event->producer, event->partition, sequence, offset);
    if (mark_seen(partition_of(checker, event->partition), offset))
        found(checker, ANOMALY_INCONSISTENT,
              "partition %u offset %" PRIu64 " holds producer %u sequence %" PRIu64
              " for reader %u, and another record for somebody else",
              event->partition, offset, event->producer, sequence, event->reader);
    *place = (*place & ~(PLACE_OFFSET | PLACE_NOWHERE)) | PLACE_SEEN | offset;
    checker->totals.records_seen++;
    if (event->txn)
        seen_in_txn(checker, event->txn);
}

/* Another reader, or the same one from an earlier offset: the record must be where it was. */
static void again(struct checker *checker, const struct history_event *event, uint64_t *place,
                  uint64_t i)
{
    uint64_t offset = event->offset + i;
    if ((*place & PLACE_OFFSET) == offset)
        return;
    mark_seen(partition_of(checker, event->partition), offset);
    if (*place & PLACE_TWICE)
        return;
    *place |= PLACE_TWICE;
    found(checker, ANOMALY_DUPLICATE,
          "producer %u partition %u sequence %" PRIu64 " lies at offset %" PRIu64
          " and at %" PRIu64,
          event->producer, event->partition, event->sequence + i, *place & PLACE_OFFSET, offset);
}

/* True: a record was seen there before. */
static bool mark_seen(struct partition *partition, uint64_t offset)
{
    if (offset > PLACE_OFFSET)
        return false;
    GROW(partition->seen, partition->seen_room, offset / 64 + 1);
    uint64_t bit = 1ull << offset % 64;
    bool was = partition->seen[offset / 64] & bit;
    partition->seen[offset / 64] |= bit;
    return was;
}

/* Aborts of which is heard later are judged at the end. */
static void seen_in_txn(struct checker *checker, uint64_t number)
{
    struct transaction *txn = txn_of(checker, number);
    txn->seen++;
    if (txn->commit_asked || txn->read_early)
        return;
    txn->read_early = 1;
    if (txn->abort_asked || txn->aborted)
        found(checker, ANOMALY_ABORTED_READ,
              "records of transaction %" PRIu64 ", which was aborted, are visible", number);
    else
        found(checker, ANOMALY_UNCOMMITTED_READ,
              "records of transaction %" PRIu64 " are visible before its commit was asked for",
              number);
}

/* ---- the visible end ---- */

void on_end_asked(struct checker *checker, const struct history_event *event)
{
    struct reading *reading = reading_of(checker, event->reader, event->partition);
    reading->asks_end = true;
    reading->asked_at = checker->event_count;
    reading->end_floor = partition_of(checker, event->partition)->visible;
}

void on_end(struct checker *checker, const struct history_event *event)
{
    struct reading *reading = reading_of(checker, event->reader, event->partition);
    struct partition *p = partition_of(checker, event->partition);
    if (!reading->asks_end) {
        found(checker, ANOMALY_MALFORMED,
              "reader %u knows the end of partition %u and never asked for it", event->reader,
              event->partition);
        return;
    }
    reading->asks_end = false;
    if (event->offset < reading->end_floor)
        found(checker, ANOMALY_OFFSET_BACK,
              "partition %u ends at %" PRIu64 " when %" PRIu64 " was visible before",
              event->partition, event->offset, reading->end_floor);
    GROW(p->ends, p->end_room, p->end_count + 1);
    p->ends[p->end_count++] = (struct known_end){reading->asked_at, event->offset};
    if (p->visible < event->offset)
        p->visible = event->offset;
}
