/* `sluicectl wal inspect` on a directory that anybody may have written.
 *
 * Input: as fuzz_recovery.c's; flags: 1 = right checksums; 2 = only the verdict, no checksums of old
 * data; 4 = groups one by one. Held against: nothing is written; what is reported has a path and
 * words; what is called damaged has a place; memory. */
#include "base/status.h"
#include "storage/inspect.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/keep_blocks.h"
#include "tests/fuzz/store_edit.h"
#include "tests/fuzz/store_world.h"

enum { FLAG_SEAL = 1, FLAG_QUICK = 2, FLAG_GROUPS = 4 };

/* Buffers that inspection has whatever lies there: of recovery (10 MiB for the longest group), of archive files and
 * indexes. */
#define FIXED_BYTES ((size_t)(12 * MIB))

static uint32_t damaged;

static void report(void *context, const struct inspect_item *item)
{
    (void)context;
    ASSERT(item->path != NULL && item->text != NULL);
    ASSERT(item->status == 0 || item->text[0] != '\0');
    ASSERT(!item->is_damage || item->status < 0);
    damaged += item->is_damage;
}

static int inspect(struct sim_disk *disk, uint8_t flags, size_t input_bytes)
{
    struct inspect_options options = {.dir = WORLD_DIR,
                                      .shard = INSPECT_ALL_SHARDS,
                                      .verify = !(flags & FLAG_QUICK),
                                      .groups = flags & FLAG_GROUPS,
                                      .report = report};
    struct io *io = io_sim_new(disk, &(struct io_sim_options){.seed = 3, .latency_ns_max = 1000});
    uint64_t before = disk->sequence;
    char text[512] = "";
    damaged = 0;
    memory_bound_begin();
    int status = inspect_run(io, &options, text);
    memory_bound_end(input_bytes, FIXED_BYTES);
    ASSERT(disk->sequence == before);
    ASSERT(status == 0 || damaged > 0 || text[0] != '\0');
    ASSERT(status != 0 || damaged == 0);
    io_free(io);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input_reader input = {data, size};
    struct sim_disk *disk =
        store_image_copy((enum store_image)(input_number(&input, 1) % IMAGE_COUNT));
    uint8_t flags = (uint8_t)input_number(&input, 1);
    store_edit(disk, &input);
    if (flags & FLAG_SEAL)
        store_seal(disk);
    (void)inspect(disk, flags, size);
    sim_disk_free(disk);
    return 0;
}
