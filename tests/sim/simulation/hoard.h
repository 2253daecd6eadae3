/* What a topic with a retention owes, and whether it pays: a ledger of all that was sent to its one partition, and its judge.
 *
 *     each record that is there is the one that was sent with that offset, and offsets have no gap
 *     nothing that was acked is missing behind what retention took
 *     by size: what is left is at least retention_bytes; by time: what is gone was older than retention_ms
 *
 * The ledger is the test's memory: it outlives the clients that write it.
 *
 * Thread: the world's. */
#ifndef SLUICE_TESTS_HOARD_H
#define SLUICE_TESTS_HOARD_H

#include <stdbool.h>
#include <stdint.h>

#define HOARD_RECORDS_MAX 32768u
#define HOARD_RECORD_BYTES_MAX (64u << 10)

struct hoard_record {
    uint64_t sent_ns;
    uint32_t bytes; // of the value: all the same
    uint8_t byte;
    bool is_acked; // then by offset, else by the number in which it was sent
};

struct hoard {
    uint64_t retention_bytes; // of one of them
    uint64_t retention_ms;    // the other is 0
    bool clock_jumps;         // nobody can tell how old a record is for the broker
    struct hoard_record *sent, *acked;
    uint32_t sent_count;
    uint64_t acked_end; // the highest acked offset and one
    /* ---- a reading from the beginning ---- */
    uint64_t first, next; // offsets; first UINT64_MAX: nothing yet
    uint64_t first_ns;    // when the first came: what is older was gone then
    uint64_t kept_bytes;
    bool was_trimmed; // something was gone when it was judged
};

void hoard_init(struct hoard *hoard, bool by_time, bool clock_jumps);
void hoard_free(struct hoard *hoard);

/* The next record to send, with its number; NULL: enough was sent. */
const struct hoard_record *hoard_send(struct hoard *hoard, uint32_t bytes, uint8_t byte,
                                      uint32_t *number);
void hoard_acked(struct hoard *hoard, uint32_t number, uint64_t offset);

void hoard_read_begin(struct hoard *hoard);
void hoard_read(struct hoard *hoard, uint64_t offset, const uint8_t *value, uint64_t bytes);
/* A reading came to the end, `end`, in the calm. */
void hoard_judge(struct hoard *hoard, uint64_t end);

#endif
