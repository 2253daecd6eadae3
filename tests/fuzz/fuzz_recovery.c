/* Recovery of a whole shard from a directory that anybody may have written: store, log, checkpoints,
 * indexes, and the broker's tables.
 *
 * Input: u8 image (store_world.h), u8 flags, then changes (store_edit.h). Flags: 1 = right checksums
 * over what was changed; 2 = also a second start from what the first one left; 4 = read everything.
 * Held against: no crash; what is refused is refused with words and leaves every byte as it was; what
 * is accepted is accepted again and gives the same state; what was not changed is accepted; memory,
 * besides what an intact directory costs (tables, indexes and read buffers are sized by limits and
 * not by what lies on disk). */
#include <stdio.h>

#include "base/log.h"
#include "base/status.h"
#include "storage/store_private.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/keep_blocks.h"
#include "tests/fuzz/store_edit.h"
#include "tests/fuzz/store_world.h"

#define FIRST_START 20

enum { FLAG_SEAL = 1, FLAG_AGAIN = 2, FLAG_READ = 4 };

/* What the simulated disk takes while the start writes on it: a file's table of blocks, and the
 * blocks of a CUT and of checkpoints. */
#define DISK_WRITES_BYTES ((size_t)(256 * KIB))

struct run { // one input
    struct sim_disk *disk;
    enum store_image image;
    uint8_t flags;
    size_t input_bytes;
};

static bool start(const struct run *run, uint64_t number, uint64_t *digest);
static void read_all(struct life *life);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input_reader input = {data, size};
    struct run run = {.input_bytes = size};
    uint64_t first, second;
    run.image = (enum store_image)(input_number(&input, 1) % IMAGE_COUNT);
    run.flags = (uint8_t)input_number(&input, 1);
    run.disk = store_image_copy(run.image);
    bool is_intact = input.left == 0;
    store_edit(run.disk, &input);
    if (run.flags & FLAG_SEAL)
        store_seal(run.disk);
    bool accepted = start(&run, FIRST_START, &first);
    ASSERT(accepted || !is_intact);
    if (accepted && run.flags & FLAG_AGAIN) {
        run.flags = 0;
        ASSERT(start(&run, FIRST_START + 1, &second));
        ASSERT(second == first);
    }
    sim_disk_free(run.disk);
    return 0;
}

static bool start(const struct run *run, uint64_t number, uint64_t *digest)
{
    struct life life;
    uint64_t before = run->disk->sequence; // of the last change to a byte or a name
    int status = life_begin(&life, run->disk, number);
    memory_bound_check(life.open_bytes, run->input_bytes,
                       store_image_open_bytes(run->image) + DISK_WRITES_BYTES);
    if (status < 0) {
        ASSERT(status == E_CORRUPT || status == E_FOREIGN || status == E_NEWER);
        ASSERT(life.text[0] != '\0');
        if (run->disk->sequence != before)
            fprintf(stderr, "a refusal wrote: %s\n", life.text);
        ASSERT(run->disk->sequence == before);
        if (number != FIRST_START)
            fprintf(stderr, "the second start refuses: %s\n", life.text);
    } else {
        *digest = life_digest(&life);
        if (run->flags & FLAG_READ)
            read_all(&life);
    }
    life_end(&life);
    return status == 0;
}

/* ---- every batch that the start says is there: its bytes, or an error ---- */

static bool read_done;

static void on_read(struct store_read *read)
{
    (void)read;
    read_done = true;
}

static void read_partition(struct life *life, struct partition *partition)
{
    static uint8_t buffer[512 * KIB];
    struct store *store = life->shard.store;
    struct store_read read = {.partition = partition,
                              .offset = partition->log_start,
                              .buffer = buffer,
                              .capacity = sizeof(buffer),
                              .done = on_read,
                              .hint = INDEX_NONE};
    for (int reads = 0; reads < 64 && read.offset < partition->visible_end; reads++) {
        list_init(&read.link);
        read_done = false;
        int started = store_read(store, &read);
        ASSERT(started >= 0);
        for (int i = 0; started == 0 && !read_done && i < 100000; i++) {
            (void)store_turn(store, io_sim_now_ns(life->io), io_sim_now_wall_ms(life->io));
            (void)io_poll(life->io, 100 * NS_PER_US);
        }
        ASSERT(started == 1 || read_done);
        ASSERT(read.status <= 0 && read.bytes <= sizeof(buffer));
        if (read.status < 0 || read.bytes == 0)
            return;
        ASSERT(read.next_offset > read.offset);
        read.offset = read.next_offset;
    }
}

static void read_all(struct life *life)
{
    struct partitions *partitions = store_partitions(life->shard.store);
    for (uint32_t i = 0; i < partitions_count(partitions); i++)
        read_partition(life, partitions_at(partitions, i));
}
