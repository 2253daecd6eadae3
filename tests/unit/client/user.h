/* The application in tests of the client: a broker, a client, a producer, and a tally of the
 * reports. */
#ifndef SLUICE_TESTS_CLIENT_USER_H
#define SLUICE_TESTS_CLIENT_USER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/include/sluice.h"
#include "tests/unit/client/fake_broker.h"

#define USER_RECORDS_MAX 1000000u

struct user {
    struct fake_broker *broker;
    struct sluice_client *client;
    struct sluice_producer *producer;
    /* ---- tally: by the record's number, which is its opaque pointer ---- */
    uint8_t *reported; // times
    _Atomic uint64_t report_count;
    _Atomic uint64_t failed_count;
    _Atomic uint64_t twice_count;    // records reported more than once
    _Atomic uint64_t backward_count; // reports with a lower number than the one before
    _Atomic int last_failure;
    _Atomic uint64_t last_offset;
    uint64_t last_number;
    uint64_t sent; // records accepted by user_send(); their numbers are 0..sent-1
    /* Called from a report, when set. */
    void (*on_report)(struct user *user, const struct sluice_report *report);
};

/* A broker with topic "t" of `partition_count` partitions, and a client that is connected to it. */
struct user *user_new(const struct fake_options *options, uint32_t partition_count);
/* The same with epoll instead of what is best. */
struct user *user_new_epoll(const struct fake_options *options, uint32_t partition_count);
/* Makes the producer; on_report and context of the options are set here unless `silent`. */
void user_produce(struct user *user, struct sluice_producer_options options);
/* Frees what is left of it, broker included. */
void user_free(struct user *user);

/* Sends record number user->sent: its value is the number as text, "0000017". Returns the status.
 */
int user_send(struct user *user, uint32_t partition);
/* As many as `count`, which must be taken. */
void user_send_many(struct user *user, uint32_t partition, uint32_t count);
void user_flush(struct user *user); // must succeed within 10 s

/* All records sent were reported once, in order, without a failure, and lie in partition 0 once, in
 * order. */
void user_expect_all_stored(struct user *user);
/* Partition 0 holds the numbers `from` to `to` at the offsets from `offset` on. */
void user_expect_values(struct user *user, uint64_t offset, uint64_t from, uint64_t to);

bool user_wait_reports(struct user *user, uint64_t count); // up to 10 s
void user_sleep_ms(uint32_t ms);
uint64_t user_now_ms(void);

#endif
