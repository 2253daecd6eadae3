/* Transactions, the I/O thread's side: what was acked, what dooms, which identity. */
#include "client/txn.h"

#include "client/inflight.h"
#include "client/producer_private.h"

static void carried_out(struct sluice_producer *producer);

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

void txn_turn(struct sluice_producer *producer)
{
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
