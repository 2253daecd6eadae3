/* Beginning a transaction, what is needed for every step of one, and consumers' offsets in it.
 *
 * The happy path of a begin: the producer has an identity, TXN_BEGIN is answered with the
 * transaction's name, the gate opens. When the answer was lost with its connection, the question is
 * asked again and finds a transaction open that nobody uses: a new epoch ends it, and the begin
 * begins anew. Ending is in txn_end.c. */
#include "client/txn.h"

#include <stdlib.h>

#include "client/consumer_private.h"
#include "client/group.h"
#include "client/producer_private.h"
#include "client/txn_private.h"

#define BACKOFF_NS (5 * NS_PER_MS)
#define BACKOFF_NS_MAX (200 * NS_PER_MS)
#define TXN_BYTES (32 + TRANSACTIONAL_ID_BYTES_MAX)

static int begin(struct sluice_producer *producer, uint64_t deadline_ns);
static int ask_to_begin(struct sluice_producer *producer, const struct txn_identity *identity,
                        uint64_t deadline_ns);
static void open_gate(struct sluice_producer *producer, const struct txn_identity *identity,
                      const struct msg_txn_begin_reply *reply);
static bool needs_new_epoch(int status);
static int stage_offsets(struct sluice_producer *producer, struct sluice_consumer *consumer,
                         uint64_t deadline_ns);
static int ask_to_stage(struct sluice_producer *producer, const struct group_positions *positions,
                        uint64_t deadline_ns);
static int note_group(struct producer_txn *txn, struct slice group);

int sluice_txn_begin(struct sluice_producer *producer)
{
    int status = txn_enter(producer);
    if (status != SLUICE_OK)
        return status;
    struct sluice_client *client = producer->client;
    uint64_t deadline_ns = client_deadline(client, client->request_timeout_ms);
    bool half_aborted = producer->txn->phase == TXN_ENDING && txn_is_doomed(producer);
    if (half_aborted) // the broker did not answer when it failed
        status = txn_abort_now(producer, deadline_ns);
    if (status == SLUICE_OK && producer->txn->phase == TXN_NONE) {
        status = begin(producer, deadline_ns);
    } else if (status == SLUICE_OK) {
        error_set("a transaction is open already");
        status = SLUICE_E_INVALID;
    }
    txn_leave(producer);
    return status;
}

static int begin(struct sluice_producer *producer, uint64_t deadline_ns)
{
    struct txn_identity identity;
    uint32_t attempt = 0;
    for (;;) {
        int status = txn_wait_identity(producer, deadline_ns, &identity);
        if (status == SLUICE_OK && identity.waits) {
            error_set("a prepared transaction of this transactional id waits for its end");
            status = SLUICE_E_TRANSACTION_PREPARED;
        }
        if (status != SLUICE_OK)
            return status;
        status = ask_to_begin(producer, &identity, deadline_ns);
        if (status == SLUICE_E_FENCED_PRODUCER)
            producer_set_fatal(producer, status);
        if (needs_new_epoch(status))
            txn_renew(producer);
        else if (status == SLUICE_OK || SLUICE_BROKER_ERROR(status) == 0 ||
                 !sluice_is_retriable(status))
            return status;
        if (!txn_pause(producer, &attempt, deadline_ns))
            return status;
    }
}

/* Somebody of the same id left something open (it may have been us, and the answer got lost), or
 * the broker has forgotten the id: TXN_INIT puts both in order. */
static bool needs_new_epoch(int status)
{
    int error = SLUICE_BROKER_ERROR(status);
    return error == PE_TRANSACTION_OPEN || error == PE_UNKNOWN_TRANSACTIONAL_ID ||
           error == PE_UNKNOWN_PRODUCER;
}

static int ask_to_begin(struct sluice_producer *producer, const struct txn_identity *identity,
                        uint64_t deadline_ns)
{
    struct request request;
    struct msg_txn_begin m = {.id = txn_id(producer),
                              .producer_id = identity->producer_id,
                              .epoch = identity->epoch,
                              .timeout_ms = producer->txn->timeout_ms};
    struct msg_txn_begin_reply reply;
    int status = request_begin(&request, producer->client, OP_TXN_BEGIN, TXN_BYTES);
    if (status == SLUICE_OK) {
        write_txn_begin(&request.meta, &m);
        request.deadline_ns = deadline_ns;
        status = request_wait(&request);
    }
    if (status == SLUICE_OK && read_txn_begin_reply(&request.reply, &reply) != PE_NONE)
        status = SLUICE_E_PROTOCOL;
    if (status == SLUICE_OK)
        open_gate(producer, identity, &reply);
    request_end(&request);
    return status;
}

static void open_gate(struct sluice_producer *producer, const struct txn_identity *identity,
                      const struct msg_txn_begin_reply *reply)
{
    struct producer_txn *txn = producer->txn;
    txn->identity_count = identity->count;
    txn->producer_id = identity->producer_id;
    txn->epoch = identity->epoch;
    txn->coordinator = reply->coordinator;
    txn->open_lsn = reply->open_lsn;
    txn->phase = TXN_OPEN;
    if (txn_is_doomed(producer)) // the last one was
        txn_command(producer, COMMAND_TXN_CLEAR);
    producer_set_gate(producer, SLUICE_OK);
}

/* The I/O thread's to do; nothing is pending, so a drop does no more than that. */
void txn_renew(struct sluice_producer *producer)
{
    pthread_mutex_lock(&producer->wait_mutex);
    producer->txn->identity.known = false;
    pthread_mutex_unlock(&producer->wait_mutex);
    client_command(producer->client, COMMAND_TXN_RENEW, producer);
}

/* ---- what each step needs ---- */

int txn_new(struct sluice_producer *producer, const struct sluice_producer_options *options)
{
    struct slice id = slice_of_text(options->transactional_id);
    if (id.len == 0 || id.len > TRANSACTIONAL_ID_BYTES_MAX || !slice_is_utf8(id)) {
        error_set("transactional_id: 1 to %d bytes of UTF-8", TRANSACTIONAL_ID_BYTES_MAX);
        return SLUICE_E_INVALID;
    }
    struct producer_txn *txn = calloc(1, sizeof(*txn));
    if (!txn)
        return SLUICE_E_NO_MEMORY;
    memcpy(txn->id, id.bytes, id.len);
    txn->timeout_ms = options->transaction_timeout_ms;
    producer->txn = txn;
    atomic_store(&producer->gate, SLUICE_E_INVALID);
    return SLUICE_OK;
}

void txn_free(struct producer_txn *txn)
{
    if (!txn)
        return;
    txn_forget(txn);
    free(txn);
}

void txn_forget(struct producer_txn *txn)
{
    for (uint32_t i = 0; i < txn->group_count; i++)
        free((void *)(uintptr_t)txn->groups[i].bytes);
    free(txn->groups);
    free(txn->end_meta);
    txn->groups = NULL;
    txn->group_count = 0;
    txn->end_meta = NULL;
    txn->end_meta_bytes = 0;
    txn->phase = TXN_NONE;
}

struct slice txn_id(const struct sluice_producer *producer)
{
    return slice_of_text(producer->txn->id);
}

int txn_explain_gate(int gate)
{
    if (gate == SLUICE_E_INVALID)
        error_set("a transactional producer sends between begin and commit or abort");
    if (gate == SLUICE_E_TRANSACTION_ABORTED)
        error_set("something of this transaction has failed: abort it");
    return gate;
}

int txn_enter(struct sluice_producer *producer)
{
    error_set("%s", "");
    if (!producer->txn || client_is_io_thread(producer->client)) {
        error_set(producer->txn ? "not from a report or log callback"
                                : "the producer has no transactional_id");
        return SLUICE_E_INVALID;
    }
    if (atomic_exchange(&producer->txn->busy, true)) {
        error_set("another thread is beginning or ending a transaction of this producer");
        return SLUICE_E_INVALID;
    }
    int fatal = atomic_load(&producer->fatal);
    if (fatal != SLUICE_OK)
        txn_leave(producer);
    return fatal;
}

void txn_leave(struct sluice_producer *producer)
{
    atomic_store(&producer->txn->busy, false);
}

int txn_wait_identity(struct sluice_producer *producer, uint64_t deadline_ns,
                      struct txn_identity *identity)
{
    bool in_time = true;
    for (;;) {
        uint64_t seen = producer_progress(producer);
        pthread_mutex_lock(&producer->wait_mutex);
        *identity = producer->txn->identity;
        pthread_mutex_unlock(&producer->wait_mutex);
        int fatal = atomic_load(&producer->fatal);
        if (identity->known || fatal != SLUICE_OK)
            return fatal;
        bool for_ever =
            SLUICE_BROKER_ERROR(identity->refused) != 0 && !sluice_is_retriable(identity->refused);
        if (for_ever || !in_time)
            return identity->refused ? identity->refused : SLUICE_E_CONNECT;
        in_time = producer_wait_progress(producer, seen, deadline_ns);
    }
}

void txn_command(struct sluice_producer *producer, int command)
{
    struct producer_txn *txn = producer->txn;
    pthread_mutex_lock(&producer->wait_mutex);
    uint64_t wanted = txn->command_count + 1;
    pthread_mutex_unlock(&producer->wait_mutex);
    client_command(producer->client, (enum command_kind)command, producer);
    pthread_mutex_lock(&producer->wait_mutex);
    while (txn->command_count < wanted)
        client_cond_wait(&producer->progress, &producer->wait_mutex, UINT64_MAX);
    pthread_mutex_unlock(&producer->wait_mutex);
}

struct msg_txn txn_name(const struct sluice_producer *producer)
{
    const struct producer_txn *txn = producer->txn;
    return (struct msg_txn){.id = txn_id(producer),
                            .producer_id = txn->producer_id,
                            .epoch = txn->epoch,
                            .coordinator = txn->coordinator,
                            .open_lsn = txn->open_lsn};
}

bool txn_pause(struct sluice_producer *producer, uint32_t *attempt, uint64_t deadline_ns)
{
    uint64_t wait_ns = min_u64(BACKOFF_NS << (*attempt < 6 ? *attempt : 6), BACKOFF_NS_MAX);
    (*attempt)++;
    return client_sleep(producer->client, wait_ns, deadline_ns);
}

/* ---- offsets ---- */

int sluice_txn_send_offsets(struct sluice_producer *producer, struct sluice_consumer *consumer,
                            uint32_t timeout_ms)
{
    int status = txn_enter(producer);
    if (status != SLUICE_OK)
        return status;
    status = SLUICE_E_INVALID;
    if (producer->txn->phase != TXN_OPEN)
        error_set("no transaction is open");
    else if (!consumer->group)
        error_set("the consumer is in no group");
    else
        status = stage_offsets(producer, consumer, client_deadline(producer->client, timeout_ms));
    txn_leave(producer);
    return status;
}

static int stage_offsets(struct sluice_producer *producer, struct sluice_consumer *consumer,
                         uint64_t deadline_ns)
{
    struct group_positions positions;
    uint32_t attempt = 0;
    int status = group_positions(consumer, false, &positions);
    if (status == SLUICE_OK && positions.count > 0)
        status = note_group(producer->txn, positions.group);
    while (status == SLUICE_OK && positions.count > 0) {
        status = ask_to_stage(producer, &positions, deadline_ns);
        bool again = SLUICE_BROKER_ERROR(status) != 0 && sluice_is_retriable(status);
        if (!again || !txn_pause(producer, &attempt, deadline_ns))
            break;
        status = SLUICE_OK;
    }
    group_positions_free(&positions);
    if (status == SLUICE_E_UNKNOWN_TRANSACTION)
        status = SLUICE_E_TRANSACTION_ABORTED;
    if (status != SLUICE_OK && !sluice_is_retriable(status)) {
        txn_ruin(producer, status); // at once: a commit may be the next call
        txn_command(producer, COMMAND_TXN_DROP);
    }
    return status;
}

static int ask_to_stage(struct sluice_producer *producer, const struct group_positions *positions,
                        uint64_t deadline_ns)
{
    struct request request;
    uint32_t room = TXN_BYTES + positions->group.len + positions->member.len + 32 +
                    positions->count * (uint32_t)sizeof(struct offset_item);
    struct msg_txn_offsets m = {.group = positions->group,
                                .member = positions->member,
                                .generation = positions->generation,
                                .txn = txn_name(producer),
                                .item_count = positions->count};
    int status = request_begin(&request, producer->client, OP_TXN_OFFSETS, room);
    if (status == SLUICE_OK) {
        write_txn_offsets_begin(&request.meta, &m);
        write_bytes(&request.meta, positions->items, positions->count * sizeof(*positions->items));
        request.deadline_ns = deadline_ns;
        status = request_wait(&request);
    }
    request_end(&request);
    return status;
}

/* Before they are sent: an answer that is lost must not make the commit forget them. */
static int note_group(struct producer_txn *txn, struct slice group)
{
    for (uint32_t i = 0; i < txn->group_count; i++) {
        if (slice_equals(txn->groups[i], group))
            return SLUICE_OK;
    }
    struct slice *groups = realloc(txn->groups, (txn->group_count + 1) * sizeof(*groups));
    if (groups)
        txn->groups = groups;
    uint8_t *name = malloc(group.len);
    if (!groups || !name) {
        free(name);
        return SLUICE_E_NO_MEMORY;
    }
    memcpy(name, group.bytes, group.len);
    groups[txn->group_count++] = (struct slice){name, group.len};
    return SLUICE_OK;
}
