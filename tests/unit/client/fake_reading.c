/* The fake broker's subscriptions, and where offsets lie. */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/client/fake_private.h"

static uint64_t resolve(struct fake_partition *partition, uint8_t start, uint64_t value);
static bool deliver(struct fake_broker *broker, struct fake_conn *conn,
                    struct fake_subscription *subscription, struct fake_cursor *cursor);

void fake_on_subscribe(struct fake_broker *broker, struct fake_conn *conn,
                       const struct frame *frame)
{
    struct msg_fetch m;
    struct fake_subscription *subscription = fake_find_subscription(conn, 0);
    ASSERT(read_fetch(frame, &m) == PE_NONE && subscription);
    *subscription = (struct fake_subscription){
        .id = frame->correlation, .credit = m.credit, .cursor_count = m.item_count};
    subscription->cursors = calloc(m.item_count, sizeof(struct fake_cursor));
    ASSERT(subscription->cursors);
    for (uint32_t i = 0; i < m.item_count; i++) {
        struct fake_cursor *cursor = &subscription->cursors[i];
        uint16_t error;
        cursor->topic_id = le32_get(m.items[i].topic_id);
        cursor->partition = le32_get(m.items[i].partition);
        struct fake_partition *partition =
            fake_store_partition(&broker->store, cursor->topic_id, cursor->partition, &error);
        if (partition)
            cursor->next = resolve(partition, m.items[i].start, le64_get(m.items[i].value));
    }
    struct writer w = fake_begin(broker);
    fake_send_frame(broker, conn, OP_SUBSCRIBE, FRAME_REPLY, frame->correlation, &w, 0);
}

static uint64_t resolve(struct fake_partition *partition, uint8_t start, uint64_t value)
{
    switch (start) {
    case START_BEGINNING:
        return partition->log_start;
    case START_TIMESTAMP:
        for (uint64_t i = 0; i < partition->batch_count; i++) {
            if (partition->batches[i].max_timestamp >= (int64_t)value)
                return partition->batches[i].base_offset;
        }
        return partition->end;
    case START_END:
        return partition->end;
    default:
        return value;
    }
}

void fake_on_offsets(struct fake_broker *broker, const struct frame *frame, struct writer *w)
{
    struct msg_offsets m;
    ASSERT(read_offsets(frame, &m) == PE_NONE);
    write_offsets_begin(w, m.item_count);
    for (uint32_t i = 0; i < m.item_count; i++) {
        uint16_t error;
        struct fake_partition *partition = fake_store_partition(
            &broker->store, le32_get(m.items[i].topic_id), le32_get(m.items[i].partition), &error);
        uint64_t offset =
            partition ? resolve(partition, m.items[i].start, le64_get(m.items[i].value)) : 0;
        struct offsets_item item = {.topic_id = m.items[i].topic_id,
                                    .partition = m.items[i].partition,
                                    .error = le16_make(error),
                                    .offset = le64_make(offset),
                                    .timestamp_ms = le64_make(UINT64_MAX)};
        write_bytes(w, &item, sizeof(item));
    }
}

void fake_deliver_all(struct fake_broker *broker, struct fake_conn *conn)
{
    bool more = true;
    for (int round = 0; round < 16 && more && conn->fd >= 0; round++) {
        more = false;
        for (int i = 0; i < SUBSCRIPTIONS_MAX; i++) {
            struct fake_subscription *subscription = &conn->subscriptions[i];
            for (uint32_t c = 0; c < subscription->cursor_count && subscription->id != 0; c++)
                more |= deliver(broker, conn, subscription, &subscription->cursors[c]);
        }
    }
    if (more)
        fake_wake(broker);
}

/* One frame with one item. The first batch may begin below the cursor, as with a real broker. */
static bool deliver(struct fake_broker *broker, struct fake_conn *conn,
                    struct fake_subscription *subscription, struct fake_cursor *cursor)
{
    uint16_t error;
    struct fake_partition *partition =
        fake_store_partition(&broker->store, cursor->topic_id, cursor->partition, &error);
    if (cursor->ended || conn->fd < 0)
        return false;
    if (partition && (cursor->next < partition->log_start || cursor->next > partition->end))
        error = PE_OFFSET_OUT_OF_RANGE;
    if (error == PE_NONE && cursor->next == partition->end)
        return false;
    uint32_t overhead = FRAME_HEADER_SIZE + DELIVER_META_FIXED + sizeof(struct deliver_item);
    uint8_t *data = broker->out + overhead;
    uint32_t bytes = 0;
    uint64_t next = cursor->next;
    struct fake_batch *batch;
    while (error == PE_NONE && (batch = fake_store_batch(partition, next))) {
        bool fits = bytes + batch->size <= broker->options.deliver_bytes_max || bytes == 0;
        if (!fits || overhead + bytes + batch->size > subscription->credit)
            break;
        memcpy(data + bytes, batch->bytes, batch->size);
        bytes += batch->size;
        next = batch->base_offset + batch->record_count;
    }
    if (bytes == 0 && error == PE_NONE)
        return false;
    cursor->ended = error != PE_NONE;
    cursor->next = next;
    subscription->credit -= min_u64(subscription->credit, overhead + bytes);
    struct deliver_item item = {.topic_id = le32_make(cursor->topic_id),
                                .partition = le32_make(cursor->partition),
                                .error = le16_make(error),
                                .bytes = le32_make(bytes),
                                .next_offset = le64_make(next),
                                .log_start = le64_make(partition ? partition->log_start : 0),
                                .visible_end = le64_make(partition ? partition->end : 0)};
    struct writer w = fake_begin(broker);
    write_deliver_begin(&w, 1);
    write_bytes(&w, &item, sizeof(item));
    fake_send_frame(broker, conn, OP_DELIVER, FRAME_PUSH, subscription->id, &w, bytes);
    return true;
}

struct fake_subscription *fake_find_subscription(struct fake_conn *conn, uint64_t id)
{
    for (int i = 0; i < SUBSCRIPTIONS_MAX; i++) {
        if (conn->subscriptions[i].id == id)
            return &conn->subscriptions[i];
    }
    return NULL;
}
