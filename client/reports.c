/* Delivery reports: from a batch's result to one call per record.
 *
 * Results are collected during a turn of the I/O thread and reported at its end, when no structure
 * is in the middle of a change: a report may call sluice_producer_send(). With report_poll the
 * batch goes to the producer's list instead and keeps its memory until a poller has run its
 * reports. Nothing here fails. */
#include "client/reports.h"

#include "client/producer_private.h"

static void report_parcel(struct sluice_producer *producer, struct parcel *parcel, uint32_t from,
                          uint32_t to);
static void finish(struct parcel *parcel);
static bool worth_waking(struct sluice_producer *producer);
static bool begin_polling(struct sluice_producer *producer);
static struct parcel *first_due(struct sluice_producer *producer);
static void hand_to_poller(struct sluice_producer *producer, struct parcel *parcel);

void reports_done(struct parcel *parcel, int status, uint64_t offset)
{
    ASSERT(!list_is_linked(&parcel->link) && parcel->publish == 0);
    parcel->status = status;
    parcel->offset = offset;
    list_push_back(&parcel->lane->producer->client->reports, &parcel->link);
}

void reports_run(struct sluice_client *client)
{
    struct list *link;
    while ((link = list_pop_front(&client->reports))) {
        struct parcel *parcel = CONTAINER_OF(link, struct parcel, link);
        struct sluice_producer *producer = parcel->lane->producer;
        parcel_fetch(CONTAINER_OF(client->reports.next, struct parcel, link));
        if (producer->report_poll && producer->on_report) {
            hand_to_poller(producer, parcel);
        } else {
            report_parcel(producer, parcel, 0, parcel->record_count);
            finish(parcel);
        }
        if (!list_is_linked(&producer->progress_link))
            list_push_back(&client->progressed, &producer->progress_link);
    }
}

void reports_progress(struct sluice_client *client)
{
    struct list *link;
    while ((link = list_pop_front(&client->progressed))) {
        struct sluice_producer *producer =
            CONTAINER_OF(link, struct sluice_producer, progress_link);
        if (producer->txn)
            txn_end_turn(producer);
        if (worth_waking(producer)) {
            atomic_store(&producer->pressed, false);
            producer_tell_progress(producer);
        }
    }
}

int reports_poll(struct sluice_producer *producer, int max)
{
    if (!begin_polling(producer))
        return 0;
    int count = 0;
    struct parcel *parcel;
    while (count < max && (parcel = first_due(producer))) {
        uint32_t from = parcel->reported_count;
        uint32_t to = (uint32_t)min_u64(parcel->record_count, (uint64_t)from + (max - count));
        report_parcel(producer, parcel, from, to);
        parcel->reported_count = to;
        count += (int)(to - from);
        if (to == parcel->record_count) {
            pthread_mutex_lock(&producer->wait_mutex);
            list_remove(&parcel->link);
            pthread_mutex_unlock(&producer->wait_mutex);
            finish(parcel);
        }
    }
    pthread_mutex_lock(&producer->wait_mutex);
    producer->polling = false;
    pthread_mutex_unlock(&producer->wait_mutex);
    if (count > 0)
        producer_tell_progress(producer);
    return count;
}

/* One waiter needs little, but waking it for each batch would make the threads take turns on the
 * processor; a quarter of the buffer lets it run for a while. */
static bool worth_waking(struct sluice_producer *producer)
{
    if (atomic_load(&producer->waiting) == 0 && !atomic_load(&producer->pressed))
        return false;
    return atomic_load(&producer->waiting_reports) > 0 || producer->on_wire_count == 0 ||
           blocks_free_bytes(&producer->blocks) >= producer->blocks.total_bytes / 4;
}

/* One thread at a time, so that reports keep their order. */
static bool begin_polling(struct sluice_producer *producer)
{
    pthread_mutex_lock(&producer->wait_mutex);
    bool mine = !producer->polling;
    producer->polling = true;
    pthread_mutex_unlock(&producer->wait_mutex);
    return mine;
}

static struct parcel *first_due(struct sluice_producer *producer)
{
    pthread_mutex_lock(&producer->wait_mutex);
    struct list *link = producer->done.next;
    bool none = list_is_empty(&producer->done);
    pthread_mutex_unlock(&producer->wait_mutex);
    return none ? NULL : CONTAINER_OF(link, struct parcel, link);
}

static void report_parcel(struct sluice_producer *producer, struct parcel *parcel, uint32_t from,
                          uint32_t to)
{
    if (!producer->on_report)
        return;
    bool known = parcel->status == SLUICE_OK && parcel->offset < SLUICE_OFFSET_STAGED;
    struct sluice_report report = {
        .status = parcel->status, .partition = parcel->lane->partition, .offset = parcel->offset};
    for (uint32_t i = from; i < to; i++) {
        if (known)
            report.offset = parcel->offset + i;
        report.opaque = *parcel_opaque(parcel, i);
        producer->on_report(producer->context, &report);
    }
}

/* Batches of a lane come here in the order of their records. */
static void finish(struct parcel *parcel)
{
    struct lane *lane = parcel->lane;
    uint64_t reported = parcel->record_index + parcel->record_count;
    lane_release(lane, parcel);
    /* R1: whoever sees the count may free what the reports were about; pairs with A1 in producer.c.
     */
    atomic_store_explicit(&lane->reported, reported, memory_order_release);
}

static void hand_to_poller(struct sluice_producer *producer, struct parcel *parcel)
{
    pthread_mutex_lock(&producer->wait_mutex);
    list_push_back(&producer->done, &parcel->link);
    producer->progress_count++;
    pthread_cond_broadcast(&producer->progress);
    pthread_mutex_unlock(&producer->wait_mutex);
}
