/* The metas of consumer groups: as messages.h, for operations 48 to 63.
 *
 * Every request but GROUP_LIST begins with the group's name, which decides the shard it goes to. A
 * member tells by HEARTBEAT which generation it has applied: then it holds nothing outside of the
 * assignment of that generation. */
#ifndef SLUICE_PROTO_MESSAGES_GROUP_H
#define SLUICE_PROTO_MESSAGES_GROUP_H

#include "proto/messages_txn.h"

#define GROUP_MEMBER_BYTES_MAX 64 // member id: text made by the broker
#define GROUP_INSTANCE_BYTES_MAX 128
#define GROUP_TOPICS_MAX 256       // in one member's subscription
#define GROUP_ASSIGNMENT_MAX 16384 // partitions of a group
#define GROUP_UNCHANGED UINT32_MAX // item_count of a HEARTBEAT reply: as told before

enum group_assignor { GROUP_RANGE = 0, GROUP_STICKY = 1 }; // STICKY: cooperative-sticky

struct group_item { // a partition, on the wire as is
    le32 topic_id;
    le32 partition;
};
static_assert(sizeof(struct group_item) == 8, "wire");

/* ---- GROUP_JOIN ---- */
struct msg_group_join {
    struct slice group;
    struct slice member;         // empty: a new one. Otherwise an own id: changes its subscription
    struct slice instance;       // static membership; empty: none
    uint8_t assignor;            // enum group_assignor: the first member decides, others must agree
    uint32_t session_timeout_ms; // 0: the broker's default
    uint32_t rebalance_timeout_ms; // to give up what was revoked; 0: the session's
    uint16_t topic_count;          // 1..GROUP_TOPICS_MAX
    const le32 *topic_ids;         // in the frame, unaligned
    uint32_t item_count; // what it held until now: a sticky assignment leaves it there if it can
    const struct group_item *items;
};
void write_group_join_begin(struct writer *w,
                            const struct msg_group_join *m); // writes topic ids; then items
void write_group_item(struct writer *w, uint32_t topic_id, uint32_t partition);
uint16_t read_group_join(const struct frame *frame, struct msg_group_join *m);

/* ---- GROUP_HEARTBEAT ---- */
struct msg_group_heartbeat {
    struct slice group;
    struct slice member;
    uint32_t generation; // applied
};
void write_group_heartbeat(struct writer *w, const struct msg_group_heartbeat *m);
uint16_t read_group_heartbeat(const struct frame *frame, struct msg_group_heartbeat *m);

/* The reply to both: what this member may read from now on. */
struct msg_group_assignment {
    struct slice member;
    uint32_t generation;
    uint32_t session_timeout_ms; // in force
    uint32_t item_count;         // or GROUP_UNCHANGED
    const struct group_item *items;
};
void write_group_assignment_begin(struct writer *w,
                                  const struct msg_group_assignment *m); // then items
uint16_t read_group_assignment(const struct frame *frame, struct msg_group_assignment *m);

/* ---- GROUP_LEAVE: a static member keeps its place until its session times out, unless `for_ever`.
 * Empty reply ---- */
struct msg_group_leave {
    struct slice group;
    struct slice member;
    bool for_ever;
};
void write_group_leave(struct writer *w, const struct msg_group_leave *m);
uint16_t read_group_leave(const struct frame *frame, struct msg_group_leave *m);

/* ---- OFFSET_COMMIT ---- */
enum offset_commit_flags { OFFSET_COMMIT_RESET = 1 }; // may go back; only without a member
struct msg_offset_commit {
    struct slice group;
    struct slice member; // empty: an operator, or who assigns its partitions itself; empty groups
    uint32_t generation;
    uint16_t flags;
    uint32_t item_count; // 1..TXN_ITEM_COUNT_MAX
    const struct offset_item *items;
};
struct offset_result_item { // on the wire as is: the reply's, to OFFSET_COMMIT and OFFSET_FETCH
    le32 topic_id;
    le32 partition;
    le16 error; // enum proto_error
    le16 reserved;
    le32 reserved2;
    le64 offset; // committed now; UINT64_MAX: none
};
static_assert(sizeof(struct offset_result_item) == 24, "wire");
struct msg_offset_results {
    uint32_t item_count;
    const struct offset_result_item *items;
};
#define OFFSET_RESULTS_FIXED 8
void write_offset_commit_begin(struct writer *w, const struct msg_offset_commit *m); // then items
uint16_t read_offset_commit(const struct frame *frame, struct msg_offset_commit *m);
void write_offset_results_begin(struct writer *w, uint32_t item_count); // then items
void write_offset_result(struct writer *w, uint32_t topic_id, uint32_t partition, uint16_t error,
                         uint64_t offset);
uint16_t read_offset_results(const struct frame *frame, struct msg_offset_results *m);

/* ---- OFFSET_FETCH: replied with offset results; of these partitions, or (item_count 0) of all
 * that have one ---- */
struct msg_offset_fetch {
    struct slice group;
    uint32_t item_count;
    const struct group_item *items;
};
void write_offset_fetch_begin(struct writer *w, struct slice group,
                              uint32_t item_count); // then group items
uint16_t read_offset_fetch(const struct frame *frame, struct msg_offset_fetch *m);

/* ---- GROUP_LIST: the groups of one shard ---- */
enum group_state { GROUP_EMPTY = 0, GROUP_REBALANCING = 1, GROUP_STABLE = 2 };
struct msg_group_list {
    uint32_t shard;
    struct slice after;
};
struct msg_group_list_item {
    struct slice group;
    uint8_t state; // enum group_state
    uint32_t generation;
    uint32_t member_count;
    uint32_t offset_count; // partitions with a committed offset
};
struct msg_group_list_reply {
    uint32_t shard_count;
    bool more;
    uint16_t item_count;
    struct reader items;
};
void write_group_list(struct writer *w, const struct msg_group_list *m);
uint16_t read_group_list(const struct frame *frame, struct msg_group_list *m);
void write_group_list_reply_begin(struct writer *w, uint32_t shard_count, bool more,
                                  uint16_t item_count);
void write_group_list_item(struct writer *w, const struct msg_group_list_item *m);
uint16_t read_group_list_reply(const struct frame *frame, struct msg_group_list_reply *m);
void read_group_list_item(struct msg_group_list_reply *m, struct msg_group_list_item *item);

/* ---- GROUP_DESCRIBE: members and what they hold ---- */
struct msg_group_describe {
    struct slice group;
};
struct msg_group_member {
    struct slice member;
    struct slice instance;
    uint32_t generation; // applied
    uint32_t session_timeout_ms;
    uint32_t idle_ms; // since its last heartbeat
    uint32_t item_count;
    const struct group_item *items;
};
struct msg_group_describe_reply {
    uint8_t state;
    uint8_t assignor;
    uint32_t generation;
    uint16_t member_count;
    struct reader members;
};
void write_group_describe(struct writer *w, const struct msg_group_describe *m);
uint16_t read_group_describe(const struct frame *frame, struct msg_group_describe *m);
void write_group_describe_reply_begin(struct writer *w, const struct msg_group_describe_reply *m);
void write_group_member_begin(struct writer *w, const struct msg_group_member *m); // then its items
uint16_t read_group_describe_reply(const struct frame *frame, struct msg_group_describe_reply *m);
void read_group_member(struct msg_group_describe_reply *m, struct msg_group_member *member);

/* ---- GROUP_DELETE: only an empty one; its offsets go with it. Empty reply ---- */
void write_group_delete(struct writer *w, struct slice group);
uint16_t read_group_delete(const struct frame *frame, struct slice *group);

#endif
