/* Which bits there are, and what must be said to each that is another one.
 *
 *     where               a start                         a read                    inspection
 *     replayed            refuses: file, offset, LSN      -                         the same
 *     before              goes on, the same state; or     refuses with the place,   names the group
 *                         refuses, when the first block   or is not touched by it
 *                         of a file is hit
 *     tail                drops it; all acked is there    -                         -
 *     segment header      the other copy: same state      -                         tells which
 *     checkpoint          the older one: same state       -                         names the file
 *     index               same state                      made anew: same bytes     names the file
 *
 * The work of one flip is what the real code does on the flipped bytes: recover_run() as store_open() and inspection call
 * it, store_read(), recover_scan_groups(), checkpoint_scan(), index_image_parse(). A store is opened as a whole, and
 * inspection run as a whole, for one flip of some: they add the same checks around these. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/status.h"
#include "storage/checkpoint.h"
#include "storage/group.h"
#include "storage/index.h"
#include "storage/inspect.h"
#include "tests/bitrot/bitrot.h"

#define SPANS_MAX 64
#define WHOLE_EVERY 2048                            // flips: a whole start, or a whole inspection
#define START_EVERY 64                              // flips of what no start reads
#define HEAD_BYTES (DISK_SEGMENT_DATA + DISK_BLOCK) // what a start reads of each file
#define AIMED_PREFIX 160                            // bytes of each kind of entry

const char *const bitrot_place_names[BITROT_PLACES] = {
    [BITROT_HEADER] = "segment headers", [BITROT_BEFORE] = "log, before the checkpoint",
    [BITROT_REPLAYED] = "log, replayed", [BITROT_TAIL] = "log, never acked",
    [BITROT_INDEX] = "index files",      [BITROT_CHECKPOINT] = "checkpoints",
};

struct span {
    enum bitrot_place place;
    char path[96];
    uint64_t file; // number of the segment; 0: no segment
    uint64_t offset, bytes;
    uint64_t lsn; // of the log: of its first byte
};

struct bitrot_flips {
    struct bitrot *rot;
    struct bitrot_totals *totals;
    struct span spans[SPANS_MAX];
    uint32_t span_count;
    uint64_t bytes;
    uint64_t flipped; // so far
    uint64_t replayed_hash;
    struct io *io; // of rot->disk
    struct wal_options wal;
    struct checkpoint_set set;
    struct checkpoint_identity identity;
    char checkpoint_dir[64];
    struct recover_log log; // open, for scans
    struct recover_result *result;
    struct bitrot_life reader; // on a copy
    struct sim_disk *reader_disk;
    uint8_t *index_bytes;
};

struct flip { // one
    struct bitrot_flips *flips;
    const struct span *span;
    uint64_t number;
    uint64_t offset; // in the file
    uint64_t lsn;
    uint8_t mask;
    const struct bitrot_group *group; // of the log
};

static void spans_of_log(struct bitrot_flips *flips);
static void spans_of_files(struct bitrot_flips *flips);
static void baseline(struct bitrot_flips *flips);
static void flip_replayed(struct flip *flip);
static void flip_before(struct flip *flip);
static void flip_tail(struct flip *flip);
static void flip_header(struct flip *flip);
static void flip_index(struct flip *flip);
static void flip_checkpoint(struct flip *flip);

/* ---- set-up ---- */

struct bitrot_flips *bitrot_flips_new(struct bitrot *rot, struct bitrot_totals *totals)
{
    struct bitrot_flips *flips = calloc(1, sizeof(*flips));
    flips->rot = rot;
    flips->totals = totals;
    flips->result = calloc(1, sizeof(*flips->result));
    flips->index_bytes = malloc(BITROT_SEGMENT_BYTES);
    flips->io = io_sim_new(rot->disk, &(struct io_sim_options){.seed = 6, .wall_ms = rot->wall_ms});
    flips->wal = (struct wal_options){
        .io = flips->io, .dir = rot->wal_dir, .segment_bytes = BITROT_SEGMENT_BYTES};
    memcpy(flips->wal.store_id, rot->options.store_id, sizeof(flips->wal.store_id));
    memcpy(flips->identity.store_id, rot->options.store_id, sizeof(flips->identity.store_id));
    snprintf(flips->checkpoint_dir, sizeof(flips->checkpoint_dir), "%s/shard-000/checkpoint",
             BITROT_DIR);
    if (checkpoint_scan(flips->io, flips->checkpoint_dir, &flips->identity, &flips->set) < 0 ||
        flips->set.count != 2 || flips->set.heads[0].position.lsn != rot->checkpoint_lsn)
        bitrot_fail("the checkpoints are not as they were made");
    spans_of_log(flips);
    spans_of_files(flips);
    for (uint32_t i = 0; i < flips->span_count; i++)
        flips->bytes += flips->spans[i].bytes;
    baseline(flips);
    return flips;
}

void bitrot_flips_free(struct bitrot_flips *flips)
{
    bitrot_close(&flips->reader);
    sim_disk_free(flips->reader_disk);
    recover_log_free(flips->io, &flips->log);
    io_free(flips->io);
    free(flips->index_bytes);
    free(flips->result);
    free(flips);
}

static struct span *span_add(struct bitrot_flips *flips, const struct span *span)
{
    if (flips->span_count == SPANS_MAX)
        bitrot_fail("too many spans");
    flips->spans[flips->span_count] = *span;
    return &flips->spans[flips->span_count++];
}

static enum bitrot_place place_of(const struct bitrot *rot, uint64_t lsn)
{
    return lsn < rot->checkpoint_lsn ? BITROT_BEFORE
           : lsn < rot->durable_lsn  ? BITROT_REPLAYED
                                     : BITROT_TAIL;
}

/* Groups of one file and one place lie back to back. */
static void spans_of_log(struct bitrot_flips *flips)
{
    const struct bitrot *rot = flips->rot;
    struct span *span = NULL;
    for (uint32_t i = 0; i < rot->group_count; i++) {
        const struct bitrot_group *group = &rot->groups[i];
        enum bitrot_place place = place_of(rot, group->lsn);
        if (!span || span->file != group->file || span->place != place)
            span = span_add(flips, &(struct span){.place = place,
                                                  .file = group->file,
                                                  .offset = group->offset,
                                                  .lsn = group->lsn});
        segment_path_make(span->path, rot->wal_dir, group->file);
        span->bytes += group->bytes;
    }
}

static uint64_t size_of(const struct bitrot *rot, const char *path)
{
    struct sim_file *file = sim_disk_find(rot->disk, path);
    return file ? file->size : 0;
}

static void spans_of_files(struct bitrot_flips *flips)
{
    const struct bitrot *rot = flips->rot;
    for (uint64_t number = 1; number < 16; number++) {
        struct span span = {.place = BITROT_HEADER, .file = number, .bytes = DISK_SEGMENT_DATA};
        segment_path_make(span.path, rot->wal_dir, number);
        if (size_of(rot, span.path) > 0)
            (void)span_add(flips, &span);
    }
    for (uint64_t number = 1; number < 16; number++) {
        struct span span = {.place = BITROT_INDEX, .file = number};
        snprintf(span.path, sizeof(span.path), "%s/%016llx.idx", rot->wal_dir,
                 (unsigned long long)number);
        span.bytes = size_of(rot, span.path);
        if (span.bytes > 0)
            (void)span_add(flips, &span);
    }
    for (uint32_t i = 0; i < flips->set.count; i++) {
        struct span span = {.place = BITROT_CHECKPOINT};
        struct disk_checkpoint head;
        snprintf(span.path, sizeof(span.path), "%s/%016llx.ckpt", flips->checkpoint_dir,
                 (unsigned long long)flips->set.heads[i].number);
        (void)sim_file_read(sim_disk_find(rot->disk, span.path), (uint8_t *)&head, 0, sizeof(head));
        span.bytes = DISK_BLOCK + align_up(le64_get(head.body_bytes), DISK_BLOCK);
        (void)span_add(flips, &span);
    }
}

/* ---- what the production code says ---- */

struct replay {
    uint64_t hash; // of the entries below the durable LSN
    uint64_t durable_lsn;
};

static int replay_entry(void *context, const struct wal_view *view)
{
    struct replay *replay = context;
    uint64_t words[5] = {view->lsn, view->type, view->topic_id, view->partition,
                         view->append_time_ms};
    if (view->lsn >= replay->durable_lsn)
        return 0;
    replay->hash = hash_xxh3_seeded(words, sizeof(words), replay->hash);
    replay->hash = hash_xxh3_seeded(view->payload, view->payload_bytes, replay->hash);
    return 0;
}

/* As store_open() does it, but without a write. */
static int recover_again(struct bitrot_flips *flips, struct replay *replay, struct recover_log *log)
{
    struct recover_options recover = {.read_only = true,
                                      .has_checkpoint = true,
                                      .from = flips->set.heads[0].position,
                                      .first_file = flips->set.heads[0].wal_first_file,
                                      .apply = replay_entry,
                                      .context = replay};
    for (uint32_t i = 0; i < flips->set.count; i++)
        recover.proven_lsn = max_u64(recover.proven_lsn, flips->set.heads[i].position.lsn);
    *replay = (struct replay){.durable_lsn = flips->rot->durable_lsn};
    return recover_run(&flips->wal, &recover, flips->result, log);
}

/* Copies of a disk share their blocks: what is flipped in the one would be flipped in the other. */
static void blocks_own(struct sim_disk *disk, const struct sim_disk *other, const char *path)
{
    struct sim_file *file = sim_disk_find(disk, path);
    const struct sim_file *shared = sim_disk_find((struct sim_disk *)(uintptr_t)other, path);
    uint8_t bytes[SIM_BLOCK];
    for (uint64_t b = 0; b < file->block_count; b++) {
        if (!file->seen[b])
            continue;
        (void)sim_file_read(file, bytes, b * SIM_BLOCK, SIM_BLOCK);
        sim_disk_put(disk, path, bytes, b * SIM_BLOCK, SIM_BLOCK);
        if (file->seen[b] == shared->seen[b])
            bitrot_fail("two disks share a block");
    }
}

static void baseline(struct bitrot_flips *flips)
{
    struct bitrot *rot = flips->rot;
    struct replay replay;
    int status = recover_again(flips, &replay, &flips->log);
    if (status < 0 || flips->result->end_lsn != rot->end_lsn || flips->result->rule != 'P')
        bitrot_fail("an intact log is not recovered: %s", flips->result->text);
    flips->replayed_hash = replay.hash;
    flips->reader_disk = sim_disk_copy(rot->disk, 7);
    for (uint32_t i = 0; i < flips->span_count; i++)
        if (flips->spans[i].place == BITROT_HEADER)
            blocks_own(flips->reader_disk, rot->disk, flips->spans[i].path);
    if (bitrot_open(&flips->reader, rot, flips->reader_disk) < 0)
        bitrot_fail("an intact store does not open: %s", flips->reader.text);
    rot->digest = store_digest(flips->reader.store);
    const struct bitrot_batch *bad = bitrot_read_all(&flips->reader, &status);
    if (bad)
        bitrot_fail("an intact batch is not read: %s", status_name(status));
}

static _Noreturn void unnoticed(const struct flip *flip, const char *what)
{
    bitrot_fail(
        "%s: bit %llu (%s, offset %llu, mask %02x, LSN %llu; group at offset %llu, LSN "
        "%llu): %s. Said was: %s, %s at offset %llu, LSN %llu..%llu",
        bitrot_place_names[flip->span->place], (unsigned long long)flip->number, flip->span->path,
        (unsigned long long)flip->offset, flip->mask, (unsigned long long)flip->lsn,
        (unsigned long long)(flip->group ? flip->group->offset : 0),
        (unsigned long long)(flip->group ? flip->group->lsn : 0), what, flip->flips->result->text,
        flip->flips->result->path, (unsigned long long)flip->flips->result->offset,
        (unsigned long long)flip->flips->result->lsn_from,
        (unsigned long long)flip->flips->result->lsn_to);
}

static void expect(const struct flip *flip, bool holds, const char *what)
{
    if (!holds)
        unnoticed(flip, what);
}

/* ---- one flip ---- */

static void poke(struct sim_disk *disk, const char *path, uint64_t offset, uint8_t mask)
{
    struct sim_file *file = sim_disk_find(disk, path);
    uint8_t *block = file->seen[offset / SIM_BLOCK];
    uint8_t *durable = file->durable[offset / SIM_BLOCK];
    if (!block || !durable) {
        sim_disk_flip(disk, path, offset, mask);
        return;
    }
    block[offset % SIM_BLOCK] ^= mask;
    if (durable != block) // mostly they are shared
        durable[offset % SIM_BLOCK] ^= mask;
}

static const struct bitrot_group *group_at(const struct bitrot *rot, uint64_t lsn)
{
    uint32_t low = 0, high = rot->group_count - 1;
    while (low < high) {
        uint32_t middle = (low + high + 1) / 2;
        if (rot->groups[middle].lsn <= lsn)
            low = middle;
        else
            high = middle - 1;
    }
    return &rot->groups[low];
}

uint64_t bitrot_bit_count(const struct bitrot_flips *flips)
{
    return flips->bytes * 8;
}

void bitrot_flip_bit(struct bitrot_flips *flips, uint64_t bit)
{
    static void (*const handlers[])(struct flip *) = {
        [BITROT_HEADER] = flip_header,     [BITROT_BEFORE] = flip_before,
        [BITROT_REPLAYED] = flip_replayed, [BITROT_TAIL] = flip_tail,
        [BITROT_INDEX] = flip_index,       [BITROT_CHECKPOINT] = flip_checkpoint,
    };
    uint64_t at = bit / 8;
    const struct span *span = flips->spans;
    for (; at >= span->bytes; span++)
        at -= span->bytes;
    struct flip flip = {.flips = flips,
                        .span = span,
                        .number = bit,
                        .offset = span->offset + at,
                        .mask = (uint8_t)(1u << bit % 8)};
    if (span->place == BITROT_BEFORE || span->place == BITROT_REPLAYED ||
        span->place == BITROT_TAIL) {
        flip.lsn = span->lsn + at;
        flip.group = group_at(flips->rot, flip.lsn);
    }
    flips->flipped++;
    flips->totals->flips[span->place]++;
    poke(flips->rot->disk, span->path, flip.offset, flip.mask);
    handlers[span->place](&flip);
    poke(flips->rot->disk, span->path, flip.offset, flip.mask);
}

static bool is_turn(const struct flip *flip, uint64_t every)
{
    return flip->flips->flipped % every == 0;
}

/* A refusal names the group that holds the bit. Without its first group nobody knows where a file begins: when that is the
 * checkpoint's, the range is what salvage would have to give up, from the checkpoint on. */
static void expect_refusal(struct flip *flip, int status)
{
    const struct recover_result *result = flip->flips->result;
    expect(flip, status == E_CORRUPT, "a start did not refuse");
    expect(flip, strcmp(result->path, flip->span->path) == 0, "another file is named");
    expect(flip, result->offset == flip->group->offset, "another offset is named");
    bool is_start = flip->span->place == BITROT_BEFORE && flip->offset < HEAD_BYTES &&
                    result->lsn_from == flip->flips->rot->checkpoint_lsn;
    expect(flip, is_start || result->lsn_from == flip->group->lsn, "another LSN is named");
    expect(flip, result->lsn_to > flip->lsn, "the range ends before the damage");
    flip->flips->totals->refused++;
}

static void expect_same_state(struct flip *flip, int status, uint64_t hash)
{
    expect(flip, status == 0, "a start refused what it need not");
    expect(flip, hash == flip->flips->replayed_hash, "a start made another state");
    expect(flip, flip->flips->result->end_lsn == flip->flips->rot->end_lsn, "E is elsewhere");
}

/* ---- whole starts, whole inspections ---- */

struct seen {
    struct flip *flip;
    bool named; // an item of damage about this file, at this place
    bool told;  // an item that a start goes on without
};

static void on_item(void *context, const struct inspect_item *item)
{
    struct seen *seen = context;
    const struct flip *flip = seen->flip;
    if (item->status == 0 || strcmp(item->path, flip->span->path) != 0)
        return;
    bool here = flip->group == NULL ||
                (item->offset == flip->group->offset && item->lsn_from == flip->group->lsn);
    seen->named |= here && item->is_damage;
    seen->told |= here && !item->is_damage;
}

static void inspect_whole(struct flip *flip, bool is_damage)
{
    struct seen seen = {.flip = flip};
    char text[512];
    struct inspect_options options = {.dir = BITROT_DIR,
                                      .shard = INSPECT_ALL_SHARDS,
                                      .verify = true,
                                      .context = &seen,
                                      .report = on_item};
    int status = inspect_run(flip->flips->io, &options, text);
    expect(flip, (status == E_CORRUPT) == is_damage, "inspection judged otherwise");
    expect(flip, is_damage ? seen.named : seen.told, "inspection did not name the place");
    flip->flips->totals->inspections++;
}

static bool text_names(const struct flip *flip, const char *text)
{
    char place[64];
    snprintf(place, sizeof(place), "offset %llu, LSN %llu..",
             (unsigned long long)flip->group->offset, (unsigned long long)flip->group->lsn);
    return strstr(text, flip->span->path) && strstr(text, place);
}

static void start_refused(struct flip *flip)
{
    struct bitrot_life life;
    struct sim_disk *disk = sim_disk_copy(flip->flips->rot->disk, 8);
    uint64_t before = sim_disk_hash(disk);
    int status = bitrot_open(&life, flip->flips->rot, disk);
    expect(flip, status == E_CORRUPT, "a whole start did not refuse");
    expect(flip, text_names(flip, life.text), "a whole start named another place");
    bitrot_close(&life);
    expect(flip, sim_disk_hash(disk) == before, "a start that refused wrote");
    sim_disk_free(disk);
    flip->flips->totals->starts++;
}

/* A start that goes on has all that was acked; so has the next one. */
static void start_goes_on(struct flip *flip, bool is_same)
{
    struct sim_disk *disk = sim_disk_copy(flip->flips->rot->disk, 9);
    for (int i = 0; i < 2; i++) {
        struct bitrot_life life;
        int status = bitrot_open(&life, flip->flips->rot, disk);
        expect(flip, status == 0, life.text);
        expect(flip, !is_same || store_digest(life.store) == flip->flips->rot->digest,
               "a whole start made another state");
        expect(flip, bitrot_read_all(&life, &status) == NULL, "an acked batch is gone");
        bitrot_turns(&life, 50 * NS_PER_MS);
        bitrot_close(&life);
    }
    sim_disk_free(disk);
    flip->flips->totals->starts++;
}

/* ---- by place ---- */

static void flip_replayed(struct flip *flip)
{
    struct replay replay;
    struct recover_log log = {0};
    int status = recover_again(flip->flips, &replay, &log);
    expect_refusal(flip, status);
    if (is_turn(flip, WHOLE_EVERY)) {
        start_refused(flip);
        inspect_whole(flip, true);
    }
}

static void flip_tail(struct flip *flip)
{
    struct replay replay;
    struct recover_log log = {0};
    const struct recover_result *result = flip->flips->result;
    int status = recover_again(flip->flips, &replay, &log);
    recover_log_free(flip->flips->io, &log);
    expect(flip, status == 0, "a start refused for bytes that were never acked");
    expect(flip, replay.hash == flip->flips->replayed_hash, "an acked entry is another one");
    expect(flip, result->end_lsn == flip->group->lsn, "E is not where the damage is");
    bool is_last = flip->group->lsn + flip->group->bytes == flip->flips->rot->end_lsn;
    uint64_t dropped = result->torn_bytes + result->bad_bytes + result->stale_bytes;
    expect(flip, (result->rule == 'O' && dropped > 0) || (result->rule == 'P' && is_last),
           "what was dropped was not counted");
    flip->flips->totals->dropped++;
    if (is_turn(flip, WHOLE_EVERY / 4))
        start_goes_on(flip, false);
}

static void scan_before(struct flip *flip)
{
    struct bitrot_flips *flips = flip->flips;
    struct recover_file *file = flips->log.files;
    while (file->number != flip->span->file)
        file++;
    struct segment segment = {.fd = file->fd,
                              .number = file->number,
                              .generation = file->generation,
                              .base_lsn = file->base_lsn,
                              .end_lsn = file->end_lsn};
    struct replay unused = {.durable_lsn = 0};
    struct wal_position at;
    int status = recover_scan_segment(flips->io, &segment, BITROT_SEGMENT_BYTES, segment.base_lsn,
                                      segment.end_lsn, replay_entry, &unused, &at);
    expect(flip, status == E_CORRUPT, "a scan of the segment found nothing");
    expect(flip, at.lsn == flip->group->lsn, "a scan of the segment named another group");
    flips->totals->found++;
}

/* The batch that holds the bit, or else the first behind it. */
static const struct bitrot_batch *batch_near(const struct bitrot *rot, uint64_t lsn)
{
    const struct bitrot_batch *near = NULL;
    for (uint32_t i = 0; i < rot->batch_count; i++) {
        const struct bitrot_batch *batch = &rot->batches[i];
        if (batch->lsn + batch->size > lsn && (!near || batch->lsn < near->lsn))
            near = batch;
    }
    return near;
}

static void read_before(struct flip *flip)
{
    struct bitrot_flips *flips = flip->flips;
    const struct bitrot_batch *batch = batch_near(flips->rot, flip->lsn);
    const struct bitrot_group *group = group_at(flips->rot, batch->lsn);
    struct store_damage damage;
    bool is_same;
    poke(flips->reader_disk, flip->span->path, flip->offset, flip->mask);
    int status = bitrot_read(&flips->reader, batch, &is_same, &damage);
    poke(flips->reader_disk, flip->span->path, flip->offset, flip->mask);
    expect(flip, is_same || status == E_CORRUPT, "a read gave wrong bytes");
    /* Bit 63 of the base offset alone makes no other batch: the index says where it belongs. */
    bool is_inside = batch->lsn <= flip->lsn && flip->lsn != batch->lsn;
    expect(flip, !is_inside || !is_same, "a read took a damaged batch for a good one");
    flips->totals->reads_same += is_same;
    flips->totals->reads_failed += !is_same;
    if (is_same)
        return;
    expect(flip, batch->lsn <= flip->lsn, "a read failed whose bytes are good");
    expect(flip,
           damage.file_number == group->file && damage.lsn == batch->lsn &&
               damage.file_offset == group->offset + (batch->lsn - group->lsn),
           "a read named another place");
}

static void flip_before(struct flip *flip)
{
    bool is_read = flip->offset < HEAD_BYTES; // by a start
    scan_before(flip);
    read_before(flip);
    if (is_read || is_turn(flip, START_EVERY)) {
        struct replay replay;
        struct recover_log log = {0};
        int status = recover_again(flip->flips, &replay, &log);
        if (status < 0 && is_read)
            expect_refusal(flip, status);
        else
            expect_same_state(flip, status, replay.hash);
        recover_log_free(flip->flips->io, &log);
    }
    if (is_turn(flip, WHOLE_EVERY))
        inspect_whole(flip, true);
}

static void flip_header(struct flip *flip)
{
    struct replay replay;
    struct recover_log log = {0};
    int status = recover_again(flip->flips, &replay, &log);
    expect_same_state(flip, status, replay.hash);
    recover_log_free(flip->flips->io, &log);
    flip->flips->totals->harmless++;
    if (is_turn(flip, WHOLE_EVERY / 64))
        inspect_whole(flip, false);
    if (is_turn(flip, WHOLE_EVERY))
        start_goes_on(flip, true);
}

/* An image is believed wholly or not at all. */
static void flip_index(struct flip *flip)
{
    struct bitrot_flips *flips = flip->flips;
    struct sim_file *disk_file = sim_disk_find(flips->rot->disk, flip->span->path);
    struct recover_file *file = flips->log.files;
    while (file->number != flip->span->file)
        file++;
    struct index_identity identity = {.number = file->number,
                                      .generation = file->generation,
                                      .base_lsn = file->base_lsn,
                                      .end_lsn = file->end_lsn};
    struct index_image image;
    memcpy(identity.store_id, flips->rot->options.store_id, sizeof(identity.store_id));
    (void)sim_file_read(disk_file, flips->index_bytes, 0, disk_file->size);
    int status = index_image_parse(flips->index_bytes, disk_file->size, &identity, &image);
    expect(flip, status < 0, "a damaged index was believed");
    flips->totals->harmless++;
    if (is_turn(flip, WHOLE_EVERY / 2)) {
        start_goes_on(flip, true);
        inspect_whole(flip, false);
    }
}

static void flip_checkpoint(struct flip *flip)
{
    struct bitrot_flips *flips = flip->flips;
    struct checkpoint_set set;
    int status = checkpoint_scan(flips->io, flips->checkpoint_dir, &flips->identity, &set);
    expect(flip, status == 0 && set.count == 1 && set.bad_count == 1,
           "a damaged checkpoint was believed");
    expect(flip, strcmp(set.bad_path, flip->span->path) == 0, "another checkpoint is named");
    flips->totals->harmless++;
    if (is_turn(flip, WHOLE_EVERY / 2)) {
        start_goes_on(flip, true);
        inspect_whole(flip, false);
    }
}

/* ---- aimed: each field of each structure ---- */

struct aim { // `count` bytes from `offset` in one of the spans of a place, or from an LSN
    enum bitrot_place place;
    uint32_t offset, count;
};

static const struct aim aims[] = {
    {BITROT_HEADER, 0, 96},          {BITROT_HEADER, DISK_BLOCK - 8, 8},
    {BITROT_HEADER, DISK_BLOCK, 96}, {BITROT_HEADER, 2 * DISK_BLOCK - 8, 8},
    {BITROT_INDEX, 0, 128},          {BITROT_INDEX, DISK_BLOCK - 8, 8 + 48 + 48},
    {BITROT_CHECKPOINT, 0, 144},     {BITROT_CHECKPOINT, DISK_BLOCK - 8, 8 + 16 + 80},
};

static uint64_t bit_in(const struct bitrot_flips *flips, const struct span *span, uint64_t at,
                       uint32_t bit)
{
    uint64_t bytes = at;
    for (const struct span *before = flips->spans; before < span; before++)
        bytes += before->bytes;
    return bytes * 8 + bit;
}

static uint64_t bit_of_lsn(const struct bitrot_flips *flips, uint64_t lsn, uint32_t bit)
{
    for (uint32_t i = 0; i < flips->span_count; i++) {
        const struct span *span = &flips->spans[i];
        bool is_log = span->place == BITROT_BEFORE || span->place == BITROT_REPLAYED ||
                      span->place == BITROT_TAIL;
        if (is_log && lsn >= span->lsn && lsn < span->lsn + span->bytes)
            return bit_in(flips, span, lsn - span->lsn, bit);
    }
    bitrot_fail("LSN %llu lies nowhere", (unsigned long long)lsn);
}

static const struct span *any_span(const struct bitrot_flips *flips, enum bitrot_place place,
                                   struct random *random)
{
    for (;;) {
        const struct span *span = &flips->spans[random_below(random, flips->span_count)];
        if (span->place == place)
            return span;
    }
}

/* One of the entries of a type: which, is left to chance. */
static const struct bitrot_entry *any_entry(const struct bitrot *rot, uint8_t type,
                                            struct random *random)
{
    uint32_t seen = 0;
    const struct bitrot_entry *chosen = NULL;
    for (uint32_t i = 0; i < rot->entry_count; i++)
        if (rot->entries[i].type == type && random_below(random, ++seen) == 0)
            chosen = &rot->entries[i];
    return chosen;
}

uint32_t bitrot_aimed(const struct bitrot_flips *flips, struct random *random, uint64_t *bits,
                      uint32_t capacity)
{
    const struct bitrot *rot = flips->rot;
    uint32_t count = 0;
    for (size_t i = 0; i < ARRAY_COUNT(aims); i++)
        for (uint32_t at = 0; at < aims[i].count && count < capacity; at++)
            bits[count++] = bit_in(flips, any_span(flips, aims[i].place, random),
                                   aims[i].offset + at, (uint32_t)random_below(random, 8));
    for (uint32_t at = 0; at < 4 * GROUP_HEADER_BYTES && count < capacity; at++) {
        const struct bitrot_group *group = &rot->groups[random_below(random, rot->group_count)];
        bits[count++] = bit_of_lsn(flips, group->lsn + at % GROUP_HEADER_BYTES,
                                   (uint32_t)random_below(random, 8));
    }
    for (uint32_t type = 1; type <= ENTRY_STAGED_MOVED; type++)
        for (uint32_t at = 0; at < AIMED_PREFIX && count < capacity; at++) {
            const struct bitrot_entry *entry = any_entry(rot, (uint8_t)type, random);
            if (entry && at < entry->bytes)
                bits[count++] =
                    bit_of_lsn(flips, entry->lsn + at, (uint32_t)random_below(random, 8));
        }
    return count;
}
