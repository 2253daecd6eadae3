/* A group on its way to and from the disk: the one place that makes and reads the 128-byte header.
 *
 * The header checksum is looked at before anything else in it is believed, lengths above all. */
#ifndef SLUICE_STORAGE_GROUP_H
#define SLUICE_STORAGE_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "storage/format.h"

#define GROUP_HEADER_BYTES ((uint32_t)sizeof(struct disk_group))

/* The replicated part: the same on every replica. */
struct group_head {
    uint8_t type; // enum disk_group_type
    uint32_t payload_bytes;
    uint32_t entry_count;
    uint64_t lsn;
    uint64_t number;
    uint64_t append_time_ms;
    uint64_t chain;
    /* the local part */
    uint64_t generation;
    uint64_t durable_lsn;
    uint64_t commit_lsn;
};

/* Bytes of a group on disk: header, entries, padding to a block. */
static inline uint32_t group_total_bytes(uint32_t payload_bytes)
{
    return (uint32_t)align_up((uint64_t)GROUP_HEADER_BYTES + payload_bytes, DISK_BLOCK);
}

/* XXH3 of entries and padding, which are in place behind the header's room. */
uint64_t group_payload_checksum(const uint8_t *bytes, uint32_t payload_bytes);

/* Writes the replicated part over the first 64 bytes of `bytes` and gives its chain value. head->chain is that of the
 * group before, payload_checksum that of the bytes behind the header, padding included. */
uint64_t group_stamp_replicated(uint8_t *bytes, const struct group_head *head,
                                uint64_t payload_checksum);

/* Writes the local part and the header checksum. */
void group_stamp_local(uint8_t *bytes, uint64_t generation, uint64_t durable_lsn);

enum group_verdict {
    GROUP_VERDICT_NONE,  // no group of this life of the file begins here
    GROUP_VERDICT_BAD,   // magic and generation say one does, but the header's checksum is wrong
    GROUP_VERDICT_NEWER, // an intact header of a newer version
    GROUP_VERDICT_TORN,  // an intact header; payload not looked at, or wrong
    GROUP_VERDICT_GOOD,  // header and payload are intact
};

/* Looks at a header block. generation: the file's; room: bytes from here to the file's end. Gives
 * NONE, BAD, NEWER or TORN (intact header; the payload is still to be checked), and fills *head for
 * the last two. */
enum group_verdict group_head_parse(const uint8_t *bytes, uint64_t generation, uint64_t room,
                                    struct group_head *head);

/* True when the payload is as the (intact) header says: bytes holds the whole group. */
bool group_payload_is_good(const uint8_t *bytes, const struct group_head *head);

/* The chain value that a group with this header must carry when `previous` came before it. */
uint64_t group_chain(uint64_t previous, const uint8_t *bytes);

#endif
