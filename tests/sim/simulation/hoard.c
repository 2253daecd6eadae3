#include "tests/sim/simulation/hoard.h"

#include <inttypes.h>

#include "base/clock.h"
#include "tests/integration/history_client.h"
#include "tests/sim/world/own_memory.h"
#include "tests/sim/world/world.h"

#define RETENTION_BYTES MIB
#define RETENTION_MS 1500
#define RECORD_OVERHEAD_MAX 128 // a batch of its own, and the record's own fields

void hoard_init(struct hoard *hoard, bool by_time, bool clock_jumps)
{
    *hoard = (struct hoard){.retention_bytes = by_time ? 0 : RETENTION_BYTES,
                            .retention_ms = by_time ? RETENTION_MS : 0,
                            .clock_jumps = clock_jumps};
    hoard->sent = own_calloc(HOARD_RECORDS_MAX, sizeof(*hoard->sent));
    hoard->acked = own_calloc(HOARD_RECORDS_MAX, sizeof(*hoard->acked));
}

void hoard_free(struct hoard *hoard)
{
    own_free(hoard->sent);
    own_free(hoard->acked);
}

const struct hoard_record *hoard_send(struct hoard *hoard, uint32_t bytes, uint8_t byte,
                                      uint32_t *number)
{
    if (hoard->sent_count == HOARD_RECORDS_MAX)
        return NULL;
    *number = hoard->sent_count++;
    hoard->sent[*number] = (struct hoard_record){world_now_ns(), bytes, byte, false};
    return &hoard->sent[*number];
}

void hoard_acked(struct hoard *hoard, uint32_t number, uint64_t offset)
{
    if (offset >= HOARD_RECORDS_MAX)
        fail("hoarder: offset %" PRIu64 " after %u records", offset, hoard->sent_count);
    if (hoard->acked[offset].is_acked)
        fail("hoarder: offset %" PRIu64 " was acked twice", offset);
    hoard->acked[offset] = hoard->sent[number];
    hoard->acked[offset].is_acked = true;
    hoard->acked_end = max_u64(hoard->acked_end, offset + 1);
}

void hoard_read_begin(struct hoard *hoard)
{
    hoard->first = UINT64_MAX;
    hoard->kept_bytes = 0;
}

void hoard_read(struct hoard *hoard, uint64_t offset, const uint8_t *value, uint64_t bytes)
{
    if (hoard->first == UINT64_MAX) {
        hoard->first = hoard->next = offset;
        hoard->first_ns = world_now_ns();
    }
    if (offset != hoard->next)
        fail("hoarder: offset %" PRIu64 " where %" PRIu64 " should be", offset, hoard->next);
    hoard->next++;
    hoard->kept_bytes += bytes + RECORD_OVERHEAD_MAX;
    for (uint64_t i = 0; i < bytes; i += 997)
        if (value[i] != value[0])
            fail("hoarder: a record at offset %" PRIu64 " is not what was written", offset);
    const struct hoard_record *acked = offset < HOARD_RECORDS_MAX ? &hoard->acked[offset] : NULL;
    if (acked && acked->is_acked && (acked->bytes != bytes || acked->byte != value[0]))
        fail("hoarder: at offset %" PRIu64 " is another record than was acked there", offset);
}

void hoard_judge(struct hoard *hoard, uint64_t end)
{
    bool is_empty = hoard->first == UINT64_MAX;
    uint64_t first = is_empty ? end : hoard->first;
    uint64_t gone_ns = is_empty ? world_now_ns() : hoard->first_ns;
    hoard->was_trimmed = first > 0;
    if (hoard->acked_end > end)
        fail("hoarder: acked up to offset %" PRIu64 ", the end is %" PRIu64, hoard->acked_end, end);
    if (hoard->retention_bytes && first > 0 && hoard->kept_bytes < hoard->retention_bytes)
        fail("hoarder: %" PRIu64 " bytes are left, %" PRIu64 " are to be kept", hoard->kept_bytes,
             hoard->retention_bytes);
    for (uint64_t i = 0; hoard->retention_ms && !hoard->clock_jumps && i < first; i++)
        if (hoard->acked[i].is_acked &&
            hoard->acked[i].sent_ns + hoard->retention_ms * NS_PER_MS > gone_ns)
            fail("hoarder: offset %" PRIu64 " is gone before its time", i);
}
