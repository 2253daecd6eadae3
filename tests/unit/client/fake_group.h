/* The fake broker's consumer groups: members, who owns which partition, committed offsets. */
#ifndef SLUICE_TESTS_FAKE_GROUP_H
#define SLUICE_TESTS_FAKE_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/messages_group.h"

#define FAKE_GROUPS_MAX 8u
#define FAKE_MEMBERS_MAX 64u
#define FAKE_SLOTS_MAX 64u // partitions of a group

struct fake_member {
    char id[GROUP_MEMBER_BYTES_MAX + 1]; // "": free
    char instance[GROUP_INSTANCE_BYTES_MAX + 1];
    uint32_t applied;
    uint64_t beats;
};

struct fake_slot {
    uint32_t topic_id, partition;
    int owner, target; // places in members; -1: none
};

struct fake_offset {
    uint32_t topic_id, partition;
    uint64_t offset;
    uint32_t pending; // answers OFFSETS_PENDING so many times
};

struct fake_group {
    char name[GROUP_NAME_BYTES_MAX + 1]; // "": free
    uint32_t generation;
    uint8_t assignor;
    uint32_t session_ms;
    struct fake_member members[FAKE_MEMBERS_MAX];
    struct fake_slot slots[FAKE_SLOTS_MAX];
    uint32_t slot_count;
    struct fake_offset offsets[FAKE_SLOTS_MAX];
    uint32_t offset_count;
};

struct fake_groups {
    struct fake_group groups[FAKE_GROUPS_MAX];
    uint32_t member_ids;
};

/* May this member commit, plain or in a transaction? */
uint16_t fake_group_check(struct fake_groups *groups, struct slice group, struct slice member,
                          uint32_t generation);
void fake_group_set_offset(struct fake_groups *groups, struct slice group, uint32_t topic_id,
                           uint32_t partition, uint64_t offset);

#endif
