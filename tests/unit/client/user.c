/* See user.h. A failure of the set-up ends the test program. */
#include "tests/unit/client/user.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void on_report(void *context, const struct sluice_report *report)
{
    struct user *user = context;
    uint64_t number = (uint64_t)(uintptr_t)report->opaque;
    if (user->reported[number]++ > 0)
        atomic_fetch_add(&user->twice_count, 1);
    if (user->report_count > 0 && number < user->last_number)
        atomic_fetch_add(&user->backward_count, 1);
    user->last_number = number;
    if (report->status != SLUICE_OK) {
        atomic_fetch_add(&user->failed_count, 1);
        atomic_store(&user->last_failure, report->status);
    }
    atomic_store(&user->last_offset, report->offset);
    atomic_fetch_add(&user->report_count, 1);
    if (user->on_report)
        user->on_report(user, report);
}

struct user *user_new(const struct fake_options *options, uint32_t partition_count)
{
    struct user *user = calloc(1, sizeof(*user));
    cr_assert(user != NULL);
    user->reported = calloc(USER_RECORDS_MAX, 1);
    user->broker = fake_start(options);
    fake_topic(user->broker, "t", partition_count);
    struct sluice_client_options client_options = {.size = sizeof(client_options),
                                                   .server = fake_address(user->broker),
                                                   .request_timeout_ms = 5000,
                                                   .reconnect_backoff_ms = 5,
                                                   .reconnect_backoff_max_ms = 50};
    cr_assert(eq(int, sluice_client_new(&client_options, &user->client), SLUICE_OK));
    cr_assert(eq(int, sluice_client_wait(user->client, 5000), SLUICE_OK));
    return user;
}

struct user *user_new_epoll(const struct fake_options *options, uint32_t partition_count)
{
    setenv("SLUICE_CLIENT_IO", "epoll", 1);
    struct user *user = user_new(options, partition_count);
    unsetenv("SLUICE_CLIENT_IO");
    return user;
}

void user_produce(struct user *user, struct sluice_producer_options options)
{
    options.size = sizeof(options);
    options.on_report = on_report;
    options.context = user;
    if (options.retry_backoff_ms == 0)
        options.retry_backoff_ms = 5;
    cr_assert(eq(int, sluice_producer_new(user->client, &options, &user->producer), SLUICE_OK));
}

void user_free(struct user *user)
{
    sluice_producer_free(user->producer);
    sluice_client_free(user->client);
    fake_stop(user->broker);
    free(user->reported);
    free(user);
}

int user_send(struct user *user, uint32_t partition)
{
    char value[32];
    uint64_t number = user->sent++; // before its report, which may send the next one
    int len = snprintf(value, sizeof(value), "%07lu", number);
    struct sluice_record record = {.topic = "t",
                                   .partition = partition,
                                   .value = value,
                                   .value_len = (size_t)len,
                                   .opaque = (void *)(uintptr_t)number};
    int status = sluice_producer_send(user->producer, &record);
    if (status != SLUICE_OK)
        user->sent--;
    return status;
}

void user_send_many(struct user *user, uint32_t partition, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        cr_assert(eq(int, user_send(user, partition), SLUICE_OK));
}

void user_flush(struct user *user)
{
    cr_assert(eq(int, sluice_producer_flush(user->producer, 10000), SLUICE_OK));
}

void user_expect_all_stored(struct user *user)
{
    cr_expect(eq(u64, user->report_count, user->sent));
    cr_expect(eq(u64, user->failed_count, 0));
    cr_expect(eq(u64, user->twice_count, 0));
    cr_expect(eq(u64, user->backward_count, 0));
    cr_expect(eq(u64, sluice_producer_pending(user->producer), 0));
    cr_expect(eq(u64, fake_record_count(user->broker, "t", 0), user->sent));
    user_expect_values(user, 0, 0, user->sent);
}

void user_expect_values(struct user *user, uint64_t offset, uint64_t from, uint64_t to)
{
    for (uint64_t number = from; number < to; number++, offset++) {
        char value[32] = {0}, expected[32];
        snprintf(expected, sizeof(expected), "%07lu", number);
        int64_t len = fake_value(user->broker, "t", 0, offset, value, sizeof(value) - 1);
        cr_assert(len == 7 && strcmp(value, expected) == 0, "offset %lu: \"%s\", expected \"%s\"",
                  offset, value, expected);
    }
}

bool user_wait_reports(struct user *user, uint64_t count)
{
    for (int i = 0; i < 10000 && user->report_count < count; i++)
        user_sleep_ms(1);
    return user->report_count >= count;
}

void user_sleep_ms(uint32_t ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

uint64_t user_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
