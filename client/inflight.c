/* What a producer sends next: order, windows, sequence numbers. I/O thread.
 *
 * The happy path of a batch: inflight_next() takes it from its lane, gives it the lane's next
 * sequence number, seals it and hands it to the sender; inflight_answer() (answers.c) says it is
 * stored; it is reported.
 *
 * Order is kept by three rules. (1) A lane sends its unacked batches oldest first, new ones behind
 * them. (2) When an answer is a failure, the lane sends nothing more until every batch it has on
 * the wire is answered ("recovering"), waits for the backoff, and then sends all that are left
 * again, oldest first, with the same bytes. The broker refuses what comes behind a refused batch
 * (OUT_OF_ORDER_SEQUENCE), so nothing overtakes. (3) Results are reported in the lane's order,
 * whatever order the answers come in.
 *
 * No second copy: a retry carries the same sequence number. A number may change only while it is
 * certain that the batch is not stored: `maybe_stored` marks the batches of a broken connection
 * until an answer settles their fate. README.md has all rules as a table. */
#include "client/inflight.h"

#include "base/status.h"
#include "client/producer_private.h"

/* Producers take turns by so many bytes, and with them their lanes: of small batches a few are sent while the lines of the lane
 * are here. */
#define TURN_BYTES ((uint32_t)(16 * KIB))

static struct parcel *lane_next(struct lane *lane);
static struct parcel *first_unsent(struct lane *lane);
static struct parcel *take_new(struct lane *lane);
static void seal_new(struct lane *lane, struct parcel *parcel);
static void put_on_wire(struct parcel *parcel);
static bool lane_may_send(struct lane *lane);
static void recover(struct lane *lane);
static void delay(struct lane *lane, uint64_t wake_ns);
static uint64_t wake_delayed(struct sluice_producer *producer);

/* ---- what to send ---- */

void inflight_lane_ready(struct lane *lane)
{
    if (!list_is_linked(&lane->active_link))
        list_push_back(&lane->producer->active, &lane->active_link);
    inflight_make_ready(lane);
}

struct parcel *inflight_next(struct sluice_producer *producer)
{
    while (!list_is_empty(&producer->ready)) {
        struct lane *lane = CONTAINER_OF(producer->ready.next, struct lane, turn_link);
        struct parcel *parcel = lane_next(lane);
        if (!parcel)
            continue; // it has left the list
        producer->turn_bytes += parcel->size;
        if (producer->turn_bytes >= TURN_BYTES) {
            producer->turn_bytes = 0;
            list_remove(&lane->turn_link);
            list_push_back(&producer->ready, &lane->turn_link);
        }
        put_on_wire(parcel);
        return parcel;
    }
    producer->turn_bytes = 0;
    list_remove(&producer->ready_link);
    return NULL;
}

void inflight_put_back(struct parcel *parcel)
{
    inflight_take_off_wire(parcel);
    inflight_make_ready(parcel->lane);
}

/* The next batch of a lane; or NULL, and then the lane waits for something else than its turn. */
static struct parcel *lane_next(struct lane *lane)
{
    struct sluice_producer *producer = lane->producer;
    if (!lane_may_send(lane))
        return NULL;
    struct parcel *parcel = first_unsent(lane);
    if (parcel)
        return parcel;
    bool may_take = !producer->idempotent || producer->identity == IDENTITY_VALID;
    if (may_take && lane->unacked_count < producer->window)
        return take_new(lane);
    list_remove(&lane->turn_link); // until an answer comes
    return NULL;
}

static bool lane_may_send(struct lane *lane)
{
    if (atomic_load(&lane->producer->fatal) != SLUICE_OK || txn_is_doomed(lane->producer)) {
        inflight_leave(lane);
        client_producers_at(lane->producer->client, 0); // fails what has come since
        return false;
    }
    if (!lane->recovering)
        return true;
    if (lane->on_wire_count > 0) {
        list_remove(&lane->turn_link); // until the last answer comes
        return false;
    }
    if (lane->producer->client->now_ns < lane->wake_ns) {
        delay(lane, lane->wake_ns);
        return false;
    }
    recover(lane);
    return true;
}

/* While a new epoch is needed only batches with an unknown fate are sent, to learn it. */
static struct parcel *first_unsent(struct lane *lane)
{
    if (lane->on_wire_count == lane->unacked_count)
        return NULL;
    bool only_unknown = lane->producer->idempotent && lane->producer->identity != IDENTITY_VALID;
    LIST_EACH(link, &lane->unacked)
    {
        struct parcel *parcel = CONTAINER_OF(link, struct parcel, link);
        if (!parcel->on_wire && !parcel->done && (!only_unknown || parcel->maybe_stored))
            return parcel;
    }
    return NULL;
}

static struct parcel *take_new(struct lane *lane)
{
    struct sluice_producer *producer = lane->producer;
    struct parcel *parcel;
    uint64_t wake_ns;
    switch (lane_take(lane, producer->client->now_ns, &parcel, &wake_ns)) {
    case LANE_PARCEL:
        break;
    case LANE_LATER:
        delay(lane, wake_ns);
        return NULL;
    case LANE_EMPTY:
        if (list_is_empty(&lane->unacked))
            list_remove(&lane->active_link);
        list_remove(&lane->turn_link);
        return NULL;
    case LANE_COMPRESSING:
        list_remove(&lane->turn_link); // the compressing thread signals
        return NULL;
    }
    seal_new(lane, parcel);
    return parcel;
}

static void seal_new(struct lane *lane, struct parcel *parcel)
{
    struct sluice_producer *producer = lane->producer;
    if (producer->idempotent) {
        parcel_seal(parcel, producer->producer_id, producer->epoch, lane->next_sequence);
        lane->next_sequence = (lane->next_sequence + parcel->record_count) % SEQUENCE_MODULUS;
    } else {
        parcel_seal(parcel, PRODUCER_NONE, UINT16_MAX, UINT32_MAX);
    }
    list_push_back(&lane->unacked, &parcel->link);
    lane->unacked_count++;
}

/* The newest batch that is known to be stored and still waits for older ones to be reported. Those
 * older ones are stored, too, whatever became of their answers: the broker takes nothing behind a
 * gap, and answers may overtake each other. So they keep their numbers. */
static struct parcel *newest_stored(struct lane *lane)
{
    struct parcel *newest = NULL;
    LIST_EACH(link, &lane->unacked)
    {
        struct parcel *parcel = CONTAINER_OF(link, struct parcel, link);
        if (parcel->done && parcel->status == SLUICE_OK)
            newest = parcel;
    }
    return newest;
}

/* Nothing is on the wire: numbers the unacked batches densely from what the broker expects. Usually
 * they are so already; where one before them was given up they move down. */
static void recover(struct lane *lane)
{
    struct parcel *stored = newest_stored(lane);
    struct sluice_producer *producer = lane->producer;
    uint32_t sequence = lane->stored_sequence;
    lane->recovering = lane->backing_off = false;
    if (!producer->idempotent || producer->identity != IDENTITY_VALID)
        return; // renewing: only those of unknown fate go out, as they are
    LIST_EACH(link, &lane->unacked)
    {
        struct parcel *parcel = CONTAINER_OF(link, struct parcel, link);
        bool is_stored = stored != NULL;
        if (parcel == stored)
            stored = NULL;
        if (parcel->done || is_stored)
            continue;
        ASSERT(!parcel->on_wire); // its bytes may be on their way: they must not change
        if (parcel->base_sequence != sequence) {
            /* The batch before it is surely not stored (else a new epoch were asked for), and the
             * broker takes nothing behind a gap: so this one isn't either, whatever was lost. */
            inflight_set_maybe_stored(parcel, false);
            parcel_seal(parcel, producer->producer_id, producer->epoch, sequence);
        }
        sequence = (sequence + parcel->record_count) % SEQUENCE_MODULUS;
    }
    lane->next_sequence = sequence;
}

static void put_on_wire(struct parcel *parcel)
{
    ASSERT(!parcel->on_wire && !parcel->done);
    parcel->on_wire = true;
    parcel->lane->on_wire_count++;
    parcel->lane->producer->on_wire_count++;
}

void inflight_take_off_wire(struct parcel *parcel)
{
    ASSERT(parcel->on_wire);
    parcel->on_wire = false;
    parcel->publish = 0;
    parcel->publish_next = NULL;
    parcel->lane->on_wire_count--;
    parcel->lane->producer->on_wire_count--;
}

void inflight_set_maybe_stored(struct parcel *parcel, bool maybe)
{
    if (parcel->maybe_stored == maybe)
        return;
    parcel->maybe_stored = maybe;
    parcel->lane->producer->maybe_stored_count += maybe ? 1u : -1u;
}

/* ---- whose turn it is ---- */

void inflight_connected(struct sluice_producer *producer)
{
    identity_turn(producer);
    LIST_EACH(link, &producer->active)
    inflight_make_ready(CONTAINER_OF(link, struct lane, active_link));
}

uint64_t inflight_turn(struct sluice_producer *producer)
{
    identity_turn(producer);
    uint64_t wake_ns = wake_delayed(producer);
    if (producer->identity_wake_ns > producer->client->now_ns)
        wake_ns = min_u64(wake_ns, producer->identity_wake_ns);
    return wake_ns;
}

void inflight_hurry(struct sluice_producer *producer)
{
    LIST_EACH(link, &producer->delayed)
    {
        struct lane *lane = CONTAINER_OF(link, struct lane, turn_link);
        if (!lane->recovering)
            inflight_make_ready(lane);
    }
}

static void delay(struct lane *lane, uint64_t wake_ns)
{
    struct sluice_producer *producer = lane->producer;
    lane->wake_ns = wake_ns;
    list_remove(&lane->turn_link);
    list_push_back(&producer->delayed, &lane->turn_link);
    producer->delayed_until_ns = min_u64(producer->delayed_until_ns, wake_ns);
    client_producers_at(producer->client, wake_ns);
}

static uint64_t wake_delayed(struct sluice_producer *producer)
{
    uint64_t now_ns = producer->client->now_ns;
    if (now_ns < producer->delayed_until_ns)
        return producer->delayed_until_ns;
    producer->delayed_until_ns = UINT64_MAX;
    LIST_EACH(link, &producer->delayed)
    {
        struct lane *lane = CONTAINER_OF(link, struct lane, turn_link);
        if (lane->wake_ns <= now_ns)
            inflight_make_ready(lane);
        else
            producer->delayed_until_ns = min_u64(producer->delayed_until_ns, lane->wake_ns);
    }
    return producer->delayed_until_ns;
}

void inflight_make_ready(struct lane *lane)
{
    struct sluice_producer *producer = lane->producer;
    list_remove(&lane->turn_link);
    list_push_back(&producer->ready, &lane->turn_link);
    if (!list_is_linked(&producer->ready_link))
        list_push_back(&producer->client->ready_producers, &producer->ready_link);
}

void inflight_leave(struct lane *lane)
{
    list_remove(&lane->turn_link);
    if (list_is_empty(&lane->unacked))
        list_remove(&lane->active_link);
    lane_forget_signal(lane); // a transaction after the one that is dropped signals anew
}
