/* Going back to what is committed: after a transaction that was aborted, its input comes again. */
#include "client/group.h"

#include <stdlib.h>

#include "client/consumer_private.h"

#define PENDING_RETRY_NS (20 * NS_PER_MS)

struct rewind {
    uint32_t count;
    struct group_item *items;
    uint64_t *offsets, *committed;
    bool *pending;
};

static int begin_rewind(struct sluice_consumer *consumer, struct rewind *rewind);
static int fetch_all(struct sluice_consumer *consumer, struct rewind *rewind, uint64_t deadline_ns);
static void move_all(struct sluice_consumer *consumer, const struct rewind *rewind);

int sluice_consumer_rewind(struct sluice_consumer *consumer, uint32_t timeout_ms)
{
    struct rewind rewind = {0};
    uint64_t deadline_ns = client_deadline(consumer->client, timeout_ms);
    error_set("%s", "");
    if (!consumer->group || client_is_io_thread(consumer->client)) {
        error_set("the consumer has no group, or this is a report or log callback");
        return SLUICE_E_INVALID;
    }
    int status = begin_rewind(consumer, &rewind);
    if (status == SLUICE_OK)
        status = fetch_all(consumer, &rewind, deadline_ns);
    if (status == SLUICE_OK)
        status = group_resolve(consumer, rewind.items, rewind.count, rewind.offsets, rewind.pending,
                               rewind.committed);
    if (status == SLUICE_OK)
        move_all(consumer, &rewind);
    free(rewind.items);
    free(rewind.offsets);
    free(rewind.committed);
    free(rewind.pending);
    return status;
}

static int begin_rewind(struct sluice_consumer *consumer, struct rewind *rewind)
{
    pthread_mutex_lock(&consumer->mutex);
    uint32_t count = consumer->feed_count;
    rewind->items = calloc(count + 1, sizeof(*rewind->items));
    rewind->offsets = calloc(count + 1, sizeof(*rewind->offsets));
    rewind->committed = calloc(count + 1, sizeof(*rewind->committed));
    rewind->pending = calloc(count + 1, sizeof(*rewind->pending));
    bool ok = rewind->items && rewind->offsets && rewind->committed && rewind->pending;
    for (uint32_t i = 0; i < count && ok; i++)
        rewind->items[rewind->count++] =
            (struct group_item){.topic_id = le32_make(consumer->feeds[i]->topic_id),
                                .partition = le32_make(consumer->feeds[i]->partition)};
    pthread_mutex_unlock(&consumer->mutex);
    return ok ? SLUICE_OK : SLUICE_E_NO_MEMORY;
}

/* All of them again while one is pending: that is over in milliseconds. */
static int fetch_all(struct sluice_consumer *consumer, struct rewind *rewind, uint64_t deadline_ns)
{
    for (;;) {
        bool pending = false;
        int status =
            group_fetch(consumer->client, slice_of_text(consumer->group->name), rewind->items,
                        rewind->count, deadline_ns, rewind->offsets, rewind->pending);
        for (uint32_t i = 0; i < rewind->count && status == SLUICE_OK; i++)
            pending |= rewind->pending[i];
        if (!pending)
            return status;
        if (!client_sleep(consumer->client, PENDING_RETRY_NS, deadline_ns))
            return error_from_broker(PE_OFFSETS_PENDING);
    }
}

static void move_all(struct sluice_consumer *consumer, const struct rewind *rewind)
{
    pthread_mutex_lock(&consumer->mutex);
    for (uint32_t i = 0; i < rewind->count; i++) {
        struct feed *feed = feeds_find(consumer, le32_get(rewind->items[i].topic_id),
                                       le32_get(rewind->items[i].partition));
        if (!feed)
            continue;
        feeds_move(consumer, feed, rewind->offsets[i],
                   rewind->committed[i] == UINT64_MAX ? group_skip_before(consumer->group)
                                                      : INT64_MIN);
        feed->committed = rewind->committed[i];
    }
    pthread_mutex_unlock(&consumer->mutex);
    client_command(consumer->client, COMMAND_CONSUMER_CHANGED, consumer);
}

/* ---- starts: also for group_poll.c ---- */

int64_t group_skip_before(const struct group *group)
{
    return group->start == SLUICE_START_TIMESTAMP ? (int64_t)min_u64(group->start_value, INT64_MAX)
                                                  : INT64_MIN;
}

/* Asked for in runs of partitions of one topic. */
int group_resolve(struct sluice_consumer *consumer, const struct group_item *items, uint32_t count,
                  uint64_t *offsets, const bool *pending, uint64_t *committed)
{
    struct group *group = consumer->group;
    int status = SLUICE_OK;
    memcpy(committed, offsets, count * sizeof(*committed));
    for (uint32_t i = 0; i < count && status == SLUICE_OK; i++) {
        uint32_t topic_id = le32_get(items[i].topic_id);
        uint32_t first = le32_get(items[i].partition);
        uint32_t run = 0;
        while (i + run < count && committed[i + run] == UINT64_MAX && !pending[i + run] &&
               le32_get(items[i + run].topic_id) == topic_id &&
               le32_get(items[i + run].partition) == first + run)
            run++;
        if (run == 0)
            continue;
        status = consumer_resolve(consumer->client, topic_id, first, run, group->start,
                                  group->start_value, offsets + i);
        i += run - 1;
    }
    return status;
}
