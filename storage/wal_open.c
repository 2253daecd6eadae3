/* The two ends of a log's life: made, opened, closed.
 *
 * The happy path of opening: recover_run() reads, replays and decides; what it found becomes live
 * segments, the open one, spares and raw material; slots are taken from the arena; appending may
 * begin. Opening blocks.
 *
 * It can fail with whatever recovery says, and then nothing is left open; *result tells file and
 * place. */
#include "storage/wal_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define LEAD_BYTES (4 * MIB) // of the first segment, zeroed before the first start is over
#define SLACK_SEGMENTS 8u    // objects beyond the budget: raw material, a lowered budget

struct maker { // of the first files
    const struct wal_options *options;
    uint8_t *zeros;
    uint8_t header[DISK_SEGMENT_DATA] __attribute__((aligned(DISK_BLOCK)));
};

static int create_all(struct maker *maker);
static int create_file(struct maker *maker, const char *from, const char *to, uint64_t number,
                       uint64_t zero_bytes);
static int create_content(struct maker *maker, int fd, uint64_t number, uint64_t zero_bytes);
static int make(const struct wal_options *options, const struct recover_result *result,
                struct recover_log *log, struct wal **wal_out);
static int slots_make(struct wal *wal);
static int files_make(struct wal *wal, struct recover_log *log);
static void file_take(struct wal *wal, struct recover_file *file);
static void file_path(const struct wal *wal, const char *name, char *path);
static void place_take(struct wal *wal, const struct recover_log *log,
                       const struct recover_result *result);
static void spares_failed(void *context, int status, int os_error);
static uint32_t power_of_two(uint32_t at_least);
static bool wal_has_flight(const struct wal *wal);
static void wait_quiet(struct wal *wal);

/* ---- made ---- */

int wal_create(const struct wal_options *options)
{
    struct maker *maker = aligned_alloc(DISK_BLOCK, align_up(sizeof(*maker), DISK_BLOCK));
    if (maker == NULL)
        return E_NO_MEMORY;
    maker->options = options;
    maker->zeros = aligned_alloc(DISK_BLOCK, SPARES_ZERO_BYTES);
    int status = maker->zeros ? 0 : E_NO_MEMORY;
    if (status == 0) {
        memset(maker->zeros, 0, SPARES_ZERO_BYTES);
        status = create_all(maker);
    }
    free(maker->zeros);
    free(maker);
    return status;
}

/* The open one, its successor, and one file's worth of blocks for the one after that: with three
 * files the log can roll and recycle for ever on a disk that is full. */
static int create_all(struct maker *maker)
{
    const struct wal_options *options = maker->options;
    uint64_t lead = min_u64(LEAD_BYTES, options->segment_bytes);
    int status = create_file(maker, "new-0000000000000001.tmp", "0000000000000001.wal", 1, lead);
    if (status == 0)
        status = create_file(maker, "new-0000000000000002.tmp", "0000000000000002.wal", 2, 0);
    if (status == 0)
        status = create_file(maker, "new-0000000000000003.tmp", NULL, 0, 0);
    if (status == 0)
        status = io_sync_dir_wait(options->io, options->dir);
    return status;
}

static int create_file(struct maker *maker, const char *from, const char *to, uint64_t number,
                       uint64_t zero_bytes)
{
    const struct wal_options *options = maker->options;
    char path[SEGMENT_PATH_MAX];
    char path_to[SEGMENT_PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", options->dir, from);
    uint32_t flags = segment_open_flags(options->no_direct, false) | O_CREAT | O_TRUNC;
    int fd = io_open_wait(options->io, path, flags, 0640);
    if (fd < 0)
        return fd == E_INVALID ? E_NO_DIRECT : fd;
    int status = create_content(maker, fd, number, zero_bytes);
    (void)io_close_wait(options->io, fd);
    if (status < 0 || to == NULL)
        return status;
    snprintf(path_to, sizeof(path_to), "%s/%s", options->dir, to);
    return io_rename_wait(options->io, path, path_to);
}

static int create_content(struct maker *maker, int fd, uint64_t number, uint64_t zero_bytes)
{
    const struct wal_options *options = maker->options;
    int status = io_allocate(options->io, fd, options->segment_bytes);
    for (uint64_t at = 0; at < zero_bytes && status >= 0; at += SPARES_ZERO_BYTES)
        status = io_write_wait(options->io, fd, maker->zeros, SPARES_ZERO_BYTES, at);
    if (status >= 0 && number != 0) {
        struct segment_head head = {.shard_id = options->shard_id,
                                    .number = number,
                                    .generation = random_u64(options->random),
                                    .segment_bytes = options->segment_bytes};
        memcpy(head.store_id, options->store_id, sizeof(head.store_id));
        segment_head_make(maker->header, &head, 0);
        status = io_write_wait(options->io, fd, maker->header, DISK_SEGMENT_DATA, 0);
    }
    return status < 0 ? status : io_fdatasync_wait(options->io, fd);
}

/* ---- opened ---- */

size_t wal_arena_bytes(const struct wal_options *options)
{
    return group_slots_arena_bytes(options) + SPARES_ZERO_BYTES + DISK_SEGMENT_DATA +
           (size_t)WAL_JUMBO_SLOTS * DISK_BLOCK;
}

int wal_open(const struct wal_options *options, const struct recover_options *recover,
             struct recover_result *result, struct wal **wal_out)
{
    struct recover_log log;
    ASSERT(options->segment_bytes >= 4 * MIB && options->segment_bytes % MIB == 0);
    ASSERT(options->batch_bytes_max <= options->segment_bytes / 4);
    ASSERT(options->bytes_budget >= 4 * options->segment_bytes && options->group_slot_count >= 2);
    *wal_out = NULL;
    int status = recover_run(options, recover, result, &log);
    if (status < 0)
        return status;
    status = make(options, result, &log, wal_out);
    recover_log_free(options->io, &log);
    return status;
}

static int make(const struct wal_options *options, const struct recover_result *result,
                struct recover_log *log, struct wal **wal_out)
{
    struct wal *wal = calloc(1, sizeof(*wal));
    if (wal == NULL)
        return E_NO_MEMORY;
    wal->options = *options;
    int status = slots_make(wal);
    if (status == 0)
        status = files_make(wal, log);
    if (status < 0) {
        wal_free(wal);
        return status;
    }
    place_take(wal, log, result);
    *wal_out = wal;
    return 0;
}

static int slots_make(struct wal *wal)
{
    uint32_t count = wal->options.group_slot_count;
    wal->normal.groups = calloc(count, sizeof(struct group));
    wal->jumbo.groups = calloc(WAL_JUMBO_SLOTS, sizeof(struct group));
    wal->mark.groups = calloc(1, sizeof(struct group));
    uint32_t queue_size = power_of_two(count + WAL_JUMBO_SLOTS + 1);
    wal->queue = calloc(queue_size, sizeof(*wal->queue));
    wal->queue_mask = queue_size - 1;
    wal->payload_hash = hash_stream_new();
    if (!wal->normal.groups || !wal->jumbo.groups || !wal->mark.groups || !wal->queue ||
        !wal->payload_hash)
        return E_NO_MEMORY;
    group_slots_init(wal, &wal->normal, count, GROUP_BYTES_MAX);
    group_slots_init(wal, &wal->jumbo, WAL_JUMBO_SLOTS, group_jumbo_bytes(&wal->options));
    group_slots_init(wal, &wal->mark, 1, DISK_BLOCK);
    return 0;
}

static int files_make(struct wal *wal, struct recover_log *log)
{
    const struct wal_options *options = &wal->options;
    uint64_t budget = options->bytes_budget / options->segment_bytes;
    uint32_t file_count_max = (uint32_t)min_u64(budget, 65536);
    uint32_t capacity =
        SLACK_SEGMENTS + (log->count > file_count_max ? log->count : file_count_max);
    struct spares_options spares = {
        .io = options->io,
        .random = options->random,
        .dir = options->dir,
        .shard_id = options->shard_id,
        .segment_bytes = options->segment_bytes,
        .file_count_max = file_count_max,
        .no_direct = options->no_direct,
        .zeros = arena_alloc(options->arena, SPARES_ZERO_BYTES, DISK_BLOCK),
        .header = arena_alloc(options->arena, DISK_SEGMENT_DATA, DISK_BLOCK),
        .context = wal,
        .on_failed = spares_failed,
    };
    memcpy(spares.store_id, options->store_id, sizeof(spares.store_id));
    uint32_t live_size = power_of_two(capacity);
    wal->live.items = calloc(live_size, sizeof(*wal->live.items));
    wal->live.mask = live_size - 1;
    if (wal->live.items == NULL || spares_init(&wal->spares, &spares, capacity) < 0)
        return E_NO_MEMORY;
    wal->spares.next_number = log->next_number;
    wal->hole_count = log->hole_count;
    memcpy(wal->holes, log->holes, sizeof(wal->holes));
    for (uint32_t i = 0; i < log->count; i++)
        file_take(wal, &log->files[i]);
    return 0;
}

/* Takes over the descriptor. Changes nothing on disk: the start may still refuse. */
static void file_take(struct wal *wal, struct recover_file *file)
{
    bool full = file->size_bytes == wal->options.segment_bytes;
    struct segment *segment = spares_segment_new(&wal->spares);
    segment->number = file->number;
    segment->generation = file->generation;
    segment->base_lsn = file->base_lsn;
    segment->end_lsn = file->end_lsn;
    segment->written = full && (file->written || strncmp(file->name, "recycled-", 9) == 0);
    segment->holes = wal->holes;
    segment->hole_count = wal->hole_count;
    segment->fd = file->fd;
    file->fd = -1;
    file_path(wal, file->name, segment->path);
    switch (file->role) {
    case RECOVER_LIVE:
        segment->state = SEGMENT_CLOSED;
        wal->closed_count++;
        segment_queue_push(&wal->live, segment);
        break;
    case RECOVER_OPEN:
        segment->state = SEGMENT_OPEN;
        wal->open = segment;
        segment_queue_push(&wal->live, segment);
        break;
    case RECOVER_SPARE:
        segment->state = segment->written ? SEGMENT_READY : SEGMENT_PREPARING;
        spares_add_named(&wal->spares, segment);
        break;
    case RECOVER_RAW:
        segment->is_too_long = file->size_bytes > wal->options.segment_bytes;
        spares_add_raw(&wal->spares, segment);
        break;
    }
}

static void file_path(const struct wal *wal, const char *name, char *path)
{
    int len = snprintf(path, SEGMENT_PATH_MAX, "%s/%s", wal->options.dir, name);
    ASSERT(len > 0 && len < SEGMENT_PATH_MAX);
}

static void place_take(struct wal *wal, const struct recover_log *log,
                       const struct recover_result *result)
{
    uint64_t lsn = log->end.lsn;
    wal->next_lsn = lsn;
    wal->next_number = log->end.group_number + 1;
    wal->chain = log->end.chain;
    wal->append_time_ms = log->end.append_time_ms;
    wal->marks = (struct wal_marks){lsn, lsn, lsn, lsn, lsn};
    wal->data_end_lsn = log->data_end_lsn;
    wal->proven_lsn = result->proven_lsn;
    wal->open_is_bare = log->open_is_bare;
    wal->position_lsn = UINT64_MAX;
}

static uint32_t power_of_two(uint32_t at_least)
{
    uint32_t size = 1;
    while (size < at_least)
        size *= 2;
    return size;
}

static void spares_failed(void *context, int status, int os_error)
{
    struct wal *wal = context;
    wal_fail(wal, status, os_error, "sync of the directory", wal->options.dir);
}

/* ---- closed ---- */

int wal_close(struct wal *wal)
{
    while (!wal->failed && wal->marks.durable != wal_marks(wal).reserved) {
        (void)group_submit_some(wal, true);
        (void)sync_start(wal);
        (void)io_poll(wal->options.io, UINT64_MAX);
    }
    /* Whoever asked for the position at this very end writes a checkpoint there, which proves as
     * much; a MARK behind a checkpoint that says "closed cleanly" would contradict it. */
    if (!wal->failed && !wal->closed && wal->proven_lsn < wal->data_end_lsn &&
        wal->position_lsn != wal->next_lsn)
        (void)group_submit_mark(wal);
    wal->closed = true;
    wal->fill_room = 0;
    (void)spares_stop(&wal->spares);
    wait_quiet(wal);
    return wal->failed ? E_CLOSED : 0;
}

void wal_abandon(struct wal *wal)
{
    ASSERT(wal->marks.durable == wal_marks(wal).reserved);
    wal->closed = true;
}

/* The MARK is made durable too; of a failed log only the ends of its operations are waited for. */
static void wait_quiet(struct wal *wal)
{
    while (wal_has_flight(wal) || (!wal->failed && wal->marks.durable != wal->marks.submitted)) {
        (void)sync_start(wal);
        (void)io_poll(wal->options.io, UINT64_MAX);
    }
}

static bool wal_has_flight(const struct wal *wal)
{
    return wal->writes_in_flight > 0 || wal->syncs_in_flight > 0 ||
           io_op_is_active(&wal->spares.op);
}

void wal_free(struct wal *wal)
{
    if (wal == NULL)
        return;
    ASSERT(!wal_has_flight(wal));
    for (uint32_t i = 0; i < segment_queue_count(&wal->live); i++)
        (void)io_close_wait(wal->options.io, segment_queue_at(&wal->live, i)->fd);
    if (wal->spares.pool) {
        spares_close(&wal->spares);
        spares_deinit(&wal->spares);
    }
    free(wal->live.items);
    free(wal->normal.groups);
    free(wal->jumbo.groups);
    free(wal->mark.groups);
    free(wal->queue);
    hash_stream_free(wal->payload_hash);
    free(wal);
}
