/* What the tests of the gate share: a good batch to start from, and a check of a batch made of
 * parts. */
#ifndef SLUICE_TESTS_PROTO_BATCH_EXPECT_H
#define SLUICE_TESTS_PROTO_BATCH_EXPECT_H

#include <criterion/criterion.h>
#include <stdlib.h>

#include "proto/batch.h"
#include "tests/unit/proto/batch_bytes.h"

#define TIME 1763683200123

static const struct batch_limits gate_limits = {.batch_bytes_max = 4096, .record_bytes_max = 1000};

/* A good batch of two records, as a starting point. */
static inline struct header_fields good_header(void)
{
    return (struct header_fields){
        .base_offset = 0,
        .leader_epoch = UINT32_MAX,
        .magic = 2,
        .last_offset_delta = 1,
        .base_timestamp = TIME,
        .max_timestamp = TIME + 5,
        .producer_id = 1000,
        .producer_epoch = 1,
        .base_sequence = 0,
        .record_count = 2,
    };
}

static inline void put_good_records(struct bytes *to)
{
    put_plain_record(to, 0, 0, "k", "value");
    put_plain_record(to, 5, 1, NULL, "");
}

/* Checks a copy in a heap block of exactly its size: ASan finds one byte read too far. */
static inline uint16_t check_bytes(const struct bytes *batch, bool staged, const char **why)
{
    struct batch_info info;
    uint8_t *exact = malloc(batch->len + !batch->len);
    memcpy(exact, batch->b, batch->len);
    uint16_t error = batch_check(exact, batch->len, &gate_limits, staged, &info, why);
    cr_assert_eq(error == PE_NONE, *why == NULL);
    free(exact);
    return error;
}

static inline uint16_t check_parts(const struct header_fields *header, const struct bytes *records,
                                   const char **why)
{
    struct bytes batch = {.len = 0};
    put_batch(&batch, header, records);
    return check_bytes(&batch, false, why);
}

#define EXPECT(header, records, error, words)                                                      \
    do {                                                                                           \
        const char *why_;                                                                          \
        cr_assert_eq(check_parts(&(header), &(records), &why_), (error));                          \
        cr_assert(strstr(why_, (words)), "%s", why_);                                              \
    } while (0)

#define EXPECT_GOOD(header, records)                                                               \
    do {                                                                                           \
        const char *why_;                                                                          \
        cr_assert_eq(check_parts(&(header), &(records), &why_), PE_NONE, "%s", why_);              \
    } while (0)

#endif
