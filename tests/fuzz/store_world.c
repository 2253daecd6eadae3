/* Directories to begin with, made by the store itself, and lives on them.
 *
 * The log has an entry of each type that is written, for one shard that is coordinator and participant
 * of its transactions, and holder of its groups. */
#include "tests/fuzz/store_world.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/status.h"
#include "broker/groups.h"
#include "broker/participants.h"
#include "broker/shard_state.h"
#include "broker/transactions.h"
#include "storage/inspect.h"
#include "storage/store_private.h"

#define DISK_BYTES (256 * MIB)
#define TOPIC_ID 1u
#define PRODUCER 100u
#define TXN_ID "pay"
#define PAYLOAD_MAX 4096

static struct arena arena; // of all lives: each begins where the one before it began
static struct store_identity identity = {.shard_count = 1, .segment_bytes = WORLD_SEGMENT_BYTES};
static struct sim_disk *images[IMAGE_COUNT];
static size_t open_bytes[IMAGE_COUNT]; // what opening it took

static void images_make(void);
static void fill_first(struct life *life);
static void fill_second(struct life *life);

/* Ids and generations are the same in each process and each image: else an input would mean something else each time, and a
 * start would refuse all images but the last as another store's. */
uint64_t __wrap_random_seed_system(void);
uint64_t __wrap_random_seed_system(void)
{
    return UINT64_C(0x51c6e5eed);
}

/* ---- a life ---- */

static void on_visible(void *context, struct partition *partition)
{
    (void)context;
    (void)partition;
}

static void on_committed(void *context, uint64_t lsn)
{
    (void)context;
    (void)lsn;
}

static void on_room(void *context)
{
    (void)context;
}

/* When a life ends with something in flight, and then only. */
static void on_failed(void *context, const struct wal_failure *failure)
{
    (void)context;
    ASSERT(failure->status == E_CANCELED);
}

static struct store_options options_of(struct life *life)
{
    struct store_options options = {
        .io = life->io,
        .clock = io_sim_clock(life->io),
        .random = &life->random,
        .arena = &arena,
        .dir = WORLD_DIR,
        .segment_bytes = WORLD_SEGMENT_BYTES,
        .batch_bytes_max = (uint32_t)(256 * KIB),
        .group_slot_count = 2,
        .wal_bytes_budget = 16 * MIB,
        .index_cache_bytes = 1 * MIB,
        .read_slot_count = 1,
        .partition_count_max = 64,
        .disk_free_throttle_percent = 5,
        .disk_free_refuse_percent = 2,
        .context = &life->shard,
        .loaded = shard_state_loaded,
        .apply = shard_state_apply,
        .on_visible = on_visible,
        .on_committed = on_committed,
        .on_room = on_room,
        .on_failed = on_failed,
        .on_partition_drop = on_visible,
    };
    memcpy(options.store_id, identity.store_id, sizeof(options.store_id));
    return options;
}

static void life_io(struct life *life, struct sim_disk *disk, uint64_t number)
{
    *life = (struct life){.disk = disk};
    life->io = io_sim_new(disk, &(struct io_sim_options){.seed = number,
                                                         .latency_ns_max = 1000,
                                                         .start_ns = NS_PER_S * number,
                                                         .wall_ms = 1700000000000 + number * 1000});
    random_init(&life->random, number);
}

/* The arena's contract is zeroed memory; what the life before it wrote to is what it had. */
static void arena_begin(const struct store_options *options)
{
    if (arena.base == NULL)
        ASSERT(arena_init(&arena, store_arena_bytes(options) + MIB, false) == 0);
    arena.used = 0;
}

int life_begin(struct life *life, struct sim_disk *disk, uint64_t number)
{
    struct table *tables[SHARD_TABLES_MAX];
    life_io(life, disk, number);
    life->shard.shard_count = 1;
    ASSERT(shard_state_new(&life->shard) == 0);
    struct store_options options = options_of(life);
    options.tables = tables;
    options.table_count = shard_state_tables(&life->shard, tables);
    arena_begin(&options);
    memory_bound_begin();
    int status = store_open(&options, &life->result, life->text, &life->shard.store);
    life->open_bytes = memory_bound_stop();
    return status;
}

void life_end(struct life *life)
{
    io_sim_kill(life->io);
    if (life->shard.store)
        store_free(TAKE(life->shard.store));
    shard_state_free(&life->shard);
    io_free(life->io);
}

uint64_t life_digest(const struct life *life)
{
    const struct store *store = life->shard.store;
    uint64_t digest = 0;
    for (uint32_t i = 0; i < store->table_count; i++)
        digest = digest * 0x9e3779b97f4a7c15ull + table_digest(store->tables[i]);
    return digest;
}

/* ---- filling ---- */

static void turn(struct life *life)
{
    (void)store_turn(life->shard.store, io_sim_now_ns(life->io), io_sim_now_wall_ms(life->io));
    (void)io_poll(life->io, 100 * NS_PER_US);
}

static void flush(struct life *life)
{
    struct store *store = life->shard.store;
    while (store_committed_lsn(store) < store_reserved_lsn(store))
        turn(life);
}

/* One entry; returns its LSN. A staged batch is handed over as the broker does, in two pieces. */
static uint64_t append(struct life *life, uint8_t type, uint32_t topic_id, uint32_t partition,
                       const void *payload, size_t len)
{
    size_t first = type == ENTRY_STAGED ? sizeof(struct disk_txn_name) : len;
    struct wal_entry entry = {
        .type = type,
        .topic_id = topic_id,
        .partition = partition,
        .pieces = {{payload, (uint32_t)first},
                   {(const uint8_t *)payload + first, (uint32_t)(len - first)}},
        .piece_count = (len > 0) + (len > first),
    };
    struct wal_view view;
    uint64_t base_offset;
    int status;
    while ((status = store_append(life->shard.store, &entry, &view, &base_offset)) == E_FULL)
        turn(life);
    ASSERT(status == 0);
    return view.lsn;
}

struct payload { // under construction
    uint8_t bytes[PAYLOAD_MAX];
    size_t len;
};

static void add(struct payload *payload, const void *bytes, size_t len)
{
    ASSERT(len <= sizeof(payload->bytes) - payload->len);
    memcpy(payload->bytes + payload->len, bytes, len);
    payload->len += len;
}

static void add_zeros_to(struct payload *payload, size_t alignment)
{
    static const uint8_t zeros[8];
    add(payload, zeros, align_up(payload->len, alignment) - payload->len);
}

static uint64_t append_payload(struct life *life, uint8_t type, const struct payload *payload)
{
    return append(life, type, 0, 0, payload->bytes, payload->len);
}

static size_t build_batch(uint8_t *bytes, size_t capacity, uint64_t producer_id, uint32_t sequence,
                          bool staged)
{
    struct batch_builder builder;
    uint8_t *batch;
    struct record record = {.timestamp_ms = 1700000000000,
                            .key = slice_of_text("k"),
                            .value = slice_of_text("the value of a record")};
    batch_builder_init(&builder, bytes, (uint32_t)capacity);
    for (int i = 0; i < 3; i++)
        ASSERT(batch_builder_add(&builder, &record) == 0);
    uint32_t size =
        batch_builder_finish(&builder, CODEC_NONE, producer_id, 0, sequence, NULL, 0, &batch);
    memmove(bytes, batch, size);
    if (staged) {
        struct batch_header *header = (struct batch_header *)bytes;
        header->attributes = be16_make(be16_get(header->attributes) | BATCH_TRANSACTIONAL);
        batch_set_producer(bytes, producer_id, 0, sequence);
    }
    return size;
}

static void publish(struct life *life, uint32_t partition, uint64_t producer_id, uint32_t sequence)
{
    uint8_t bytes[1024];
    size_t size = build_batch(bytes, sizeof(bytes), producer_id, sequence, false);
    append(life, ENTRY_BATCH, TOPIC_ID, partition, bytes, size);
}

static void make_topic(struct life *life, uint32_t topic_id, const char *name, uint32_t partitions)
{
    struct disk_partition_open settings = {.revision = le64_make(1),
                                           .retention_ms = le64_make(UINT64_MAX),
                                           .retention_bytes = le64_make(UINT64_MAX),
                                           .batch_bytes_max = le32_make(65536)};
    struct disk_topic topic = {.topic_id = le32_make(topic_id),
                               .partition_count = le32_make(partitions),
                               .confirmed = le64_make(partitions),
                               .settings = settings,
                               .name_length = (uint8_t)strlen(name),
                               .settled = 1};
    memcpy(topic.name, name, strlen(name));
    append(life, ENTRY_TOPIC, topic_id, 0, &topic, sizeof(topic));
    for (uint32_t i = 0; i < partitions; i++)
        append(life, ENTRY_PARTITION_OPEN, topic_id, i, &settings, sizeof(settings));
}

static void make_slots(struct life *life)
{
    static const le16 owners[SLOT_COUNT];
    le64 end = le64_make(PRODUCER + 1000);
    append(life, ENTRY_SLOT_TABLE, 0, 0, owners, sizeof(owners));
    append(life, ENTRY_PID_BLOCK, 0, 0, &end, sizeof(end));
}

static void commit_offsets(struct life *life, const struct disk_txn_name *name, uint64_t offset)
{
    struct payload payload = {.len = 0};
    struct disk_group_change change = {
        .kind = GROUP_CHANGE_GENERATION, .group_length = 6, .generation = le32_make(1)};
    add(&payload, &change, sizeof(change));
    add(&payload, "clerks", 6);
    append_payload(life, ENTRY_GROUP, &payload);
    struct disk_offset_commit head = {.item_count = le32_make(1),
                                      .generation = le32_make(1),
                                      .group_length = 6,
                                      .member_length = 2};
    struct offset_item item = {.topic_id = le32_make(TOPIC_ID), .offset = le64_make(offset)};
    if (name)
        head.name = *name;
    payload.len = 0;
    add(&payload, &head, sizeof(head));
    add(&payload, "clerksm1", 8);
    add_zeros_to(&payload, 8);
    add(&payload, &item, sizeof(item));
    append_payload(life, ENTRY_OFFSET_COMMIT, &payload);
}

/* Opens a transaction and stages into it; the name is its LSN. */
static struct disk_txn_name begin_transaction(struct life *life, uint32_t sequence)
{
    struct payload payload = {.len = 0};
    struct disk_txn_open open = {.producer_id = le64_make(PRODUCER),
                                 .timeout_ms = le32_make(60000)};
    add(&payload, &open, sizeof(open));
    add(&payload, TXN_ID, strlen(TXN_ID));
    struct disk_txn_name name = {.open_lsn =
                                     le64_make(append_payload(life, ENTRY_TXN_OPEN, &payload))};
    struct disk_txn_join join = {.name = name};
    append(life, ENTRY_TXN_JOIN, 0, 0, &join, sizeof(join));
    payload.len = 0;
    add(&payload, &name, sizeof(name));
    payload.len += build_batch(payload.bytes + payload.len, 1024, PRODUCER, sequence, true);
    append(life, ENTRY_STAGED, TOPIC_ID, 1, payload.bytes, payload.len);
    commit_offsets(life, &name, sequence + 1);
    return name;
}

static void prepare(struct life *life, const struct disk_txn_name *name, uint32_t decision)
{
    struct disk_prepare vote = {.name = *name};
    uint64_t lsn = append(life, ENTRY_PREPARE, 0, 0, &vote, sizeof(vote));
    flush(life);
    struct payload payload = {.len = 0};
    struct disk_txn_decide decide = {
        .name = *name, .decision = le32_make(decision), .participant_count = le32_make(1)};
    struct disk_txn_participant participant = {.prepare_lsn = le64_make(lsn)};
    add(&payload, &decide, sizeof(decide));
    add(&payload, &participant, sizeof(participant));
    append_payload(life, ENTRY_DECIDE, &payload);
}

static void end_transaction(struct life *life, const struct disk_txn_name *name, bool commit)
{
    struct wal_view view;
    if (commit)
        ASSERT(store_append_commit(life->shard.store, name, 0, &view) == 0);
    else
        ASSERT(store_append_abort(life->shard.store, name, 0, &view) == 0);
    append(life, ENTRY_TXN_END, 0, 0, name, sizeof(*name));
}

static void fill_first(struct life *life)
{
    struct payload payload = {.len = 0};
    struct disk_producer_open open = {.producer_id = le64_make(PRODUCER)};
    make_slots(life);
    make_topic(life, TOPIC_ID, "orders", 3);
    make_topic(life, 2, "gone", 1);
    flush(life);
    for (uint32_t i = 0; i < 6; i++) {
        publish(life, i % 3, i < 3 ? PRODUCER_NONE : PRODUCER, i < 3 ? UINT32_MAX : 0);
        if (i % 2)
            flush(life);
    }
    add(&payload, &open, sizeof(open));
    add(&payload, TXN_ID, strlen(TXN_ID));
    append_payload(life, ENTRY_PRODUCER_OPEN, &payload);
    struct disk_txn_name name = begin_transaction(life, 3);
    flush(life);
    prepare(life, &name, TXN_DECIDE_COMMIT);
    flush(life);
    end_transaction(life, &name, true);
    flush(life);
}

static void fill_second(struct life *life)
{
    struct disk_log_start start = {.log_start = le64_make(3), .bytes_gone = le64_make(100)};
    le64 producer = le64_make(PRODUCER);
    commit_offsets(life, NULL, 3);
    struct disk_txn_name name = begin_transaction(life, 6);
    flush(life);
    prepare(life, &name, TXN_DECIDE_ABORT);
    end_transaction(life, &name, false);
    append(life, ENTRY_LOG_START, TOPIC_ID, 0, &start, sizeof(start));
    append(life, ENTRY_PRODUCER_EXPIRE, TOPIC_ID, 2, &producer, sizeof(producer));
    append(life, ENTRY_PARTITION_DROP, 2, 0, &(struct disk_partition_open){0},
           sizeof(struct disk_partition_open));
    append(life, ENTRY_TOPIC_DROP, 2, 0, "", 0);
    flush(life);
    publish(life, 1, PRODUCER_NONE, UINT32_MAX);
    name = begin_transaction(life, 9); // stays open
    flush(life);
    prepare(life, &name, TXN_DECIDE_PREPARED);
    flush(life);
}

/* ---- images ---- */

static struct sim_disk *disk_make(void)
{
    struct sim_disk *disk = sim_disk_new(1, DISK_BYTES);
    struct life life;
    int lock_fd;
    life_io(&life, disk, 1);
    ASSERT(store_dir_open(life.io, WORLD_DIR, false, &identity, &lock_fd, life.text) == 0);
    io_sim_kill(life.io);
    io_free(life.io);
    sim_disk_settle(disk);
    return disk;
}

static void begin(struct life *life, struct sim_disk *disk, uint64_t number)
{
    if (life_begin(life, disk, number) != 0) {
        fprintf(stderr, "%s\n", life->text);
        ASSERT(!"what the store wrote can't be opened");
    }
}

static void end(struct life *life)
{
    struct sim_disk *disk = life->disk;
    life_end(life);
    sim_disk_settle(disk);
}

/* Long enough for a MARK, which proves what is durable, and for checkpoints and spares. */
static void idle(struct life *life)
{
    uint64_t until = io_sim_now_ns(life->io) + 50 * NS_PER_MS;
    while (io_sim_now_ns(life->io) < until)
        turn(life);
}

/* A group below what is proven goes bad; what recovery then names is given up. */
static void make_hole(struct sim_disk *disk)
{
    struct life life;
    struct recover_result result;
    char text[512];
    sim_disk_flip(disk, WORLD_WAL "/0000000000000001.wal", DISK_SEGMENT_DATA + 2 * DISK_BLOCK + 200,
                  1);
    ASSERT(life_begin(&life, disk, 3) == E_CORRUPT);
    uint64_t from = life.result.lsn_from, to = life.result.lsn_to;
    life_end(&life);
    life_io(&life, disk, 4);
    if (inspect_salvage(life.io, WORLD_DIR, 0, from, to, false, &result, text) != 0) {
        fprintf(stderr, "%s\n", text);
        ASSERT(!"salvage refuses what recovery named");
    }
    io_sim_kill(life.io);
    io_free(life.io);
    sim_disk_settle(disk);
}

static struct sim_disk *image_make(enum store_image image)
{
    struct sim_disk *disk = disk_make();
    struct life life;
    if (image == IMAGE_EMPTY)
        return disk;
    begin(&life, disk, 2);
    fill_first(&life);
    if (image == IMAGE_CHECKPOINT) {
        idle(&life);
        store_checkpoint(life.shard.store);
        idle(&life);
    }
    if (image == IMAGE_CUT) { // a last group that the disk has half of
        publish(&life, 0, PRODUCER_NONE, UINT32_MAX);
        uint64_t lsn = store_reserved_lsn(life.shard.store);
        flush(&life);
        end(&life);
        sim_disk_flip(disk, WORLD_WAL "/0000000000000001.wal", DISK_SEGMENT_DATA + lsn - 64, 1);
        begin(&life, disk, 3);
    }
    if (image == IMAGE_HOLE) {
        idle(&life);
        end(&life);
        make_hole(disk);
        begin(&life, disk, 5);
    }
    fill_second(&life);
    idle(&life);
    if (image == IMAGE_CLEAN)
        ASSERT(store_close_clean(life.shard.store, UINT64_MAX) == 0);
    end(&life);
    return disk;
}

static void images_make(void)
{
    struct life life;
    log_set_level(LOG_LEVEL_ERROR + 1);
    for (int i = 0; i < IMAGE_COUNT; i++) {
        images[i] = image_make((enum store_image)i);
        struct sim_disk *copy = sim_disk_copy(images[i], 1);
        begin(&life, copy, 9);
        open_bytes[i] = life.open_bytes;
        life_end(&life);
        sim_disk_free(copy);
    }
}

struct sim_disk *store_image_copy(enum store_image image)
{
    if (images[0] == NULL)
        images_make();
    return sim_disk_copy(images[image], 1);
}

size_t store_image_open_bytes(enum store_image image)
{
    if (images[0] == NULL)
        images_make();
    return open_bytes[image];
}
