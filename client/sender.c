/* Sending: whatever is ready goes into one send, one send at a time.
 *
 * While a send is in flight, batches fill up and queue; when it completes, the next one takes all
 * that is ready, up to 1 MiB. So sends are small when there is little to do and large under load,
 * without a timer.
 *
 *   what is ready          | how it is sent
 *   -----------------------+-----------------------------------------------------------------------
 *   requests, credits      | first, copied
 *   batches up to 32 KiB   | copied: as many as fit into one PRODUCE frame, or, from a producer
 *                          | with batch_records = 1, a frame for each
 *   a batch above 32 KiB   | not copied: header and item go into its headroom, one send for it
 *
 * A copy of 32 KiB costs about what a system call does; above it, copying would cost more. Publish
 * numbers are given in the order of the bytes. A failed send ends the connection. */
#include <string.h>

#include "client/client_private.h"
#include "client/inflight.h"
#include "client/producer_private.h"

#define COPY_BYTES_MAX ((uint32_t)(32 * KIB))
#define PICK_COUNT_MAX 1024u // batches in one frame; the protocol allows more
#define SHARED_BYTES_MAX                                                                           \
    ((uint32_t)(256 * KIB)) // of such a frame: a size every broker has buffers for

struct picked {                            // batches that will share a frame
    struct sluice_producer *transactional; // whose transaction they belong to; NULL: none
    struct parcel *first, *last;
    uint32_t count;
    uint32_t bytes; // of their batches
};

static uint32_t copy_control(struct connection *connection);
static uint32_t gather(struct sluice_client *client, uint32_t filled);
static struct parcel *next_parcel(struct sluice_client *client);
static bool fits(const struct connection *connection, const struct picked *picked, uint32_t filled,
                 const struct parcel *parcel);
static bool has_publish_room(const struct connection *connection, const struct picked *picked);
static void pick(struct picked *picked, struct parcel *parcel);
static uint32_t frame_bytes(const struct picked *picked);
static uint32_t meta_bytes_of(uint32_t batch_count, bool staged);
static void write_meta(struct writer *w, uint32_t batch_count, struct sluice_producer *producer);
static struct sluice_producer *transactional_of(const struct parcel *parcel);
static uint32_t write_frame(struct sluice_client *client, struct picked *picked, uint8_t *to);
static void send_direct(struct sluice_client *client, struct parcel *parcel);
static void send_done(struct io_op *op);

void sender_start(struct sluice_client *client)
{
    struct connection *connection = &client->connection;
    if ((connection->state != CONNECTION_UP && connection->state != CONNECTION_HELLO) ||
        io_op_is_active(&connection->send_op))
        return;
    uint32_t filled = copy_control(connection);
    if (connection_is_up(connection) && connection->control_len == 0)
        filled = gather(client, filled);
    if (filled > 0) {
        io_send(client->io, &connection->send_op, connection->fd, connection->out, filled,
                send_done);
    } else if (connection->next_parcel) {
        send_direct(client, TAKE(connection->next_parcel));
    }
}

static void send_done(struct io_op *op)
{
    struct connection *connection = CONTAINER_OF(op, struct connection, send_op);
    struct sluice_client *client = CONTAINER_OF(connection, struct sluice_client, connection);
    if (connection->out_parcel)
        inflight_sent(TAKE(connection->out_parcel));
    if (op->result < 0 && connection->state != CONNECTION_CLOSING)
        connection_close(client, "sending failed");
}

/* What doesn't fit now stays in front for the next send: it is a stream of bytes. */
static uint32_t copy_control(struct connection *connection)
{
    uint32_t len = (uint32_t)min_u64(connection->control_len, CONNECTION_OUT_BYTES);
    if (len == 0)
        return 0;
    memcpy(connection->out, connection->control, len);
    connection->control_len -= len;
    memmove(connection->control, connection->control + len, connection->control_len);
    return len;
}

/* Fills `out` behind `filled` with PRODUCE frames. A batch that is too large to be copied, or
 * doesn't fit any more, waits in next_parcel. Returns the bytes in `out`. */
static uint32_t gather(struct sluice_client *client, uint32_t filled)
{
    struct connection *connection = &client->connection;
    struct picked picked = {0};
    while (!connection->next_parcel && has_publish_room(connection, &picked)) {
        struct parcel *parcel = next_parcel(client);
        if (!parcel)
            break;
        if (!fits(connection, &picked, filled, parcel)) {
            connection->next_parcel = parcel;
            break;
        }
        bool alone = parcel->lane->producer->batch_records == 1;
        bool full = picked.count == PICK_COUNT_MAX ||
                    frame_bytes(&picked) + PARCEL_HEADROOM + parcel->size > SHARED_BYTES_MAX;
        bool other = transactional_of(parcel) != picked.transactional;
        if (alone || full || other)
            filled += write_frame(client, &picked, connection->out + filled);
        pick(&picked, parcel);
        if (alone)
            filled += write_frame(client, &picked, connection->out + filled);
    }
    return filled + write_frame(client, &picked, connection->out + filled);
}

static bool fits(const struct connection *connection, const struct picked *picked, uint32_t filled,
                 const struct parcel *parcel)
{
    uint64_t bytes = PARCEL_HEADROOM + parcel->size; // what a frame of its own takes, or less
    return parcel->size <= COPY_BYTES_MAX &&
           filled + frame_bytes(picked) + bytes <= CONNECTION_OUT_BYTES;
}

static bool has_publish_room(const struct connection *connection, const struct picked *picked)
{
    uint32_t limit = (uint32_t)min_u64(connection->publishes_max, PUBLISHES_MAX);
    return publishes_in_flight(&connection->publishes) + (picked->count > 0) < limit;
}

/* A producer goes behind the others when it has had its turn (inflight.c). */
static struct parcel *next_parcel(struct sluice_client *client)
{
    while (!list_is_empty(&client->ready_producers)) {
        struct list *link = client->ready_producers.next;
        struct sluice_producer *producer = CONTAINER_OF(link, struct sluice_producer, ready_link);
        struct parcel *parcel = inflight_next(producer);
        if (!parcel)
            continue; // it has left the list
        if (producer->turn_bytes == 0) {
            list_remove(link);
            list_push_back(&client->ready_producers, link);
        }
        return parcel;
    }
    return NULL;
}

static void pick(struct picked *picked, struct parcel *parcel)
{
    parcel->publish_next = NULL;
    if (picked->last)
        picked->last->publish_next = parcel;
    else
        picked->first = parcel;
    picked->last = parcel;
    picked->transactional = transactional_of(parcel);
    picked->count++;
    picked->bytes += parcel->size;
}

static uint32_t frame_bytes(const struct picked *picked)
{
    if (picked->count == 0)
        return 0;
    return FRAME_HEADER_SIZE + meta_bytes_of(picked->count, picked->transactional) + picked->bytes;
}

static uint32_t meta_bytes_of(uint32_t batch_count, bool staged)
{
    return PRODUCE_META_FIXED + (staged ? PRODUCE_META_STAGED : 0) +
           batch_count * (uint32_t)sizeof(struct produce_item);
}

/* All that a transactional producer sends belongs to the transaction it has open. */
static struct sluice_producer *transactional_of(const struct parcel *parcel)
{
    struct sluice_producer *producer = parcel->lane->producer;
    return producer->txn ? producer : NULL;
}

static void write_meta(struct writer *w, uint32_t batch_count, struct sluice_producer *producer)
{
    write_produce_begin(w, (uint16_t)batch_count, producer ? PRODUCE_STAGED : 0);
    if (producer)
        write_produce_staged(w, producer->txn->coordinator, producer->txn->open_lsn);
}

/* Writes the picked batches as one frame, and empties `picked`. Returns the frame's bytes, 0 when
 * nothing was picked or there is no memory to remember the publish (then the batches wait for their
 * next turn). */
static uint32_t write_frame(struct sluice_client *client, struct picked *picked, uint8_t *to)
{
    struct picked p = *picked;
    *picked = (struct picked){0};
    if (p.count == 0)
        return 0;
    struct connection *connection = &client->connection;
    uint64_t number =
        publishes_add(&connection->publishes, p.first, p.count, connection->publishes_max);
    if (number == 0) {
        for (struct parcel *parcel = p.first, *next; parcel; parcel = next) {
            next = parcel->publish_next;
            inflight_put_back(parcel);
        }
        return 0;
    }
    uint32_t meta_bytes = meta_bytes_of(p.count, p.transactional);
    struct writer meta = writer_make(to + FRAME_HEADER_SIZE, meta_bytes);
    uint8_t *data = to + FRAME_HEADER_SIZE + meta_bytes;
    write_meta(&meta, p.count, p.transactional);
    for (struct parcel *parcel = p.first; parcel; parcel = parcel->publish_next) {
        write_produce_item(&meta, parcel->lane->topic->topic_id, parcel->lane->partition,
                           parcel->size);
        memcpy(data, parcel_bytes(parcel), parcel->size);
        data += parcel->size;
    }
    return frame_seal(to, OP_PRODUCE, 0, number, meta_bytes, p.bytes);
}

static void send_direct(struct sluice_client *client, struct parcel *parcel)
{
    struct connection *connection = &client->connection;
    parcel->publish_next = NULL;
    uint64_t number = publishes_add(&connection->publishes, parcel, 1, connection->publishes_max);
    if (number == 0) {
        inflight_put_back(parcel);
        return;
    }
    struct sluice_producer *transactional = transactional_of(parcel);
    uint32_t meta_bytes = meta_bytes_of(1, transactional);
    uint8_t *frame = parcel_bytes(parcel) - FRAME_HEADER_SIZE - meta_bytes;
    struct writer meta = writer_make(frame + FRAME_HEADER_SIZE, meta_bytes);
    write_meta(&meta, 1, transactional);
    write_produce_item(&meta, parcel->lane->topic->topic_id, parcel->lane->partition, parcel->size);
    uint32_t length = frame_seal(frame, OP_PRODUCE, 0, number, meta_bytes, parcel->size);
    parcel->sending = true;
    connection->out_parcel = parcel;
    io_send(client->io, &connection->send_op, connection->fd, frame, length, send_done);
}
