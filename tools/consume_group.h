/* consume --group: what was printed is what is committed. */
#ifndef SLUICE_TOOLS_CONSUME_GROUP_H
#define SLUICE_TOOLS_CONSUME_GROUP_H

#include "tools/ctl.h"
#include "tools/where.h"

/* Printed records are committed every second, when partitions are revoked, and at the end; so a
 * kill shows some of them again, to whoever has the partition next, and loses none. */
struct consume_group {
    struct ctl *ctl;
    const char *name; // NULL: no group
    const char *topic;
    struct sluice_consumer *consumer;
    uint32_t partition_count;
    uint64_t *printed; // by partition: behind the last record printed
    uint64_t *committed;
    uint64_t commit_at_ms;
};

/* Joins. Returns an exit code. */
int consume_group_join(struct consume_group *group, struct sluice_client *client,
                       const struct where *from);
void consume_group_printed(struct consume_group *group, const struct sluice_message *message);
/* Before each poll: commits when that is due. Failures are shown and tried again. */
void consume_group_turn(struct consume_group *group);
/* Commits the rest and leaves. Returns an exit code. */
int consume_group_end(struct consume_group *group, int exit_code);
/* The group has read the partition up to `end`, by this member or by another one. */
bool consume_group_is_at(struct consume_group *group, uint32_t partition, uint64_t begin,
                         uint64_t end);

#endif
