/* A consumer whose memory is short reads on when there is some again. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "tests/unit/client/short_memory.h"
#include "tests/unit/client/user.h"

#define RECORDS 100u

/* Returns whether the polls took so many allocations. */
static bool reads_all(struct user *user, uint32_t point)
{
    struct sluice_consumer_options options = {.size = sizeof(options)};
    struct sluice_consumer *consumer;
    struct sluice_message messages[8];
    uint64_t next = 0, deadline_ms = user_now_ms() + 10000;
    cr_assert(eq(int, sluice_consumer_new(user->client, &options, &consumer), SLUICE_OK));
    cr_assert(eq(int, sluice_consumer_subscribe(consumer, "t", 0, SLUICE_START_BEGINNING, 0), 0));
    short_memory_fail(point);
    while (next < RECORDS) {
        int count = sluice_consumer_poll(consumer, messages, 8, 20);
        cr_assert(count >= 0 || (count == SLUICE_E_NO_MEMORY && short_memory_has_failed()));
        for (int i = 0; i < count; i++)
            cr_assert(eq(u64, messages[i].offset, next++));
        cr_assert(lt(u64, user_now_ms(), deadline_ms), "%lu records", next);
    }
    bool has_failed = short_memory_has_failed();
    short_memory_fail(0);
    sluice_consumer_free(consumer);
    return has_failed;
}

/* There is room to be found for what they become. */
Test(consumer_memory, compressed_batches_are_read_when_there_is_memory_again)
{
    static const struct fake_options plain;
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){.batch_records = 50,
                                                        .compression = SLUICE_COMPRESSION_LZ4,
                                                        .send_waits = true,
                                                        .linger_us = 1000000});
    user_send_many(user, 0, RECORDS);
    user_flush(user);
    uint32_t points = 0;
    while (reads_all(user, points + 1))
        points++;
    cr_assert(gt(u32, points, 0));
    user_free(user);
}
