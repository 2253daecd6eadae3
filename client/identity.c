/* The producer's identity: the id and epoch that let the broker know a retry from a new batch.
 *
 * The happy path: the first time the client is connected PRODUCER_INIT asks for an id, and it lasts
 * as long as the producer, across reconnects and restarts of the broker.
 *
 * Renewing. When sequence numbers can't go on (a batch of unknown fate was given up, or the broker
 * lost our state), the producer stops sending new batches, sends those of unknown fate again until
 * an answer settles each, and when nothing is on the wire and nothing in doubt asks for the next
 * epoch. Everything unacked is numbered from 0 in it. Batches of the old epoch that are still on
 * their way somewhere are fenced off by the broker, so order holds. If the broker doesn't know the
 * id any more, or says that it is fenced (the reply to our own last request was lost: an id is
 * never shared), or the epochs are used up, a new id does the same: in all these cases nothing of
 * the old epoch can be stored any more.
 *
 * Other errors are asked again after a backoff: the records' delivery timeouts are the limit. */
#include "client/producer_private.h"

#include "client/inflight.h"

#define EPOCH_MAX ((uint16_t)INT16_MAX) // of the record batch format

static bool nothing_is_in_doubt(const struct sluice_producer *producer);
static void ask(struct sluice_producer *producer);
static uint32_t write_question(struct sluice_producer *producer, struct writer *w);
static void ask_done(struct call *call, int status, const struct frame *reply);
static bool read_answer(struct sluice_producer *producer, const struct frame *frame,
                        struct msg_producer_init_reply *reply);
static void refused(struct sluice_producer *producer, int status);
static void adopt(struct sluice_producer *producer, const struct msg_producer_init_reply *reply);
static void renumber(struct lane *lane, void *context);

void identity_turn(struct sluice_producer *producer)
{
    struct sluice_client *client = producer->client;
    if (producer->identity != IDENTITY_NONE && producer->identity != IDENTITY_RENEWING)
        return;
    if (!connection_is_up(&client->connection) || client->now_ns < producer->identity_wake_ns)
        return;
    if (atomic_load(&producer->fatal) == SLUICE_OK && nothing_is_in_doubt(producer))
        ask(producer);
}

void identity_renew(struct sluice_producer *producer, bool new_id)
{
    producer->new_id_wanted |= new_id;
    if (producer->identity != IDENTITY_VALID)
        return;
    producer->identity = IDENTITY_RENEWING;
    if (producer->txn)
        txn_identity_lost(producer); // the new epoch ends what is open
}

void identity_cancel(struct sluice_producer *producer)
{
    calls_cancel(&producer->identity_call);
}

static bool nothing_is_in_doubt(const struct sluice_producer *producer)
{
    return producer->on_wire_count == 0 && producer->maybe_stored_count == 0;
}

static void ask(struct sluice_producer *producer)
{
    struct writer w = writer_make(producer->identity_meta, sizeof(producer->identity_meta));
    uint32_t meta_bytes = write_question(producer, &w);
    producer->identity_call = (struct call){
        .op = producer->txn ? OP_TXN_INIT : OP_PRODUCER_INIT,
        .repeatable =
            true, // an id that nobody uses costs nothing; a second epoch is fenced: new id
        .deadline_ns = UINT64_MAX,
        .meta = producer->identity_meta,
        .meta_bytes = meta_bytes,
        .done = ask_done,
    };
    list_init(&producer->identity_call.link);
    producer->identity = IDENTITY_ASKED;
    calls_start(producer->client, &producer->identity_call);
}

/* Of a transactional id the broker itself keeps producer id and epoch. */
static uint32_t write_question(struct sluice_producer *producer, struct writer *w)
{
    struct msg_producer_init init = {.producer_id = producer->producer_id,
                                     .epoch = producer->epoch};
    if (producer->new_id_wanted || producer->epoch >= EPOCH_MAX)
        init = (struct msg_producer_init){.producer_id = PRODUCER_NONE};
    if (producer->txn)
        write_txn_init(w, &(struct msg_txn_init){.id = txn_id(producer)});
    else
        write_producer_init(w, &init);
    ASSERT(!w->failed);
    return writer_length(w);
}

static void ask_done(struct call *call, int status, const struct frame *frame)
{
    struct sluice_producer *producer = CONTAINER_OF(call, struct sluice_producer, identity_call);
    struct msg_producer_init_reply reply;
    if (status == SLUICE_OK && !read_answer(producer, frame, &reply))
        status = SLUICE_E_PROTOCOL;
    if (status == SLUICE_OK)
        adopt(producer, &reply);
    else
        refused(producer, status);
}

static bool read_answer(struct sluice_producer *producer, const struct frame *frame,
                        struct msg_producer_init_reply *reply)
{
    struct msg_txn_init_reply init;
    if (!producer->txn)
        return read_producer_init_reply(frame, reply) == PE_NONE;
    if (read_txn_init_reply(frame, &init) != PE_NONE)
        return false;
    *reply = (struct msg_producer_init_reply){.producer_id = init.producer_id, .epoch = init.epoch};
    txn_identity_found(producer, &init);
    return true;
}

static void refused(struct sluice_producer *producer, int status)
{
    struct sluice_client *client = producer->client;
    int error = SLUICE_BROKER_ERROR(status);
    bool known_id = producer->producer_id != PRODUCER_NONE && !producer->new_id_wanted;
    if (known_id && !proto_error_is_retriable((uint16_t)error))
        producer->new_id_wanted = true;
    uint64_t backoff_ns = producer->backoff_ns
                          << (producer->identity_attempt < 6 ? producer->identity_attempt : 6);
    producer->identity_attempt++;
    producer->identity_wake_ns = client->now_ns + min_u64(backoff_ns, NS_PER_S);
    producer->identity = producer->producer_id == PRODUCER_NONE ? IDENTITY_NONE : IDENTITY_RENEWING;
    if (producer->txn)
        txn_identity_refused(producer, status);
    client_log(client, "no producer id: %s (%s)", sluice_name(status), sluice_text(status));
    client_producers_at(client, producer->identity_wake_ns);
}

static void adopt(struct sluice_producer *producer, const struct msg_producer_init_reply *reply)
{
    producer->producer_id = reply->producer_id;
    producer->epoch = reply->epoch;
    producer->new_id_wanted = false;
    producer->identity_attempt = 0;
    producer->identity_wake_ns = 0;
    producer->identity = IDENTITY_VALID;
    topics_each_lane(producer, renumber, NULL);
    inflight_connected(producer);
}

/* All that is unacked begins at 0 under the new identity; what needs no retry stays in place. */
static void renumber(struct lane *lane, void *context)
{
    struct sluice_producer *producer = lane->producer;
    uint32_t sequence = 0;
    LIST_EACH(link, &lane->unacked)
    {
        struct parcel *parcel = CONTAINER_OF(link, struct parcel, link);
        if (parcel->done)
            continue;
        ASSERT(!parcel->on_wire && !parcel->maybe_stored);
        parcel_seal(parcel, producer->producer_id, producer->epoch, sequence);
        sequence = (sequence + parcel->record_count) % SEQUENCE_MODULUS;
    }
    lane->stored_sequence = 0;
    lane->next_sequence = sequence;
}
