/* The inside of consumer groups: rows on disk, members and assignments in memory. For groups*.c, group_*.c and handle_group*.c.
 *
 *   groups.c          the tables, and what log entries do to them
 *   group_offsets.c   committed offsets
 *   group_staged.c    offsets of transactions that have not ended
 *   group_members.c   who is in a group
 *   group_slots.c     which partition whose is, and whose it shall be
 *   group_balance.c   a change of the assignment, as a whole
 *   group_topics.c    how many partitions topics have: asks shard 0
 *   group_turn.c      what time brings: sessions, balances that are due, expiry
 *
 * Memory from the heap at run time: a member when it joins (GROUP_MEMBERS_PER_SHARD), with its topics (GROUP_TOPICS_PER_SHARD
 * numbers) and what it says it held; slots when an assignment is made (GROUP_SLOTS_PER_SHARD). Each is counted before it
 * is taken and refused with LIMIT_REACHED; limits.c has the sum. */
#ifndef SLUICE_BROKER_GROUPS_PRIVATE_H
#define SLUICE_BROKER_GROUPS_PRIVATE_H

#include "base/list.h"
#include "base/row_map.h"
#include "broker/group_assign.h"
#include "broker/groups.h"
#include "broker/row_chains.h"

#define GROUP_SUBSCRIPTIONS_PER_SHARD 131072u // topics of all members together
#define GROUP_SLOTS_PER_SHARD 65536u // partitions of all groups that have members, as of offsets
#define GROUP_TOPICS_PER_SHARD TOPICS_MAX // different topics that members subscribe to
#define GROUP_MEMBER_ID_BYTES 32u         // hex digits
#define GROUP_INITIAL_DELAY_NS                                                                     \
    (100 * NS_PER_MS) // the first assignment of an empty group waits for more members
#define GROUP_SESSION_MS_MIN 1000u
#define GROUP_SESSION_MS_MAX (30u * 60 * 1000)
#define GROUP_TOPICS_PERIOD_NS (5 * NS_PER_S) // how old a partition count may be
#define GROUP_SWEEP_PERIOD_NS (60 * NS_PER_S) // how often offsets of deleted topics are looked for
#define GROUP_EXPIRY_PERIOD_NS                                                                     \
    (60 * NS_PER_S) // and groups that expire; less when they do so sooner
#define GROUP_GRACE_MS                                                                             \
    (60 * 60 * 1000ull)          // after a start nothing expires so long: members come back first
#define GROUP_ASK_TOPICS_MAX 64u // in one mail: shard 0 walks its topics for each
#define GROUP_STAGED_PER_PARTITION                                                                 \
    64u // transactions at once: whoever asks for its offset looks at all of them
#define GROUP_COMMIT_ITEMS_MAX 2048u // in one entry: it fits into the smallest batch_bytes_max
static_assert(ASSIGN_EDGES_MAX == GROUP_SUBSCRIPTIONS_PER_SHARD, "one group may have them all");
static_assert(ASSIGN_MEMBERS_MAX == GROUP_MEMBERS_MAX, "or as many members");

/* ---- in memory ---- */

struct group_member {
    struct list link;             // of its group, in the order of joining
    struct list shard_link;       // of all
    struct group_member *id_next; // in its place of by_id
    struct group *group;
    uint64_t heard_ns;      // last sign of life
    uint64_t session_ns;    // may be silent so long
    uint64_t rebalance_ns;  // may keep so long what it shall give up
    uint64_t give_up_by_ns; // what it shall give up and was told of; UINT64_MAX: nothing
    uint32_t told;          // generation with which it was told
    uint32_t revoked;   // lowest of those with which it shall give something up; UINT32_MAX: none
    uint32_t confirmed; // highest generation that it said it has applied
    uint32_t order;     // among the group's members, while an assignment is made
    uint32_t *topics;   // rising, without doubles
    struct group_item *hints; // what it held before it joined, until its first assignment
    uint32_t topic_count;
    uint32_t hint_count;
    bool is_assigned; // an assignment was made that knows of it
    bool is_away;     // static, and has left: its place is kept
    bool is_leaving;  // being removed
    uint8_t instance_length;
    uint8_t id[GROUP_MEMBER_ID_BYTES];
    uint8_t instance[GROUP_INSTANCE_BYTES_MAX];
};

/* A partition of a group. owner == target: settled. owner NULL: free, its target gets it with the next generation.
 * Otherwise the owner shall give it up: it is told by the assignment without it, and lets go by confirming that one. */
struct group_slot {
    uint32_t topic_id;
    uint32_t partition;
    struct group_member *owner;  // who alone may read and commit it
    struct group_member *target; // whose it shall be; NULL: nobody subscribes
    uint32_t granted;            // generation with which the owner got it
    uint32_t revoked;            // owner != target: generation with which the owner was told
};

struct group { // by row of TABLE_GROUPS
    uint32_t row;
    uint32_t offset_count; // rows of TABLE_GROUP_OFFSETS
    uint32_t staged_count; // rows of TABLE_STAGED_OFFSETS
    uint32_t member_count;
    struct list members;
    struct list due_link;     // linked: a balance is due at due_ns
    struct list leaving_link; // while sessions are looked at: some member's has timed out
    uint64_t due_ns;
    uint64_t lsn; // what was logged last is durable from here on: before, nobody is told
    struct group_slot *slots; // by topic, partition
    uint32_t slot_count;
    uint32_t reserved;      // of GROUP_SLOTS_PER_SHARD: partitions that members subscribe to
    uint32_t pending_count; // slots whose owner shall give them up
    uint8_t assignor;       // enum group_assignor
    bool needs_assignment;  // members or topics changed
};

struct group_topic { // that some member subscribes to, or wants to
    uint32_t topic_id;
    uint32_t partition_count;
    uint32_t subscriptions; // of members
    uint32_t stamp;         // groups->topic_stamp when a walk has met it
    uint32_t next_free;     // unused: the next one that is
    bool is_used;
    bool is_known;   // partition_count is an answer
    bool is_stale;   // ask (again)
    bool is_changed; // by the answer that is being looked at
};

struct group_ask { // the one mail to shard 0 that may be under way, and what it points at
    bool is_out;
    bool is_sweep; // about topics of committed offsets, not about subscriptions
    uint32_t count;
    uint32_t topic_ids[GROUP_ASK_TOPICS_MAX];
    uint32_t partition_counts[GROUP_ASK_TOPICS_MAX];
};

struct groups {
    struct table *table, *offsets, *staged;
    struct row_map by_name;            // groups
    struct row_map offset_by_key;      // offsets: group, topic, partition
    struct row_chains offset_by_group; // a head for each group
    struct row_chains staged_by_key;   // staged: group, topic, partition
    struct row_chains staged_by_txn;   // staged: transaction
    uint32_t *scratch;                 // row numbers, for whoever sorts some
    struct group *groups;              // GROUPS_PER_SHARD
    struct offset_item *commit_items;  // GROUP_COMMIT_ITEMS_MAX
    struct list due;                   // groups
    struct list members;               // all
    struct list joins;                 // requests that wait for an answer of shard 0
    struct group_member **by_id;       // GROUP_MEMBERS_PER_SHARD places
    uint32_t member_count, subscription_count, slots_reserved, hint_count;
    struct assign_work *work;
    struct assign_partition *work_partitions; // GROUP_ASSIGNMENT_MAX
    struct assign_member *work_members;       // GROUP_MEMBERS_MAX
    struct group_member **work_order;         // GROUP_MEMBERS_MAX
    struct group_topic *topics;               // GROUP_TOPICS_PER_SHARD
    struct row_map topic_by_id;
    uint32_t topic_high, topic_free; // used and free ones lie below topic_high
    uint32_t topic_stamp, topic_stale_count;
    bool topics_unused;  // some may be without subscription
    uint32_t *topic_ids; // GROUP_TOPICS_PER_SHARD, for a walk
    struct group_ask ask;
    bool joins_ready;                    // what `joins` waited for has come
    bool is_draining;                    // nobody is asked any more, nothing expires
    uint32_t gone[GROUP_ASK_TOPICS_MAX]; // topics whose offsets go
    uint32_t gone_count, gone_row;
    uint32_t sweep_row;  // TABLE_ROW_NONE: no sweep is on
    uint64_t opened_ns;  // first turn; 0: not yet
    uint64_t blocked_ns; // the log was full: nothing is tried before
    uint64_t sessions_ns, topics_ns, sweep_ns, expiry_ns; // when to look next
};

/* ---- groups.c ---- */
const struct disk_group_row *group_row(const struct groups *groups, const struct group *group);
struct slice group_name(const struct groups *groups, const struct group *group);
struct group *group_find(const struct groups *groups, struct slice name); // NULL: unknown
bool group_can_be_made(const struct groups *groups);
/* Its row is made or found; NULL: TABLE_GROUPS is full. In apply only. */
struct group *group_apply_make(struct groups *groups, struct slice name, uint64_t ms);
/* Appends ENTRY_GROUP; `number` is a generation or topic id. 0, FULL, or another status. */
MUST_USE int group_log(struct shard *shard, struct slice name, enum group_change kind,
                       uint32_t number);
static inline bool group_is_empty(const struct group *group)
{
    return group->member_count == 0;
}

/* ---- group_offsets.c ---- */
uint64_t group_partition_hash(uint32_t group_row, uint32_t topic_id, uint32_t partition);
const struct disk_group_offset *group_offset_find(const struct groups *groups,
                                                  const struct group *group, uint32_t topic_id,
                                                  uint32_t partition);
struct group_offset { // what an entry says
    uint32_t topic_id, partition;
    uint64_t offset, lsn, ms;
    bool may_go_back;
};
void group_offset_apply(struct groups *groups, struct group *group,
                        const struct group_offset *offset);
void group_offsets_apply_drop(struct groups *groups, struct group *group,
                              uint32_t topic_id); // 0: of all topics
/* Room for `count` more, of which none has a row yet: offsets that are staged have theirs. */
bool group_offsets_have_room(const struct groups *groups, uint32_t count);
/* Logs items of one entry; name NULL: plain. At most GROUP_COMMIT_ITEMS_MAX. */
MUST_USE int group_offsets_log(struct shard *shard, const struct disk_txn_name *name,
                               const struct msg_txn_offsets *m, uint8_t flags);
MUST_USE int group_offsets_rebuild(struct groups *groups, const char **why);

/* ---- group_staged.c ---- */
uint32_t group_staged_first(const struct groups *groups, const struct disk_txn_name *name);
bool group_staged_is_pending(const struct groups *groups, const struct group *group,
                             uint32_t topic_id, uint32_t partition);
bool group_staged_fits(const struct groups *groups, const struct group *group,
                       const struct disk_txn_name *name, const struct offset_item *items,
                       uint32_t count);
void group_staged_apply(struct groups *groups, struct group *group,
                        const struct disk_staged_offset *staged);
MUST_USE int group_staged_rebuild(struct groups *groups, const char **why);

/* ---- group_members.c ---- */
/* PE_NONE, UNKNOWN_MEMBER or FENCED_MEMBER. */
uint16_t group_member_find(const struct groups *groups, const struct group *group, struct slice id,
                           struct group_member **member);
struct group_member *group_member_by_instance(const struct group *group, struct slice instance);
/* Checked limits before; NULL: out of memory. */
struct group_member *group_member_add(struct groups *groups, struct shard *shard,
                                      struct group *group, struct slice instance);
void group_member_take_over(struct groups *groups, struct shard *shard,
                            struct group_member *member);
bool group_member_subscribe(struct groups *groups, struct group_member *member,
                            const uint32_t *topics, uint32_t count); // false: out of memory
/* A wish: without room for it, it is forgotten. */
void group_member_hint(struct groups *groups, struct group_member *member,
                       const struct group_item *items, uint32_t count);
void group_member_unhint(struct groups *groups, struct group_member *member);
/* Removes those that are marked is_leaving; what was theirs is free. */
void group_members_remove_leaving(struct groups *groups, struct shard *shard, struct group *group);
uint64_t group_member_deadline_ns(const struct group_member *member);
/* The key that orders members: instance id or member id. */
struct slice group_member_key(const struct group_member *member);
int slice_compare(struct slice a, struct slice b);

/* ---- group_slots.c ---- */
struct group_slot *group_slot_find(const struct group *group, uint32_t topic_id,
                                   uint32_t partition);
bool group_slot_is_readable(const struct group_slot *slot, const struct group_member *member);
/* What a member may read. items NULL: counts only. */
uint32_t group_member_items(const struct group_member *member, struct group_item *items);
/* It holds nothing outside of its assignment of this generation. */
void group_member_lets_go(struct groups *groups, struct shard *shard, struct group_member *member,
                          uint32_t generation);
void group_slots_release(struct group *group); // owners that are leaving, or away: theirs is free
void group_slots_settle(struct group *group, struct group_member *member); // sets `revoked`
void group_member_settle(struct group_member *member, uint32_t revoked);
/* It hears now of what it shall give up. */
void group_member_was_told(struct groups *groups, struct shard *shard, struct group_member *member);
bool group_has_grants(const struct group *group); // something is free that has a target
bool group_has_owners(const struct group *group);

/* ---- group_balance.c ---- */
void group_balance_at(struct groups *groups, struct group *group, uint64_t when_ns);
int group_balances_turn(struct groups *groups, struct shard *shard);
/* Partitions of all topics that these members subscribe to, `topics` included in place of those of `except`. */
uint64_t group_universe(struct groups *groups, const struct group *group,
                        const struct group_member *except, const uint32_t *topics, uint32_t count);

/* ---- group_topics.c ---- */
enum group_topics_answer { GROUP_TOPICS_KNOWN, GROUP_TOPICS_ASKED, GROUP_TOPICS_FULL };
/* Are these known? ASKED: their partition counts are on their way, come again then. */
enum group_topics_answer group_topics_want(struct groups *groups, const uint32_t *topics,
                                           uint32_t count);
uint32_t group_topic_partitions(const struct groups *groups, uint32_t topic_id); // 0: none
struct group_topic *group_topic_find(const struct groups *groups, uint32_t topic_id);
void group_topics_subscribe(struct groups *groups, const uint32_t *topics, uint32_t count,
                            int change);
int group_topics_turn(struct groups *groups, struct shard *shard);

void group_topics_forget(struct groups *groups); // those that nobody subscribes to

/* ---- group_turn.c ---- */
/* The log is FULL: in a few ms again. Returns 0: no work. */
int group_blocked(struct groups *groups, const struct shard *shard);
const char *group_name_text(const struct groups *groups, const struct group *group,
                            char text[GROUP_NAME_BYTES_MAX + 1]);

/* ---- handle_group_join.c ---- */
int group_joins_turn(struct groups *groups, struct shard *shard);
/* An assignment as the answer to JOIN and HEARTBEAT. */
void group_reply_assignment(struct shard *shard, struct request *request,
                            const struct group_member *member, bool is_unchanged);
void group_log_member(const struct groups *groups, const struct group_member *member,
                      const char *what, const char *why);

#define GROUP_RETRY_NS (5 * NS_PER_MS) // of what the log had no room for

#endif
