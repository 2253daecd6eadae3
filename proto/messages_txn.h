/* The metas of transactions: as messages.h, for operations 32 to 47.
 *
 * A transaction is named by its coordinator (a shard) and the LSN of its TXN_OPEN there. Who speaks
 * for it shows the producer id and epoch that TXN_INIT gave; TXN_BY_NAME in place of the producer
 * id is an operator, who may end what its client no longer can. A request begins with the string
 * that decides which shard it goes to, LIST and DESCRIBE with the shard itself. */
#ifndef SLUICE_PROTO_MESSAGES_TXN_H
#define SLUICE_PROTO_MESSAGES_TXN_H

#include "proto/messages.h"

#define TRANSACTIONAL_ID_BYTES_MAX 249 // text, not empty
#define GROUP_NAME_BYTES_MAX 249       // text, not empty
#define TXN_BY_NAME UINT64_MAX
#define TXN_ITEM_COUNT_MAX 16384

struct msg_txn { // which transaction, and who asks
    struct slice id;
    uint64_t producer_id;
    uint16_t epoch;
    uint32_t coordinator;
    uint64_t open_lsn;
};

/* ---- TXN_INIT: producer id and next epoch of a transactional id; aborts what it had open ---- */
enum txn_init_state { TXN_INIT_NONE = 0, TXN_INIT_PREPARED = 1 };
struct msg_txn_init {
    struct slice id;
};
struct msg_txn_init_reply {
    uint64_t producer_id;
    uint16_t epoch;
    uint16_t state;       // enum txn_init_state
    uint32_t coordinator; // PREPARED: these two name the transaction that waits for its end
    uint64_t open_lsn;
};
void write_txn_init(struct writer *w, const struct msg_txn_init *m);
uint16_t read_txn_init(const struct frame *frame, struct msg_txn_init *m);
void write_txn_init_reply(struct writer *w, const struct msg_txn_init_reply *m);
uint16_t read_txn_init_reply(const struct frame *frame, struct msg_txn_init_reply *m);

/* ---- TXN_BEGIN ---- */
struct msg_txn_begin {
    struct slice id;
    uint64_t producer_id;
    uint16_t epoch;
    uint32_t timeout_ms; // 0: the broker's default
};
struct msg_txn_begin_reply {
    uint32_t coordinator;
    uint32_t timeout_ms; // in force
    uint64_t open_lsn;
};
void write_txn_begin(struct writer *w, const struct msg_txn_begin *m);
uint16_t read_txn_begin(const struct frame *frame, struct msg_txn_begin *m);
void write_txn_begin_reply(struct writer *w, const struct msg_txn_begin_reply *m);
uint16_t read_txn_begin_reply(const struct frame *frame, struct msg_txn_begin_reply *m);

/* ---- offsets of a consumer group, plain (OFFSET_COMMIT) or staged (TXN_OFFSETS) ---- */
struct offset_item { // on the wire as is
    le32 topic_id;
    le32 partition;
    le64 offset; // the next one to be read
};
static_assert(sizeof(struct offset_item) == 16, "wire");

/* ---- TXN_OFFSETS: goes to the group's shard; the reply is empty ---- */
struct msg_txn_offsets {
    struct slice group;
    struct slice member;
    uint32_t generation;
    struct msg_txn txn;
    uint32_t item_count; // 1..TXN_ITEM_COUNT_MAX
    const struct offset_item *items;
};
void write_txn_offsets_begin(struct writer *w,
                             const struct msg_txn_offsets *m); // then item_count items
void write_offset_item(struct writer *w, uint32_t topic_id, uint32_t partition, uint64_t offset);
uint16_t read_txn_offsets(const struct frame *frame, struct msg_txn_offsets *m);

/* ---- TXN_PREPARE, TXN_COMMIT: what is in the transaction, as its client knows it ---- */
struct txn_item { // on the wire as is
    le32 topic_id;
    le32 partition;
    le32 batch_count; // staged and acked
    le32 reserved;    // 0
};
static_assert(sizeof(struct txn_item) == 16, "wire");
struct msg_txn_end { // by name: both counts are 0, nothing is checked
    struct msg_txn txn;
    uint32_t item_count; // 0..TXN_ITEM_COUNT_MAX
    uint16_t group_count;
    const struct txn_item *items;
    struct reader groups; // read_string() group_count times
};
void write_txn_end_begin(struct writer *w, const struct msg_txn *txn, uint32_t item_count,
                         uint16_t group_count); // then items, then groups
void write_txn_item(struct writer *w, uint32_t topic_id, uint32_t partition, uint32_t batch_count);
uint16_t read_txn_end(const struct frame *frame, struct msg_txn_end *m);

struct txn_result_item { // on the wire as is; in the order of the request's items
    le32 topic_id;
    le32 partition;
    le64 base_offset; // of its first record of this transaction; UINT64_MAX: no longer known
};
static_assert(sizeof(struct txn_result_item) == 16, "wire");
struct msg_txn_commit_reply {
    uint32_t item_count;
    const struct txn_result_item *items;
};
#define TXN_COMMIT_REPLY_FIXED 8
void write_txn_commit_reply_begin(struct writer *w, uint32_t item_count); // then items
void write_txn_result_item(struct writer *w, uint32_t topic_id, uint32_t partition,
                           uint64_t base_offset);
uint16_t read_txn_commit_reply(const struct frame *frame, struct msg_txn_commit_reply *m);

/* ---- TXN_ABORT: struct msg_txn alone; its reply and that of PREPARE are empty ---- */
void write_txn_abort(struct writer *w, const struct msg_txn *m);
uint16_t read_txn_abort(const struct frame *frame, struct msg_txn *m);

/* ---- TXN_LIST: the transactional ids that one shard coordinates ---- */
enum txn_state { // as shown; broker/transactions.h has the table of transitions
    TXN_STATE_EMPTY = 0,
    TXN_STATE_OPEN = 1,
    TXN_STATE_PREPARING = 2,
    TXN_STATE_PREPARED = 3,
    TXN_STATE_COMMITTING = 4,
    TXN_STATE_ABORTING = 5,
};
struct msg_txn_list {
    uint32_t shard;
    struct slice after; // ids behind this one, bytewise; empty: from the first
};
struct msg_txn_list_item {
    struct slice id;
    uint64_t producer_id;
    uint16_t epoch;
    uint8_t state; // enum txn_state
    uint32_t coordinator;
    uint64_t open_lsn; // 0: nothing is open
    uint64_t age_ms;   // since TXN_BEGIN; EMPTY: since the last one ended
    uint32_t timeout_ms;
    uint64_t shards; // that take part, a bit each
};
struct msg_txn_list_reply {
    uint32_t shard_count;
    bool more;
    uint16_t item_count;
    struct reader items; // read_txn_list_item() item_count times
};
void write_txn_list(struct writer *w, const struct msg_txn_list *m);
uint16_t read_txn_list(const struct frame *frame, struct msg_txn_list *m);
void write_txn_list_reply_begin(struct writer *w, uint32_t shard_count, bool more,
                                uint16_t item_count);
void write_txn_list_item(struct writer *w, const struct msg_txn_list_item *m);
uint16_t read_txn_list_reply(const struct frame *frame, struct msg_txn_list_reply *m);
void read_txn_list_item(struct msg_txn_list_reply *m, struct msg_txn_list_item *item);

/* ---- TXN_DESCRIBE: what one shard holds of a transaction ---- */
enum txn_part_state { TXN_PART_NONE = 0, TXN_PART_STAGING = 1, TXN_PART_PREPARED = 2 };
struct msg_txn_describe {
    uint32_t shard;
    uint32_t coordinator;
    uint64_t open_lsn;
};
struct txn_part_item { // on the wire as is
    le32 topic_id;
    le32 partition;
    le32 batch_count;
    le32 record_count;
    le64 bytes;
};
static_assert(sizeof(struct txn_part_item) == 24, "wire");
struct msg_txn_describe_reply {
    uint8_t state;         // enum txn_part_state
    uint32_t offset_count; // staged offsets of consumer groups
    uint64_t batch_bytes;  // of all partitions, also of those that did not fit
    uint32_t item_count;
    const struct txn_part_item *items;
};
void write_txn_describe(struct writer *w, const struct msg_txn_describe *m);
uint16_t read_txn_describe(const struct frame *frame, struct msg_txn_describe *m);
void write_txn_describe_reply_begin(struct writer *w,
                                    const struct msg_txn_describe_reply *m); // then items
void write_txn_part_item(struct writer *w, const struct txn_part_item *item);
uint16_t read_txn_describe_reply(const struct frame *frame, struct msg_txn_describe_reply *m);

#endif
