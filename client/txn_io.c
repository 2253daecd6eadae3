/* Transactions, the I/O thread's side: what was acked, what dooms, which identity. */
#include "client/txn.h"

#include "client/inflight.h"
#include "client/producer_private.h"

static void carried_out(struct sluice_producer *producer);
static bool all_is_reported(struct sluice_producer *producer);
static bool is_reported(struct lane *lane);

bool txn_is_doomed(const struct sluice_producer *producer)
{
    return producer->txn && atomic_load(&producer->txn->doom) != SLUICE_OK;
}

bool txn_ruin(struct sluice_producer *producer, int status)
{
    int none = SLUICE_OK;
    int open = SLUICE_OK;
    if (!atomic_compare_exchange_strong(&producer->txn->doom, &none, status))
        return false;
    atomic_compare_exchange_strong(&producer->gate, &open, SLUICE_E_TRANSACTION_ABORTED);
    return true;
}

/* Outside of a transaction nothing is pending, so nobody minds; the next begin clears it. */
void txn_doom(struct sluice_producer *producer, int status)
{
    if (txn_ruin(producer, status))
        client_producers_at(producer->client, 0);
}

void txn_end_begin(struct sluice_producer *producer)
{
    producer->txn->ending = producer->txn->to_end;
    txn_end_turn(producer);
}

void txn_end_turn(struct sluice_producer *producer)
{
    struct producer_txn *txn = producer->txn;
    struct sluice_client *client = producer->client;
    struct request *request = txn->ending;
    if (!request)
        return;
    bool reported = all_is_reported(producer);
    if (!reported && client->now_ns < request->call.deadline_ns) {
        client_producers_at(client, request->call.deadline_ns);
        return;
    }
    txn->ending = NULL;
    txn->waits_for = NULL;
    int status = reported ? txn_make_meta(producer) : SLUICE_E_TIMED_OUT;
    txn->was_asked = status == SLUICE_OK;
    if (status != SLUICE_OK) {
        request->call.done(&request->call, status, NULL);
        return;
    }
    request->call.meta = txn->end_meta;
    request->call.meta_bytes = txn->end_meta_bytes;
    calls_start(client, &request->call);
}

/* The gate is shut and no batch is open: a lane whose records have all been reported stays so. */
static bool all_is_reported(struct sluice_producer *producer)
{
    struct producer_txn *txn = producer->txn;
    if (txn->waits_for && !is_reported(txn->waits_for))
        return false;
    for (struct topic *topic = topics_newest(producer); topic; topic = topic->older) {
        struct lanes *lanes = atomic_load_explicit(&topic->lanes, memory_order_acquire);
        for (uint32_t p = 0; p < lanes->count; p++) {
            txn->waits_for = lanes->lane[p];
            if (!is_reported(lanes->lane[p]))
                return false;
        }
    }
    return true;
}

static bool is_reported(struct lane *lane)
{
    return atomic_load_explicit(&lane->reported, memory_order_relaxed) >= lane_accepted(lane);
}

void txn_turn(struct sluice_producer *producer)
{
    txn_end_turn(producer);
    if (txn_is_doomed(producer))
        inflight_drop_all(producer, SLUICE_E_TRANSACTION_ABORTED);
}

void txn_drop(struct sluice_producer *producer)
{
    txn_doom(producer, SLUICE_E_TRANSACTION_ABORTED);
    inflight_drop_all(producer, SLUICE_E_TRANSACTION_ABORTED);
    carried_out(producer);
}

/* By the thread that drops what is doomed, so that it never drops what the next one has taken. */
void txn_clear(struct sluice_producer *producer)
{
    atomic_store(&producer->txn->doom, SLUICE_OK);
    carried_out(producer);
}

static void carried_out(struct sluice_producer *producer)
{
    pthread_mutex_lock(&producer->wait_mutex);
    producer->txn->command_count++;
    pthread_mutex_unlock(&producer->wait_mutex);
    producer_tell_progress(producer);
}

uint64_t txn_staged(struct lane *lane)
{
    uint64_t open_lsn = lane->producer->txn->open_lsn;
    if (lane->txn_open_lsn != open_lsn) {
        lane->txn_open_lsn = open_lsn;
        lane->txn_batch_count = 0;
    }
    lane->txn_batch_count++;
    return SLUICE_OFFSET_STAGED;
}

/* ---- identity ---- */

void txn_identity_lost(struct sluice_producer *producer)
{
    txn_doom(producer, SLUICE_E_TRANSACTION_ABORTED);
    pthread_mutex_lock(&producer->wait_mutex);
    producer->txn->identity.known = false;
    pthread_mutex_unlock(&producer->wait_mutex);
}

void txn_identity_found(struct sluice_producer *producer, const struct msg_txn_init_reply *reply)
{
    struct txn_identity *identity = &producer->txn->identity;
    pthread_mutex_lock(&producer->wait_mutex);
    *identity = (struct txn_identity){
        .known = true,
        .count = identity->count + 1,
        .producer_id = reply->producer_id,
        .epoch = reply->epoch,
        .waits = reply->state == TXN_INIT_PREPARED,
        .waiting_coordinator = reply->coordinator,
        .waiting_lsn = reply->open_lsn,
    };
    pthread_mutex_unlock(&producer->wait_mutex);
    producer_tell_progress(producer);
}

void txn_identity_refused(struct sluice_producer *producer, int status)
{
    pthread_mutex_lock(&producer->wait_mutex);
    producer->txn->identity.refused = status;
    pthread_mutex_unlock(&producer->wait_mutex);
    producer_tell_progress(producer);
}
