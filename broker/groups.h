/* Consumer groups: who reads what, and how far they are.
 *
 * Durable (tables, from the log): groups with their generation, committed offsets, offsets staged by transactions. In
 * memory only: members. A broker that starts again knows no member: each joins again under a higher generation, and what a
 * member of before sends gets UNKNOWN_MEMBER.
 *
 * A partition of a group has at most one owner. When the assignment changes, the old owner is told at its next
 * heartbeat, and the new one gets it when the old one has confirmed that it let go (or has left, or its session has timed out):
 * so no two members ever read, or commit, the same partition.
 *
 * A group lives on the shard of its name's slot (shard_of_name()). Thread: that shard's core. */
#ifndef SLUICE_BROKER_GROUPS_H
#define SLUICE_BROKER_GROUPS_H

#include "broker/shard.h"
#include "proto/messages_group.h"

struct groups;

#define GROUPS_PER_SHARD 4096u
#define GROUP_MEMBERS_MAX 1000u        // of one group
#define GROUP_MEMBERS_PER_SHARD 16384u // of all
#define GROUP_OFFSETS_PER_SHARD 65536u // partitions with a committed offset, of all groups
#define STAGED_OFFSETS_PER_SHARD 32768u

struct
    disk_offset_commit { // head of ENTRY_OFFSET_COMMIT; then the group's name, the member's id, zeros to 8, struct offset_item
    struct disk_txn_name name; // staged under it; open_lsn 0: plain
    le32 item_count;
    le32 generation;
    uint8_t group_length;
    uint8_t member_length;
    uint8_t flags; // enum offset_commit_flags
    uint8_t zero[5];
};
static_assert(sizeof(struct disk_offset_commit) == 32, "disk");

enum group_change {
    GROUP_CHANGE_GENERATION = 1, // makes the group if need be; also tells that it is in use
    GROUP_CHANGE_DROP = 2,       // with its offsets: expired or deleted
    GROUP_CHANGE_TOPIC_GONE = 3, // its offsets of a topic that was deleted
};
struct disk_group_change { // ENTRY_GROUP; then the group's name
    uint8_t kind;          // enum group_change
    uint8_t group_length;
    le16 reserved;
    le32 generation; // GENERATION
    le32 topic_id;   // TOPIC_GONE
    le32 reserved2;
};
static_assert(sizeof(struct disk_group_change) == 16, "disk");

struct disk_group_row { // row of TABLE_GROUPS
    le32 used;          // 1
    le32 generation;
    le64 made_ms;   // append time of the entry that made it
    le64 active_ms; // of the last entry about it
    uint8_t name_length;
    uint8_t name[GROUP_NAME_BYTES_MAX];
    uint8_t zero[6];
};
static_assert(sizeof(struct disk_group_row) == 280, "disk");

struct disk_group_offset { // row of TABLE_GROUP_OFFSETS
    le32 group_plus_1;     // row of TABLE_GROUPS
    le32 topic_id;
    le32 partition;
    le32 reserved;
    le64 offset;
    le64 lsn;          // of the entry that says so, plain or staged
    le64 committed_ms; // append time of that entry
};
static_assert(sizeof(struct disk_group_offset) == 40, "disk");

struct disk_staged_offset { // row of TABLE_STAGED_OFFSETS
    le32 group_plus_1;
    le32 topic_id;
    le32 partition;
    le32 generation; // under which the member staged it
    le64 offset;
    le64 lsn;
    le64 staged_ms;
    struct disk_txn_name name;
    uint8_t prepared; // 1: it will be committed or aborted by what is decided, whoever is a member
    uint8_t member_length;
    uint8_t zero[6];
    uint8_t member[GROUP_MEMBER_BYTES_MAX];
};
static_assert(sizeof(struct disk_staged_offset) == 128, "disk");

struct groups *groups_new(void); // NULL: out of memory
void groups_free(struct groups *groups);
uint64_t
groups_bytes(void); // what one can ever occupy, with the pages that a running checkpoint keeps
/* TABLE_GROUPS, TABLE_GROUP_OFFSETS, TABLE_STAGED_OFFSETS. */
#define GROUPS_TABLES 3
void groups_tables(struct groups *groups, struct table *tables[GROUPS_TABLES]);
MUST_USE int groups_rebuild(struct groups *groups, const char **why);

/* ---- requests: handlers as in shard.h ---- */
enum handled handle_topics_mail(struct shard *shard,
                                struct request *mail); // MAIL_TOPICS_ASK, at shard 0
enum handled handle_group_join(struct shard *shard, struct request *request);
enum handled handle_group_heartbeat(struct shard *shard, struct request *request);
enum handled handle_group_leave(struct shard *shard, struct request *request);
enum handled handle_offset_commit(struct shard *shard, struct request *request);
enum handled handle_offset_fetch(struct shard *shard, struct request *request);
enum handled handle_group_list(struct shard *shard, struct request *request);
enum handled handle_group_describe(struct shard *shard, struct request *request);
enum handled handle_group_delete(struct shard *shard, struct request *request);
/* Sessions that timed out, assignments due, offsets that expire. Once per turn; returns work done. */
int groups_turn(struct groups *groups, struct shard *shard);
uint64_t groups_deadline_ns(const struct groups *groups);
/* Nothing waits for shard 0, and shard 0 has nothing of ours: the shard may be closed. */
bool groups_are_idle(const struct groups *groups);
uint32_t groups_count(const struct groups *groups);
uint32_t groups_member_count(const struct groups *groups);
/* The answer of shard 0 about topics (MAIL_TOPICS_ASK) came home. */
void groups_on_mail_reply(struct groups *groups, struct shard *shard, struct request *mail);

/* ---- for transactions: a group's offsets are one more participant ---- */

/* May this member stage these offsets now? PE_NONE, or UNKNOWN_GROUP, UNKNOWN_MEMBER, FENCED_MEMBER, STALE_GENERATION,
 * NOT_OWNER, LIMIT_REACHED with words in text. */
uint16_t groups_check_stage(struct groups *groups, const struct msg_txn_offsets *m, char text[72]);
/* Logs them under the transaction's name. 0, FULL, or another status. */
MUST_USE int groups_append_staged(struct shard *shard, const struct disk_txn_name *name,
                                  const struct msg_txn_offsets *m);
/* Everything staged under this name may be committed: each member that staged some is still one. PE_NONE, or
 * UNKNOWN_MEMBER, FENCED_MEMBER, STALE_GENERATION with text. Also PE_NONE when nothing is staged. */
uint16_t groups_vote(const struct groups *groups, const struct disk_txn_name *name, char text[72]);
/* Is something of this group staged under the name? */
bool groups_has_staged(const struct groups *groups, const struct disk_txn_name *name,
                       struct slice group);
uint32_t groups_staged_count(const struct groups *groups, const struct disk_txn_name *name);
/* From here until the end of the transaction OFFSET_FETCH answers OFFSETS_PENDING for them. Called at PREPARE's append and
 * replay. (Before that it does so only while the member that staged them is one: after it they can't be committed.) */
void groups_apply_prepare(struct groups *groups, const struct disk_txn_name *name);

/* ---- apply: at append and replay ---- */
MUST_USE int groups_apply_offset_commit(struct groups *groups, const struct wal_view *view);
MUST_USE int groups_apply_group(struct groups *groups, const struct wal_view *view);
/* A transaction has ended here. The LSN of the staged entry, not that of the end, decides which offset is newer. */
void groups_apply_txn_end(struct groups *groups, const struct disk_txn_name *name, bool committed);

#endif
