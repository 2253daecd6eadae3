#include "tests/sim/simulation/lies.h"

#include <inttypes.h>
#include <string.h>

#include "storage/group.h"
#include "storage/segment.h"

static_assert(DISK_BLOCK == SIM_BLOCK, "groups begin on blocks of the disk");

static uint64_t proven_by_file(const struct sim_disk *disk, const struct sim_file *file);

static const char *const names[SIM_LIES] = {
    [SIM_STALE_READ] = "stale reads",
    [SIM_MISDIRECTED_READ] = "misdirected reads",
    [SIM_MISDIRECTED_WRITE] = "misdirected writes",
};

void lies_add(struct lies sum[SIM_LIES], const struct lies more[SIM_LIES])
{
    for (int i = 0; i < SIM_LIES; i++) {
        sum[i].armed += more[i].armed;
        sum[i].struck += more[i].struck;
        sum[i].bit += more[i].bit;
        for (int end = 0; end < LIE_ENDS; end++)
            sum[i].ends[end] += more[i].ends[end];
    }
}

void lies_print(const struct lies lies[SIM_LIES], FILE *file)
{
    for (int i = 0; i < SIM_LIES; i++) {
        const struct lies *l = &lies[i];
        fprintf(file,
                "  %s: %" PRIu64 " armed, %" PRIu64 " struck, %" PRIu64
                " with other bytes; runs that ended by a refused start %" PRIu64
                ", a read error %" PRIu64 ", the broker's own end %" PRIu64
                ", beyond the format %" PRIu64 ", without harm %" PRIu64 "\n",
                names[i], l->armed, l->struck, l->bit, l->ends[LIE_REFUSED], l->ends[LIE_READ],
                l->ends[LIE_ENDED], l->ends[LIE_BEYOND], l->ends[LIE_HARMLESS]);
    }
}

const char *lies_fault(const struct lies lies[SIM_LIES])
{
    static char text[64];
    for (int i = 0; i < SIM_LIES; i++) {
        const uint64_t *ends = lies[i].ends;
        bool was_seen = ends[LIE_REFUSED] + ends[LIE_READ] + ends[LIE_ENDED] > 0;
        if (lies[i].bit > 0 && was_seen)
            continue;
        snprintf(text, sizeof(text), "%s never %s", names[i],
                 lies[i].bit == 0 ? "changed a byte" : "were seen");
        return text;
    }
    return NULL;
}

/* ---- what the log proves ---- */

uint64_t lies_proven_lsn(const struct sim_disk *disk, const char *shard_dir)
{
    uint64_t proven = 0;
    size_t len = strlen(shard_dir);
    for (uint32_t i = 0; i < disk->seen.count; i++) {
        const char *path = disk->seen.names[i].path;
        const char *end = strrchr(path, '.');
        if (strncmp(path, shard_dir, len) == 0 && path[len] == '/' && end &&
            strcmp(end, ".wal") == 0)
            proven = max_u64(proven, proven_by_file(disk, disk->seen.names[i].file));
    }
    return proven;
}

/* Every block may begin a group. */
static uint64_t proven_by_file(const struct sim_disk *disk, const struct sim_file *file)
{
    uint8_t blocks[DISK_SEGMENT_DATA] = {0};
    struct segment_head segment;
    uint64_t proven = 0;
    (void)sim_file_read(file, blocks, 0, sizeof(blocks));
    if (segment_head_parse(blocks, &segment) != 0)
        return 0;
    for (uint64_t at = DISK_SEGMENT_DATA; at < file->size; at += DISK_BLOCK) {
        struct group_head group;
        if (file->seen[at / DISK_BLOCK] == NULL || sim_disk_has_lied(disk, file, at / DISK_BLOCK))
            continue;
        (void)sim_file_read(file, blocks, at, DISK_BLOCK);
        if (group_head_parse(blocks, segment.generation, file->size - at, &group) ==
            GROUP_VERDICT_TORN)
            proven = max_u64(proven, group.durable_lsn);
    }
    return proven;
}
