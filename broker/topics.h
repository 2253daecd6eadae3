/* Topics and their settings: state of shard 0, and a directory that every core may read.
 *
 * A topic is made by one ENTRY_TOPIC in shard 0's log; its partitions are opened in their owners' logs by
 * PARTITION_OPEN mails, re-sent after a restart until confirmed. The client is answered when all are durable. Ids
 * are never reused. */
#ifndef SLUICE_BROKER_TOPICS_H
#define SLUICE_BROKER_TOPICS_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/messages.h"
#include "storage/format.h"
#include "storage/table.h"

struct disk_topic { // row of TABLE_TOPICS and payload of ENTRY_TOPIC / ENTRY_TOPIC_DROP
    le32 topic_id;  // never 0
    le32 partition_count;
    le64 created_ms;
    le64
        confirmed; // partitions [0, confirmed) are open in their owners' logs: what clients are shown
    struct disk_partition_open settings; // revision rises with each change
    uint8_t dropped;                     // being deleted: partitions are told, then the row goes
    uint8_t name_length;
    uint8_t name[TOPIC_NAME_BYTES_MAX];
    uint8_t settled; // every owner has logged this revision; else it is told again after a restart
    uint8_t zero[4];
};
static_assert(sizeof(struct disk_topic) % 8 == 0, "disk");
static_assert(sizeof(struct disk_topic) == 312, "disk");

/* A topic setting: its key as users write it, how to read and print it. One table for parsing, listing, and
 * docs: topic_settings.def. */
uint16_t topic_setting_apply(struct disk_partition_open *settings, struct slice key,
                             struct slice value, char text[72]); // PE_NONE or PE_INVALID_SETTING
uint32_t topic_setting_count(void);
const char *topic_setting_key(uint32_t i);
void topic_setting_format(const struct disk_partition_open *settings, uint32_t i, char text[48]);

struct topics;
struct topics *topics_new(void); // NULL: out of memory
void topics_free(struct topics *topics);
struct table *topics_table(struct topics *topics);
MUST_USE int topics_rebuild(struct topics *topics, const char **why); // after table_load()

const struct disk_topic *topics_find(const struct topics *topics, struct slice name);
const struct disk_topic *topics_find_id(const struct topics *topics, uint32_t topic_id);
uint32_t topics_count(const struct topics *topics);
/* The first topic whose name is greater than `after` (bytewise), in order; NULL at the end. */
const struct disk_topic *topics_next(const struct topics *topics, struct slice after);

/* Row i of 0..topics_row_count()-1, NULL when unused: for a walk over all. */
uint32_t topics_row_count(const struct topics *topics);
const struct disk_topic *topics_row(const struct topics *topics, uint32_t i);

/* ---- apply: at append and replay ---- */
/* Makes or replaces. FULL: TOPICS_MAX; a handler checks before it appends, so only damage can bring it. The
 * name of an existing topic never changes. */
MUST_USE int topics_apply(struct topics *topics, const struct disk_topic *topic);
void topics_apply_drop(struct topics *topics, uint32_t topic_id);

#endif
