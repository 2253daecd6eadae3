/* The fake broker's transactions: what is staged, and how the last one of each id ended. */
#ifndef SLUICE_TESTS_FAKE_TXN_H
#define SLUICE_TESTS_FAKE_TXN_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/batch.h"
#include "proto/messages_txn.h"

#define FAKE_TXN_IDS_MAX 16u
#define FAKE_OFFSET_STAGED (UINT64_C(1) << 63)

struct fake_broker;

struct fake_staged {
    uint32_t topic_id, partition;
    uint8_t *bytes;
    struct batch_info info;
};

struct fake_staged_offset {
    char group[GROUP_NAME_BYTES_MAX + 1];
    uint32_t topic_id, partition;
    uint64_t offset;
};

struct fake_txn {
    char id[TRANSACTIONAL_ID_BYTES_MAX + 1]; // "": free
    uint64_t producer_id;
    uint16_t epoch;
    enum txn_state state;
    uint64_t open_lsn, last_lsn;
    bool last_committed;
    uint32_t timeout_ms;
    struct fake_staged *staged;
    uint32_t staged_count;
    struct fake_staged_offset *offsets;
    uint32_t offset_count;
};

struct fake_txns {
    struct fake_txn ids[FAKE_TXN_IDS_MAX];
    uint64_t lsns;
};

/* The open transaction of that name, or NULL. */
struct fake_txn *fake_txn_open(struct fake_txns *txns, uint64_t open_lsn);
void fake_txn_stage(struct fake_txn *txn, uint32_t topic_id, uint32_t partition,
                    const uint8_t *bytes, const struct batch_info *info);
void fake_txns_free(struct fake_txns *txns);

#endif
