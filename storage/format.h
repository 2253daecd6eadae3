/* Everything that lies on disk, as byte tables in C. docs/disk-format.md is normative and says the same
 * in words; sizes and offsets are asserted here. All fields are little-endian (record batches inside are
 * Kafka's, big-endian).
 *
 *     DIR/LOCK                               flock()ed by the broker that serves the directory
 *     DIR/store                              struct disk_store: identity, made first
 *     DIR/shard-000/wal/<16 hex>.wal         segments: struct disk_segment x 2, then groups
 *     DIR/shard-000/wal/<16 hex>.idx         of a closed segment: struct disk_index
 *     DIR/shard-000/wal/ *.tmp               raw material for spares; never read
 *     DIR/shard-000/checkpoint/<16 hex>.ckpt the two newest are kept; the only manifest
 *     DIR/shard-000/archive/<16 hex>.arc     sorted runs of older batches
 */
#ifndef SLUICE_STORAGE_FORMAT_H
#define SLUICE_STORAGE_FORMAT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"

#define DISK_BLOCK 4096
#define DISK_FORMAT_VERSION 1

/* Every header block: magic first, checksum = XXH3-64 of the block's bytes before it, last. */
#define DISK_MAGIC_STORE 0x45524f5453434c53ull      // "SLCSTORE"
#define DISK_MAGIC_SEGMENT 0x4c41575343554c53ull    // "SLUCSWAL"
#define DISK_MAGIC_INDEX 0x5844495343554c53ull      // "SLUCSIDX"
#define DISK_MAGIC_CHECKPOINT 0x504b435343554c53ull // "SLUCSCKP"
#define DISK_MAGIC_ARCHIVE 0x4352415343554c53ull    // "SLUCSARC"
#define DISK_MAGIC_GROUP 0x50475753u                // "SWGP"

struct disk_common { // the first 64 bytes of every header block
    le64 magic;
    le16 version; // DISK_FORMAT_VERSION; newer: refused before anything is touched
    le16 reserved;
    le32 features_compatible; // unknown bits may be ignored
    le32 features_required;   // an unknown bit: refuse
    le32 shard_id;            // UINT32_MAX in DIR/store
    uint8_t store_id[16];     // random, made with the store
    le64 number;              // file number; 0 in DIR/store
    le64 created_ms;          // wall clock, for people only
    le64 reserved2;
};
static_assert(sizeof(struct disk_common) == 64, "disk");

/* ---- DIR/store: one block ---- */
enum disk_store_state { DISK_STORE_MAKING = 1, DISK_STORE_READY = 2 };
struct disk_store {
    struct disk_common common;
    le32 state; // MAKING: the shards were not all made, nothing can have been acked: made anew
    le32 shard_count;
    le64 segment_bytes;
    uint8_t zero[DISK_BLOCK - 64 - 16 - 8];
    le64 checksum;
};
static_assert(sizeof(struct disk_store) == DISK_BLOCK, "disk");

/* ---- segment: header twice, then groups from DISK_SEGMENT_DATA on ---- */
#define DISK_SEGMENT_DATA (2 * DISK_BLOCK)
/* features_compatible: every block of the file was written before the header was, so that it never again needs
 * zeroing. Without it a spare is zeroed again before it is entered, and a closed segment before its next life. */
#define DISK_SEGMENT_WRITTEN 1u
struct disk_segment {
    struct disk_common common; // number: file number
    le64 generation;           // random, new for each life of the file
    le64 segment_bytes;        // of the whole file
    uint8_t zero[DISK_BLOCK - 64 - 16 - 8];
    le64 checksum;
};
static_assert(sizeof(struct disk_segment) == DISK_BLOCK, "disk");

/* ---- group: one group commit; starts on a block and is padded with zeros to one ---- */
enum disk_group_type { GROUP_DATA = 1, GROUP_MARK = 2, GROUP_CUT = 3 };
struct disk_group {
    /* replicated: the same on every replica */
    le32 magic;
    uint8_t version; // DISK_FORMAT_VERSION
    uint8_t type;    // enum disk_group_type
    le16 reserved;
    le32 payload_bytes; // entries, without the padding
    le32 entry_count;
    le32 shard_epoch;
    le32 reserved2;
    le64 lsn;              // position of this header in the shard's log
    le64 number;           // dense, from 1
    le64 append_time_ms;   // the log's own clock: never decreases
    le64 payload_checksum; // XXH3-64 of entries and padding
    le64 chain;            // XXH3-64 of the previous chain (8 bytes) and bytes 0..55 of this header
    /* local: this replica's stamps */
    le64 generation;  // the file's: old lives of the file can't be mistaken for this one
    le64 durable_lsn; // every byte below was on stable storage when this group was built
    le64 commit_lsn;
    uint8_t zero[32];
    le64 header_checksum; // XXH3-64 of bytes 0..119
};
static_assert(sizeof(struct disk_group) == 128, "disk");
static_assert(offsetof(struct disk_group, chain) == 56, "disk: the chain covers bytes 0..55");
static_assert(offsetof(struct disk_group, generation) == 64, "disk: replicated part is 64 bytes");
static_assert(offsetof(struct disk_group, header_checksum) == 120, "disk");

/* ---- entry: 16 bytes, payload, zeros to a multiple of 8 ---- */
enum disk_entry_type {
    ENTRY_BATCH = 1,            // payload: the record batch, base offset set
    ENTRY_STAGED = 2,           // struct disk_txn_name, then the batch (base offset STAGED_OFFSET)
    ENTRY_TXN_OPEN = 3,         // coordinator: broker/transactions.h
    ENTRY_TXN_JOIN = 4,         // coordinator: a shard takes part
    ENTRY_PREPARE = 5,          // participant, and coordinator when the client asked for it
    ENTRY_DECIDE = 6,           // coordinator: commit or abort
    ENTRY_COMMIT = 7,           // struct disk_txn_end, then struct disk_committed[batch_count]
    ENTRY_ABORT = 8,            // struct disk_txn_end
    ENTRY_TXN_END = 9,          // coordinator: every participant has carried the decision out
    ENTRY_OFFSET_COMMIT = 10,   // broker/groups.h: plain, or staged under a transaction's name
    ENTRY_GROUP = 11,           // broker/groups.h: generation; made, expired or deleted
    ENTRY_PARTITION_OPEN = 12,  // struct disk_partition_open
    ENTRY_PARTITION_DROP = 13,  // struct disk_partition_open (settings ignored)
    ENTRY_LOG_START = 14,       // struct disk_log_start: what is below is expired or deleted
    ENTRY_PRODUCER_EXPIRE = 15, // le64 producer id, expired in the partition that the entry names
    ENTRY_PID_BLOCK = 16,       // le64: first producer id not yet given out (shard 0)
    ENTRY_TOPIC = 17,           // broker/topics.h: made or altered (shard 0)
    ENTRY_TOPIC_DROP = 18,      // shard 0
    ENTRY_SLOT_TABLE = 19,      // shard 0: le16 shard of each of the 1,024 slots
    ENTRY_MARK = 20,            // reserved: a MARK group has no entries
    ENTRY_CUT = 21,             // struct disk_cut, alone in a GROUP_CUT
    ENTRY_EPOCH_START = 22,     // reserved
    ENTRY_CONFIG = 23,          // reserved
    ENTRY_TIER = 24,            // reserved
    ENTRY_PRODUCER_OPEN = 25,   // coordinator: producer id and epoch of a transactional id
    ENTRY_STAGED_MOVED = 26,    // struct disk_staged_moved, then the batch: copied forward
};
enum disk_entry_flags { ENTRY_IGNORABLE = 1 }; // an unknown type without it fails closed

struct disk_entry {
    le32 payload_bytes; // without the padding
    uint8_t type;
    uint8_t flags;
    le16 reserved;
    le32 topic_id; // 0: not about a partition
    le32 partition;
};
static_assert(sizeof(struct disk_entry) == 16, "disk");

struct disk_txn_name {
    le32 coordinator; // shard
    le32 reserved;
    le64 open_lsn; // of TXN_OPEN there
};
static_assert(sizeof(struct disk_txn_name) == 16, "disk");

/* Base offset of a batch in the log while it has none: bit 63. Its place is in the index, as soon as it is committed. */
#define STAGED_OFFSET ((uint64_t)1 << 63)

/* Leader epoch of every batch in a log or archive file, as long as there is one machine. It lies outside of the CRC-32C: who
 * reads a batch holds it against this. */
#define STORED_LEADER_EPOCH 0u
static inline bool stored_epoch_is_good(const uint8_t *batch)
{
    be32 epoch;
    memcpy(&epoch, batch + 12, sizeof(epoch)); // behind base offset and length
    return be32_get(epoch) == STORED_LEADER_EPOCH;
}

struct disk_staged_moved { // the batch that lay at `from` lies here from now on
    struct disk_txn_name name;
    le64 from; // LSN of the batch
};
static_assert(sizeof(struct disk_staged_moved) == 24, "disk");

enum disk_txn_end_flags {
    TXN_END_DECIDES =
        1, // the coordinator's own shard was the only participant: this entry is the decision, too
};
struct disk_txn_end {
    struct disk_txn_name name;
    le32 flags;       // enum disk_txn_end_flags
    le32 batch_count; // COMMIT: struct disk_committed follow; ABORT: 0
};
static_assert(sizeof(struct disk_txn_end) == 24, "disk");

struct disk_committed { // a staged batch gets its place; those of dropped partitions are left out
    le32 topic_id;
    le32 partition;
    le64 base_offset;
    le64 position; // LSN of the batch
    le64 max_timestamp;
    le32 size;
    le32 record_count;
};
static_assert(sizeof(struct disk_committed) == 40, "disk");

struct disk_partition_open { // settings that the owning shard needs
    le64 revision;           // of the topic; a lower one never replaces a higher one
    le64 retention_ms;       // UINT64_MAX: for ever
    le64 retention_bytes;    // UINT64_MAX: no limit
    le32 batch_bytes_max;
    uint8_t validation;     // enum: 0 records, 1 header
    uint8_t timestamp_type; // 0 create time, 1 log append time
    le16 reserved;
};
static_assert(sizeof(struct disk_partition_open) == 32, "disk");

struct disk_log_start {
    le64 log_start;  // of the partition
    le64 bytes_gone; // of the batches between the old log start and this one
};
static_assert(sizeof(struct disk_log_start) == 16, "disk");

struct disk_producer_open {
    le64 producer_id;
    le16 epoch;
    le16 reserved;
    le32 reserved2;
};
static_assert(sizeof(struct disk_producer_open) == 16, "disk");

struct disk_cut {      // ends the log at end_lsn whatever lies behind it in older files
    le64 end_lsn;      // the LSN of the CUT group itself
    le64 chain;        // of the last group before end_lsn: the next group continues it
    le64 group_number; // of that group
    le32 void_count;   // le64 file numbers follow: files whose groups are void
    le32
        hole_count; // struct disk_hole follow: what `wal salvage` gave up; 0 when recovery wrote it
};
static_assert(sizeof(struct disk_cut) == 32, "disk");

struct disk_hole { // the log goes on at to_lsn; what was in [from_lsn, to_lsn) is lost
    le64 from_lsn;
    le64 to_lsn;
    le64 to_file;   // the group at to_lsn lies in this file ...
    le64 to_offset; // ... here; both 0: there is none, the CUT group itself is what lies at to_lsn
};
static_assert(sizeof(struct disk_hole) == 32, "disk");
#define DISK_HOLES_MAX 16

/* ---- index of a closed segment (.idx), and of an archive file (at its end) ----
 * header block; directory (sorted by topic, partition); entries (directory order, then offset). */
struct disk_index {
    struct disk_common common; // number: the segment's; in an archive file: the file's
    le64 generation;           // of the segment described; 0 in an archive file
    le64 base_lsn;             // first and one behind the last LSN covered
    le64 end_lsn;
    le32 partition_count;
    le32 entry_count;
    le64 checksum_body;  // XXH3-64 of directory and entries
    le64 append_ms_last; // append time of the last group covered: retention by time goes by it
    uint8_t zero[DISK_BLOCK - 64 - 48 - 8];
    le64 checksum;
};
static_assert(sizeof(struct disk_index) == DISK_BLOCK, "disk");

struct disk_index_partition {
    le32 topic_id;
    le32 partition;
    le64 first_offset;
    le64 end_offset;    // one behind the last
    le64 max_timestamp; // two's complement
    le64 bytes;         // of its batches
    le32 entry_start;   // index of its first entry
    le32 entry_count;
};
static_assert(sizeof(struct disk_index_partition) == 48, "disk");

struct disk_index_entry {
    le64 base_offset;
    le64 position; // segment: LSN of the batch; archive: offset in the file
    le64 max_timestamp;
    le32 size; // bytes of the batch
    le32 record_count;
};
static_assert(sizeof(struct disk_index_entry) == 32, "disk");

/* ---- archive file: header block, batches, zeros to a block, index as above, footer block ---- */
struct disk_archive {
    struct disk_common common;
    uint8_t zero[DISK_BLOCK - 64 - 8];
    le64 checksum;
};
static_assert(sizeof(struct disk_archive) == DISK_BLOCK, "disk");
struct disk_archive_footer { // the last block
    struct disk_common common;
    le64 data_bytes;   // batches lie in DISK_BLOCK .. DISK_BLOCK + data_bytes
    le64 index_offset; // of struct disk_index
    le64 index_bytes;
    le64 staged_offset; // batches of open transactions, under their LSN; 0: none
    le64 staged_bytes;
    uint8_t zero[DISK_BLOCK - 64 - 40 - 8];
    le64 checksum;
};
static_assert(sizeof(struct disk_archive_footer) == DISK_BLOCK, "disk");

/* ---- checkpoint: header block, tables (storage/table.h) one behind the other ---- */
struct disk_checkpoint {
    struct disk_common common; // number: rises by one
    le64 lsn;                  // state of everything below
    le64 chain;                // of the group that ends at lsn
    le64 group_number;
    le64 append_time_ms;
    le64 wal_first_file; // lowest segment that state at lsn still needs (for replay or reads)
    le64 wal_file;       // segment that lsn lies in, or at whose end it lies
    le64 body_bytes;
    le64 body_checksum; // XXH3-64, pieces chained as docs/disk-format.md says
    le32 clean;         // 1: drained; nothing was appended behind lsn
    le32 table_count;
    uint8_t zero[DISK_BLOCK - 64 - 72 - 8];
    le64 checksum;
};
static_assert(sizeof(struct disk_checkpoint) == DISK_BLOCK, "disk");

struct disk_table { // before each table's rows
    le32 table_id;  // enum table_id
    le32 row_bytes;
    le64 row_count; // rows follow, then zeros to a multiple of 8
};
static_assert(sizeof(struct disk_table) == 16, "disk");

enum table_id {
    TABLE_PARTITIONS = 1,   // storage/partitions.h
    TABLE_ARCHIVES = 2,     // storage/archive.h
    TABLE_TOPICS = 3,       // broker/topics.h (shard 0)
    TABLE_PRODUCERS = 4,    // broker/producers.h
    TABLE_SCALARS = 5,      // broker: single numbers, e.g. the next producer id
    TABLE_SLOTS = 6,        // slot -> shard (shard 0)
    TABLE_STAGED = 7,       // storage/staged.h: batches of open transactions
    TABLE_TRANSACTIONS = 8, // broker/transactions.h: transactional ids that this shard coordinates
    TABLE_PARTICIPANTS = 9, // broker/participants.h: transactions that have something here
    TABLE_GROUPS = 10,      // broker/groups.h
    TABLE_GROUP_OFFSETS = 11,  // broker/groups.h
    TABLE_STAGED_OFFSETS = 12, // broker/groups.h
};

#endif
