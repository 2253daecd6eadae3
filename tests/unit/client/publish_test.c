/* Publishing through a fake broker: what is accepted is stored once, in order, and reported once. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdatomic.h>
#include <stdio.h>

#include "client/include/sluice.h"
#include "proto/messages.h"
#include "tests/unit/client/fake_broker.h"

struct tally {
    _Atomic uint64_t reports;
    _Atomic uint64_t failures;
    _Atomic uint64_t out_of_order;
    _Atomic int last_status;
    uint64_t next; // opaque pointers count up
};

static void count_report(void *context, const struct sluice_report *report)
{
    struct tally *tally = context;
    atomic_fetch_add(&tally->reports, 1);
    if (report->status != SLUICE_OK) {
        atomic_fetch_add(&tally->failures, 1);
        atomic_store(&tally->last_status, report->status);
    }
    if ((uint64_t)(uintptr_t)report->opaque != tally->next++)
        atomic_fetch_add(&tally->out_of_order, 1);
}

static struct sluice_client *connect_to(struct fake_broker *broker)
{
    struct sluice_client *client;
    struct sluice_client_options options = {
        .size = sizeof(options), .server = fake_address(broker), .reconnect_backoff_ms = 5};
    cr_assert(eq(int, sluice_client_new(&options, &client), SLUICE_OK));
    cr_assert(eq(int, sluice_client_wait(client, 5000), SLUICE_OK));
    return client;
}

Test(publish, what_is_sent_is_stored_in_order_and_reported_with_its_offset)
{
    struct fake_broker *broker = fake_start(&(struct fake_options){0});
    fake_topic(broker, "t", 1);
    struct sluice_client *client = connect_to(broker);
    struct tally tally = {0};
    struct sluice_producer *producer;
    struct sluice_producer_options options = {
        .size = sizeof(options), .on_report = count_report, .context = &tally};
    cr_assert(eq(int, sluice_producer_new(client, &options, &producer), SLUICE_OK));
    for (uint64_t i = 0; i < 10000; i++) {
        char value[32];
        int len = snprintf(value, sizeof(value), "value %lu", i);
        struct sluice_record record = {.topic = "t",
                                       .partition = 0,
                                       .value = value,
                                       .value_len = (size_t)len,
                                       .opaque = (void *)(uintptr_t)i};
        cr_assert(eq(int, sluice_producer_send(producer, &record), SLUICE_OK));
    }
    cr_assert(eq(int, sluice_producer_flush(producer, 10000), SLUICE_OK));
    cr_expect(eq(u64, tally.reports, 10000));
    cr_expect(eq(u64, tally.failures, 0));
    cr_expect(eq(u64, tally.out_of_order, 0));
    cr_expect(eq(u64, sluice_producer_pending(producer), 0));
    cr_expect(eq(u64, fake_record_count(broker, "t", 0), 10000));
    for (uint64_t i = 0; i < 10000; i += 997) {
        char value[32] = {0}, expected[32];
        snprintf(expected, sizeof(expected), "value %lu", i);
        cr_assert(gt(i64, fake_value(broker, "t", 0, i, value, sizeof(value)), 0));
        cr_expect(eq(str, value, expected));
    }
    sluice_producer_free(producer);
    sluice_client_free(client);
    fake_stop(broker);
}
