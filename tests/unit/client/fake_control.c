/* What tests do to a fake broker, and what they ask it. */
#include <unistd.h>

#include "tests/unit/client/fake_private.h"

const char *fake_address(struct fake_broker *broker)
{
    return broker->address;
}

void fake_drop_connections(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    for (int i = 0; i < CONNS_MAX; i++)
        fake_close_conn(&broker->conns[i]);
    pthread_mutex_unlock(&broker->mutex);
}

void fake_go_down(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    if (broker->listen_fd >= 0)
        close(broker->listen_fd);
    broker->listen_fd = -1;
    for (int i = 0; i < CONNS_MAX; i++)
        fake_close_conn(&broker->conns[i]);
    pthread_mutex_unlock(&broker->mutex);
}

void fake_set_store(struct fake_broker *broker, uint8_t number)
{
    atomic_store(&broker->store_number, number);
}

void fake_come_back(struct fake_broker *broker)
{
    fake_wake(broker);
    pthread_mutex_lock(&broker->mutex);
    fake_open_listener(broker);
    pthread_mutex_unlock(&broker->mutex);
    fake_wake(broker);
}

void fake_goaway(struct fake_broker *broker, uint32_t deadline_ms)
{
    pthread_mutex_lock(&broker->mutex);
    for (int i = 0; i < CONNS_MAX; i++) {
        struct msg_goaway goaway = {.deadline_ms = deadline_ms, .reason = slice_of_text("test")};
        struct writer w = fake_begin(broker);
        write_goaway(&w, &goaway);
        if (broker->conns[i].fd >= 0 && broker->conns[i].greeted)
            fake_send_frame(broker, &broker->conns[i], OP_GOAWAY, FRAME_PUSH, 0, &w, 0);
    }
    pthread_mutex_unlock(&broker->mutex);
}

void fake_topic(struct fake_broker *broker, const char *name, uint32_t partition_count)
{
    pthread_mutex_lock(&broker->mutex);
    ASSERT(fake_store_add_topic(&broker->store, name, partition_count));
    pthread_mutex_unlock(&broker->mutex);
}

void fake_add_partition(struct fake_broker *broker, const char *name)
{
    pthread_mutex_lock(&broker->mutex);
    fake_store_add_partition(fake_store_topic(&broker->store, name));
    pthread_mutex_unlock(&broker->mutex);
}

void fake_delete_topic(struct fake_broker *broker, const char *name)
{
    pthread_mutex_lock(&broker->mutex);
    fake_store_remove_topic(fake_store_topic(&broker->store, name));
    broker->reading.bytes = NULL;
    pthread_mutex_unlock(&broker->mutex);
}

void fake_rule(struct fake_broker *broker, uint16_t op, uint32_t skip, uint32_t count,
               enum fake_action action, uint32_t argument)
{
    pthread_mutex_lock(&broker->mutex);
    ASSERT(broker->rule_count < RULES_MAX);
    broker->rules[broker->rule_count++] = (struct fake_rule){
        .op = op, .skip = skip, .count = count, .action = action, .argument = argument};
    pthread_mutex_unlock(&broker->mutex);
}

void fake_clear_rules(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    broker->rule_count = 0;
    pthread_mutex_unlock(&broker->mutex);
}

void fake_forget_producers(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    fake_store_forget_producers(&broker->store);
    pthread_mutex_unlock(&broker->mutex);
}

void fake_set_log_start(struct fake_broker *broker, const char *topic, uint32_t partition,
                        uint64_t offset)
{
    pthread_mutex_lock(&broker->mutex);
    fake_partition_of(broker, topic, partition)->log_start = offset;
    pthread_mutex_unlock(&broker->mutex);
    fake_wake(broker);
}

void fake_damage(struct fake_broker *broker, const char *topic, uint32_t partition, uint64_t offset)
{
    pthread_mutex_lock(&broker->mutex);
    struct fake_batch *batch =
        fake_store_batch(fake_partition_of(broker, topic, partition), offset);
    ASSERT(batch);
    batch->bytes[batch->size - 1] ^= 1;
    pthread_mutex_unlock(&broker->mutex);
}

void fake_store(struct fake_broker *broker, const char *topic, uint32_t partition,
                const uint8_t *batch, uint32_t bytes)
{
    struct batch_info info;
    ASSERT(batch_peek(batch, bytes, &info));
    pthread_mutex_lock(&broker->mutex);
    fake_store_put(&broker->store, fake_partition_of(broker, topic, partition), batch, &info);
    pthread_mutex_unlock(&broker->mutex);
    fake_wake(broker);
}

struct fake_partition *fake_partition_of(struct fake_broker *broker, const char *topic,
                                         uint32_t partition)
{
    struct fake_topic *found = fake_store_topic(&broker->store, topic);
    ASSERT(found && partition < found->partition_count);
    return &found->partitions[partition];
}

uint64_t fake_record_count(struct fake_broker *broker, const char *topic, uint32_t partition)
{
    pthread_mutex_lock(&broker->mutex);
    uint64_t count = fake_partition_of(broker, topic, partition)->end;
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

uint64_t fake_batch_count(struct fake_broker *broker, const char *topic, uint32_t partition)
{
    pthread_mutex_lock(&broker->mutex);
    uint64_t count = fake_partition_of(broker, topic, partition)->batch_count;
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

uint64_t fake_seen(struct fake_broker *broker, uint16_t op)
{
    pthread_mutex_lock(&broker->mutex);
    uint64_t count = broker->seen[op & 255];
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

uint64_t fake_connections(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    uint64_t count = broker->accepted;
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

uint16_t fake_last_epoch(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    uint16_t epoch = broker->store.last_epoch;
    pthread_mutex_unlock(&broker->mutex);
    return epoch;
}

uint64_t fake_last_producer(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    uint64_t id = broker->store.last_producer;
    pthread_mutex_unlock(&broker->mutex);
    return id;
}

uint32_t fake_in_flight_max(struct fake_broker *broker)
{
    pthread_mutex_lock(&broker->mutex);
    uint32_t count = broker->in_flight_max;
    pthread_mutex_unlock(&broker->mutex);
    return count;
}

int64_t fake_value(struct fake_broker *broker, const char *topic, uint32_t partition,
                   uint64_t offset, void *value, uint32_t room)
{
    int64_t len = -1;
    struct fake_reading *reading = &broker->reading;
    pthread_mutex_lock(&broker->mutex);
    struct fake_batch *batch =
        fake_store_batch(fake_partition_of(broker, topic, partition), offset);
    if (batch && (reading->bytes != batch->bytes || reading->next > offset)) {
        *reading = (struct fake_reading){.bytes = batch->bytes};
        if (batch_iterator_init(&reading->iterator, batch->bytes, batch->size, NULL, 0) != 0)
            reading->bytes = NULL; // compressed
    }
    struct record_view view;
    while (batch && reading->bytes && len < 0 &&
           batch_iterator_next(&reading->iterator, &view) == 1) {
        reading->next = view.offset + 1;
        if (view.offset != offset)
            continue;
        len = view.value.len;
        memcpy(value, view.value.bytes, min_u64(room, view.value.len));
    }
    pthread_mutex_unlock(&broker->mutex);
    return len;
}

bool fake_wait_records(struct fake_broker *broker, const char *topic, uint32_t partition,
                       uint64_t count)
{
    for (int i = 0; i < 5000 && fake_record_count(broker, topic, partition) < count; i++)
        fake_sleep_ms(1);
    return fake_record_count(broker, topic, partition) >= count;
}

bool fake_wait_seen(struct fake_broker *broker, uint16_t op, uint64_t count)
{
    for (int i = 0; i < 5000 && fake_seen(broker, op) < count; i++)
        fake_sleep_ms(1);
    return fake_seen(broker, op) >= count;
}
