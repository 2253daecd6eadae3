/* What becomes of batches on the wire: answers, lost answers, deadlines. I/O thread.
 *
 * Happy path: inflight_answer() with PE_NONE, the batch is stored and reported. Everything else is
 * one of
 *
 *   answer or event               | the batch                    | the lane, the producer
 *   ------------------------------+------------------------------+---------------------------------
 *   DUPLICATE_SEQUENCE            | stored, offset unknown       | goes on
 *   retriable error               | again after the backoff      | all behind it again, in order
 *   OUT_OF_ORDER, one before it   | again: surely not stored     | the same
 *     failed or is unanswered     |                              |
 *   OUT_OF_ORDER, expected number | again under a new epoch      | the broker lost our state: renew
 *   UNKNOWN_PRODUCER, one before  | again                        | all behind it again, in order
 *     it failed or is unanswered  |                              |
 *   UNKNOWN_PRODUCER, first try   | again under a new id         | renew with a new id
 *   UNKNOWN_PRODUCER, may be      | fails: nobody can tell       | renew with a new id
 *     stored by an earlier try    |                              |
 *   FENCED_PRODUCER               | fails                        | fatal: another one has our id
 *   any other error               | fails                        | those behind it move down; renew
 *                                 |                              | if it may have been stored before
 *   connection lost               | may be stored: again, same   | all again, in order
 *                                 |   bytes                      |
 *   deadline, surely not stored   | fails: TIMED_OUT             | those behind it move down
 *   deadline, may be stored       | fails: TIMED_OUT             | renew: fences the late batch */
#include "client/inflight.h"

#include "base/status.h"
#include "client/producer_private.h"

static void stored(struct parcel *parcel, uint64_t offset);
static void refused(struct parcel *parcel, int status);
static void out_of_order(struct parcel *parcel);
static void unknown_producer(struct parcel *parcel);
static void retry_later(struct lane *lane);
static void start_recovery(struct lane *lane);
static void complete(struct parcel *parcel, int status, uint64_t offset);
static void settle(struct lane *lane);
static struct parcel *oldest_undone(struct lane *lane);
static void expire_lane(struct lane *lane);
static bool drop(struct parcel *parcel, int status);
static void drop_all(struct lane *lane, void *status);

void inflight_answer(struct parcel *parcel, uint16_t error, uint64_t offset)
{
    struct lane *lane = parcel->lane;
    inflight_take_off_wire(parcel);
    switch (error) {
    case PE_NONE:
        stored(parcel, offset);
        break;
    case PE_DUPLICATE_SEQUENCE:
        stored(parcel, SLUICE_OFFSET_UNKNOWN);
        break;
    case PE_OUT_OF_ORDER_SEQUENCE:
        out_of_order(parcel);
        break;
    case PE_UNKNOWN_PRODUCER:
        unknown_producer(parcel);
        break;
    case PE_FENCED_PRODUCER:
        refused(parcel, error_from_broker(error));
        inflight_set_fatal(lane->producer, error_from_broker(error));
        break;
    case PE_UNKNOWN_TOPIC:
    case PE_UNKNOWN_PARTITION:
        atomic_store_explicit(&lane->topic->stale, true, memory_order_relaxed);
        refused(parcel, error_from_broker(error));
        break;
    default:
        if (proto_error_is_retriable(error))
            retry_later(lane);
        else
            refused(parcel, error_from_broker(error));
    }
    inflight_lane_ready(lane);
    identity_turn(lane->producer);
}

static void stored(struct parcel *parcel, uint64_t offset)
{
    struct lane *lane = parcel->lane;
    uint32_t end = (parcel->base_sequence + parcel->record_count) % SEQUENCE_MODULUS;
    if ((end - lane->stored_sequence) % SEQUENCE_MODULUS < SEQUENCE_MODULUS / 2)
        lane->stored_sequence = end; // answers may overtake each other
    lane->attempt = 0;
    if (lane->producer->txn)
        offset = txn_staged(lane);
    complete(parcel, SLUICE_OK, offset);
}

/* Refused for good. What comes behind it in the lane is refused too, as the broker takes no gap,
 * and moves down; unless the refused batch itself may lie there from an earlier try. */
static void refused(struct parcel *parcel, int status)
{
    struct lane *lane = parcel->lane;
    if (lane->producer->idempotent) {
        start_recovery(lane);
        if (parcel->maybe_stored)
            identity_renew(lane->producer, false);
    }
    if (lane->producer->txn)
        txn_doom(lane->producer, status);
    complete(parcel, status, SLUICE_OFFSET_UNKNOWN);
}

/* Not stored, for certain. With an older batch on its way or failed, that one is the reason. But
 * when the broker refuses the very number it should expect, it has lost this producer's state:
 * begin anew. */
static void out_of_order(struct parcel *parcel)
{
    struct lane *lane = parcel->lane;
    if (!lane->producer->idempotent) {
        refused(parcel, error_from_broker(PE_OUT_OF_ORDER_SEQUENCE));
        return;
    }
    bool expected = parcel->base_sequence == lane->stored_sequence && !lane->recovering &&
                    parcel == oldest_undone(lane);
    inflight_set_maybe_stored(parcel, false);
    if (expected) {
        retry_later(lane);
        identity_renew(lane->producer, false);
    }
    start_recovery(lane);
}

/* Behind an older batch that is not stored it says nothing new: the partition may know us as soon as
 * that one is there, as when the disk was full for the very first. */
static void unknown_producer(struct parcel *parcel)
{
    struct lane *lane = parcel->lane;
    if (!lane->producer->idempotent) {
        refused(parcel, error_from_broker(PE_UNKNOWN_PRODUCER));
        return;
    }
    bool follows = parcel != oldest_undone(lane);
    retry_later(lane);
    if (follows)
        return;
    identity_renew(lane->producer, true);
    if (parcel->maybe_stored)
        complete(parcel, error_from_broker(PE_UNKNOWN_PRODUCER), SLUICE_OFFSET_UNKNOWN);
}

/* One backoff for all that fail together. */
static void retry_later(struct lane *lane)
{
    struct sluice_producer *producer = lane->producer;
    start_recovery(lane);
    if (lane->backing_off)
        return;
    uint64_t backoff_ns = producer->backoff_ns << (lane->attempt < 10 ? lane->attempt : 10);
    lane->attempt++;
    lane->backing_off = true;
    lane->wake_ns = producer->client->now_ns + min_u64(backoff_ns, 1 * NS_PER_S);
}

static void start_recovery(struct lane *lane)
{
    if (!lane->recovering)
        lane->wake_ns = 0;
    lane->recovering = true;
}

static void complete(struct parcel *parcel, int status, uint64_t offset)
{
    inflight_set_maybe_stored(parcel, false);
    parcel->done = true;
    parcel->status = status;
    parcel->offset = offset;
    settle(parcel->lane);
}

/* Reports what is done, oldest first. */
static void settle(struct lane *lane)
{
    while (!list_is_empty(&lane->unacked)) {
        struct parcel *parcel = CONTAINER_OF(lane->unacked.next, struct parcel, link);
        if (!parcel->done || parcel->sending)
            return;
        list_remove(&parcel->link);
        lane->unacked_count--;
        reports_done(parcel, parcel->status, parcel->offset);
    }
}

void inflight_lost(struct parcel *parcel)
{
    inflight_take_off_wire(parcel);
    inflight_set_maybe_stored(parcel, true);
    start_recovery(parcel->lane);
    parcel->lane->wake_ns = 0; // the connection's backoff is enough
}

void inflight_sent(struct parcel *parcel)
{
    struct lane *lane = parcel->lane;
    parcel->sending = false;
    settle(lane);
    inflight_lane_ready(lane);
    if (atomic_load(&lane->producer->fatal) != SLUICE_OK)
        client_producers_at(lane->producer->client, 0);
}

/* ---- giving up ---- */

void inflight_expire(struct sluice_producer *producer)
{
    LIST_EACH(link, &producer->active)
    expire_lane(CONTAINER_OF(link, struct lane, active_link));
    identity_turn(producer);
}

void inflight_set_fatal(struct sluice_producer *producer, int status)
{
    producer_set_fatal(producer, status);
    client_producers_at(producer->client, 0); // the next turn fails what is pending
}

void inflight_drop_all(struct sluice_producer *producer, int status)
{
    topics_each_lane(producer, drop_all, &status);
}

void inflight_fail_all(struct sluice_producer *producer)
{
    int status = atomic_load(&producer->fatal);
    inflight_drop_all(producer, status);
}

/* Batches of a lane are in the order of their age, sent or not. */
static void expire_lane(struct lane *lane)
{
    uint64_t now_ns = lane->producer->client->now_ns;
    if (now_ns < lane->producer->delivery_timeout_ns)
        return;
    uint64_t before_ns = now_ns - lane->producer->delivery_timeout_ns;
    struct parcel *parcel;
    while ((parcel = oldest_undone(lane))) {
        if (parcel->opened_ns > before_ns || !drop(parcel, SLUICE_E_TIMED_OUT))
            return;
    }
    while ((parcel = lane_take_older(lane, before_ns))) {
        if (lane->producer->txn)
            txn_doom(lane->producer, SLUICE_E_TIMED_OUT);
        reports_done(parcel, SLUICE_E_TIMED_OUT, SLUICE_OFFSET_UNKNOWN);
    }
}

static void drop_all(struct lane *lane, void *status)
{
    struct parcel *parcel;
    while ((parcel = oldest_undone(lane)) && drop(parcel, *(int *)status))
        continue;
    while (!parcel && (parcel = lane_take_older(lane, UINT64_MAX))) {
        /* Of a transaction that was begun since it was looked whether anything is doomed: then that one is, now. */
        if (lane->producer->txn)
            txn_doom(lane->producer, *(int *)status);
        reports_done(parcel, *(int *)status, SLUICE_OFFSET_UNKNOWN);
        parcel = NULL;
    }
    inflight_leave(lane);
}

static struct parcel *oldest_undone(struct lane *lane)
{
    LIST_EACH(link, &lane->unacked)
    {
        struct parcel *parcel = CONTAINER_OF(link, struct parcel, link);
        if (!parcel->done)
            return parcel;
    }
    return NULL;
}

/* Gives up on an unacked batch. If the broker may have it, only a new epoch makes the numbers
 * certain again; if not, those behind it move down. False: no memory for the ghost, try again
 * later. */
static bool drop(struct parcel *parcel, int status)
{
    struct lane *lane = parcel->lane;
    struct connection *connection = &lane->producer->client->connection;
    bool unknown = parcel->maybe_stored || parcel->publish != 0;
    if (lane->producer->txn)
        txn_doom(lane->producer, status);
    if (parcel->publish != 0 && publishes_disown(&connection->publishes, parcel) < 0)
        return false;
    if (connection->next_parcel == parcel)
        connection->next_parcel = NULL;
    if (parcel->on_wire)
        inflight_take_off_wire(parcel);
    start_recovery(lane);
    if (unknown && lane->producer->idempotent)
        identity_renew(lane->producer, false);
    complete(parcel, status, SLUICE_OFFSET_UNKNOWN);
    inflight_make_ready(lane);
    return true;
}
