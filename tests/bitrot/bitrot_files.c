/* Whole files that are gone, cut, emptied, overwritten, swapped, doubled, or somebody else's.
 *
 * Each fault is made on a copy of the disk, then a store is started there. Either it refuses, names the file and has
 * written nothing; or it goes on with the same state, and all that was acked is read and compared. Which of the two is the table's
 * business (docs/testing.md shows it); there is no third. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "storage/disk_header.h"
#include "storage/checkpoint.h"
#include "tests/bitrot/bitrot.h"

#define PATH_BYTES 128
#define WAL BITROT_DIR "/shard-000/wal/"
#define CHECKPOINTS BITROT_DIR "/shard-000/checkpoint/"
#define ARCHIVES BITROT_DIR "/shard-000/archive/"

enum target {
    SEGMENT_FIRST,
    SEGMENT_MIDDLE,
    SEGMENT_LAST,      // the log goes on here
    SEGMENT_SUCCESSOR, // of that one
    SEGMENT_SPARE,     // behind it
    CHECKPOINT_NEWEST,
    CHECKPOINT_OLDER,
    CHECKPOINT_BOTH,
    INDEX_FILE,
    ARCHIVE_FILE,
    STORE_FILE,
    TARGETS,
};

enum fault_kind { // what is done to it; a comma-free word each, for the table
    DELETED,
    EMPTY,
    ONE_BYTE,
    HALF,
    ZEROED,
    LONGER,
    FOREIGN,
    OTHER_SHARD,
    SWAPPED,
    DOUBLED,
    FAULT_KINDS,
};

static const char *const target_names[TARGETS] = {"first segment",
                                                  "middle segment",
                                                  "open segment",
                                                  "its successor",
                                                  "spare",
                                                  "newest checkpoint",
                                                  "older checkpoint",
                                                  "both checkpoints",
                                                  "index",
                                                  "archive file",
                                                  "store"};
static const char *const fault_names[FAULT_KINDS] = {"deleted", "empty",  "one byte", "half",
                                                     "zeroed",  "longer", "foreign",  "other shard",
                                                     "swapped", "doubled"};

/* R: refused. S: goes on, the same state. -: there is no such thing. */
static const char expected[TARGETS][FAULT_KINDS + 1] = {
    [SEGMENT_FIRST] = "RRRRRRRRRR",    [SEGMENT_MIDDLE] = "RRRRRRRRRR",
    [SEGMENT_LAST] = "RRRRRRRRRR",     [SEGMENT_SUCCESSOR] = "RRRRRRRRRR",
    [SEGMENT_SPARE] = "SSSSSSRRRR",    [CHECKPOINT_NEWEST] = "SSSSSSRRRS",
    [CHECKPOINT_OLDER] = "SSSSSSRRRS", [CHECKPOINT_BOTH] = "SRRRRSRR--",
    [INDEX_FILE] = "SSSSSSSSSS",       [ARCHIVE_FILE] = "RRRRRRRRRS",
    [STORE_FILE] = "RRRRRSRR--",
};

struct trial {
    struct bitrot *rot;
    struct bitrot *stranger;
    struct sim_disk *disk;
    char path[PATH_BYTES];   // of the file
    char second[PATH_BYTES]; // another of its kind: to swap with; also of CHECKPOINT_BOTH
    const char *store_path;  // DIR/store
    bool both;
};

static bool trial_paths(struct trial *trial, enum target target);
static void trial_apply(struct trial *trial, const char *path, enum fault_kind kind);
static char trial_run(struct trial *trial, char text[512]);
static struct sim_disk *disk_with_spares(const struct bitrot *rot);

uint32_t bitrot_files(struct bitrot *rot, struct bitrot *archived, struct bitrot *stranger,
                      bool verbose)
{
    struct sim_disk *spares = disk_with_spares(rot);
    uint32_t count = 0;
    for (int target = 0; target < TARGETS; target++) {
        struct bitrot *image = target == ARCHIVE_FILE ? archived : rot;
        for (int kind = 0; kind < FAULT_KINDS; kind++) {
            struct trial trial = {.rot = image, .stranger = stranger};
            char text[512] = "", seen;
            if (expected[target][kind] == '-')
                continue;
            trial.disk = sim_disk_copy(target == ARCHIVE_FILE ? archived->disk : spares, 11);
            if (!trial_paths(&trial, (enum target)target))
                bitrot_fail("there is no %s", target_names[target]);
            trial_apply(&trial, trial.path, (enum fault_kind)kind);
            if (trial.both)
                trial_apply(&trial, trial.second, (enum fault_kind)kind);
            seen = trial_run(&trial, text);
            if (verbose)
                printf("%-18s %-12s %c %s\n", target_names[target], fault_names[kind], seen, text);
            if (seen != expected[target][kind])
                bitrot_fail("%s, %s: expected %c, seen %c: %s", target_names[target],
                            fault_names[kind], expected[target][kind], seen, text);
            sim_disk_free(trial.disk);
            count++;
        }
    }
    sim_disk_free(spares);
    return count;
}

/* The same store after some idle time with a larger budget: it has more than the one spare. */
static struct sim_disk *disk_with_spares(const struct bitrot *rot)
{
    struct sim_disk *disk = sim_disk_copy(rot->disk, 12);
    struct bitrot larger = *rot;
    struct bitrot_life life;
    larger.options.wal_bytes_budget = 8 * BITROT_SEGMENT_BYTES;
    if (bitrot_open(&life, &larger, disk) < 0)
        bitrot_fail("an intact store does not open: %s", life.text);
    bitrot_turns(&life, NS_PER_S);
    bitrot_close(&life);
    sim_disk_settle(disk);
    return disk;
}

/* ---- which file ---- */

/* Names in a folder that end so, in order. */
static uint32_t names_in(const struct sim_disk *disk, const char *folder, const char *suffix,
                         char (*names)[PATH_BYTES], uint32_t capacity)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < disk->seen.count; i++) {
        const char *path = disk->seen.names[i].path;
        size_t len = strlen(path);
        if (strncmp(path, folder, strlen(folder)) != 0 || len < strlen(suffix) ||
            strcmp(path + len - strlen(suffix), suffix) != 0 || count == capacity)
            continue;
        snprintf(names[count++], PATH_BYTES, "%s", path);
    }
    qsort(names, count, PATH_BYTES, (int (*)(const void *, const void *))strcmp);
    return count;
}

static bool trial_paths(struct trial *trial, enum target target)
{
    static char names[32][PATH_BYTES];
    bool is_segment = target <= SEGMENT_SPARE, is_archive = target == ARCHIVE_FILE;
    uint32_t count, at = 0, other = 1;
    if (target == STORE_FILE) {
        snprintf(trial->path, PATH_BYTES, BITROT_DIR "/store");
        return true;
    }
    if (is_segment)
        count = names_in(trial->disk, WAL, ".wal", names, 32);
    else if (target == INDEX_FILE)
        count = names_in(trial->disk, WAL, ".idx", names, 32);
    else if (is_archive)
        count = names_in(trial->disk, ARCHIVES, ".arc", names, 32);
    else
        count = names_in(trial->disk, CHECKPOINTS, ".ckpt", names, 32);
    if (is_segment) {
        at = (uint32_t)target - SEGMENT_FIRST;
        other = at == 0 ? 1 : at - 1;
    } else if (target == CHECKPOINT_NEWEST || target == CHECKPOINT_BOTH) {
        at = 1;
        other = 0;
    }
    if (at >= count || other >= count)
        return false;
    snprintf(trial->path, PATH_BYTES, "%s", names[at]);
    snprintf(trial->second, PATH_BYTES, "%s", names[other]);
    trial->both = target == CHECKPOINT_BOTH;
    return true;
}

/* ---- what is done to it ---- */

static uint8_t *slurp(const struct sim_disk *disk, const char *path, uint64_t *size)
{
    struct sim_file *file = sim_disk_find((struct sim_disk *)(uintptr_t)disk, path);
    *size = file ? file->size : 0;
    uint8_t *bytes = malloc(*size + DISK_BLOCK);
    if (file)
        (void)sim_file_read(file, bytes, 0, *size);
    return bytes;
}

static void put(struct sim_disk *disk, const char *path, const uint8_t *bytes, uint64_t size)
{
    if (sim_disk_find(disk, path))
        sim_disk_remove(disk, path);
    sim_disk_put(disk, path, bytes, 0, size);
}

/* Its header blocks say another shard, under good checksums. */
static void shard_change(uint8_t *bytes, uint64_t size)
{
    static const uint64_t magics[] = {DISK_MAGIC_STORE, DISK_MAGIC_SEGMENT, DISK_MAGIC_INDEX,
                                      DISK_MAGIC_CHECKPOINT, DISK_MAGIC_ARCHIVE};
    for (uint64_t at = 0; at + DISK_BLOCK <= size; at += DISK_BLOCK) {
        struct disk_common *common = (struct disk_common *)(bytes + at);
        for (size_t i = 0; i < ARRAY_COUNT(magics); i++) {
            if (le64_get(common->magic) != magics[i])
                continue;
            common->shard_id = le32_make(9);
            disk_header_seal(common);
        }
    }
}

static void doubled_path(const char *path, char *to)
{
    unsigned long long number = strtoull(strrchr(path, '/') + 1, NULL, 16);
    const char *suffix = strrchr(path, '.');
    snprintf(to, PATH_BYTES, "%.*s%016llx%s", (int)(strrchr(path, '/') + 1 - path), path,
             number + 40, suffix);
}

static void trial_apply(struct trial *trial, const char *path, enum fault_kind kind)
{
    struct sim_disk *disk = trial->disk;
    uint64_t size, other_size;
    uint8_t *bytes = slurp(disk, path, &size), *other;
    char to[PATH_BYTES];
    switch (kind) {
    case DELETED:
        sim_disk_remove(disk, path);
        break;
    case EMPTY:
        sim_disk_resize(disk, path, 0);
        break;
    case ONE_BYTE:
        sim_disk_resize(disk, path, 1);
        break;
    case HALF: // of what counts: a checkpoint's file is longer than its body
        size = strstr(path, ".ckpt") ? 2 * (DISK_BLOCK + 512) : size;
        sim_disk_resize(disk, path, align_down(size / 2, 512));
        break;
    case ZEROED:
        memset(bytes, 0, size);
        put(disk, path, bytes, size);
        break;
    case LONGER:
        memset(bytes + size, 0x5a, DISK_BLOCK);
        put(disk, path, bytes, size + DISK_BLOCK);
        break;
    case FOREIGN:
        other = slurp(trial->stranger->disk, path, &other_size);
        if (other_size ==
            0) { // the stranger has none of this name: this one with another store's id
            free(other);
            other = memcpy(malloc(size), bytes, size);
            other_size = size;
            memset(((struct disk_common *)other)->store_id, 0x77, 16);
            disk_header_seal(other);
        }
        put(disk, path, other, other_size);
        free(other);
        break;
    case OTHER_SHARD:
        shard_change(bytes, size);
        put(disk, path, bytes, size);
        break;
    case SWAPPED:
        other = slurp(disk, trial->second, &other_size);
        put(disk, path, other, other_size);
        put(disk, trial->second, bytes, size);
        free(other);
        break;
    default:
        doubled_path(path, to);
        put(disk, to, bytes, size);
        break;
    }
    free(bytes);
}

/* ---- what follows ---- */

static bool names_file(const char *text, const char *path)
{
    return path[0] && strstr(text, strrchr(path, '/') + 1) != NULL;
}

/* The identity is read first, as at every start. */
static int identity_read(struct trial *trial, struct bitrot *image, char text[512])
{
    struct io *io =
        io_sim_new(trial->disk, &(struct io_sim_options){.seed = 13, .wall_ms = image->wall_ms});
    struct store_identity identity = {.shard_count = 1, .segment_bytes = BITROT_SEGMENT_BYTES};
    int lock_fd;
    int status = store_dir_open(io, BITROT_DIR, false, &identity, &lock_fd, text);
    if (status == 0)
        memcpy(image->options.store_id, identity.store_id, sizeof(identity.store_id));
    io_sim_kill(io);
    io_free(io);
    return status;
}

/* 'R', 'S', or what must not be: 'x' refused without a name or after a write, 'L' lost or another state. */
static char trial_run(struct trial *trial, char text[512])
{
    struct bitrot image = *trial->rot;
    char doubled[PATH_BYTES] = "";
    if (strcmp(trial->path, BITROT_DIR "/store") != 0)
        doubled_path(trial->path, doubled);
    for (int i = 0; i < 2; i++) {
        uint64_t before = sim_disk_hash(trial->disk);
        struct bitrot_life life;
        int status = identity_read(trial, &image, text);
        if (status == 0) {
            status = bitrot_open(&life, &image, trial->disk);
            snprintf(text, 512, "%s", life.text);
        } else {
            life = (struct bitrot_life){.store = NULL};
        }
        const struct bitrot_batch *lost = status == 0 ? bitrot_read_all(&life, &status) : NULL;
        if (life.store)
            bitrot_turns(&life, 50 * NS_PER_MS);
        if (life.io)
            bitrot_close(&life);
        if (lost)
            snprintf(text, 512, "the batch at offset %llu of %u/%u: %s",
                     (unsigned long long)lost->base_offset, lost->topic_id, lost->partition,
                     status_name(status));
        if (lost)
            return 'L';
        if (status < 0)
            return (names_file(text, trial->path) || names_file(text, trial->second) ||
                    names_file(text, doubled)) &&
                           sim_disk_hash(trial->disk) == before && i == 0
                       ? 'R'
                       : 'x';
    }
    return 'S';
}

/* ---- cuts ---- */

struct cutter {
    struct io *io;
    struct wal_options wal;
    struct recover_options recover;
    struct recover_result *result;
    uint32_t count;
};

static int apply_nothing(void *context, const struct wal_view *view)
{
    (void)context, (void)view;
    return 0;
}

static void cut_once(struct cutter *cutter, struct sim_file *file, const char *path, uint64_t size)
{
    struct recover_log log = {0};
    uint64_t whole = file->size;
    file->size = size;
    int status = recover_run(&cutter->wal, &cutter->recover, cutter->result, &log);
    file->size = whole;
    cutter->count++;
    if (status != E_CORRUPT || cutter->result->damage != DAMAGE_TRUNCATED_FILE ||
        strcmp(cutter->result->path, path) != 0)
        bitrot_fail("%s cut to %llu bytes: %s, %s %s", path, (unsigned long long)size,
                    status_name(status), cutter->result->path, cutter->result->text);
}

uint32_t bitrot_cuts(struct bitrot *rot, uint32_t step_bytes)
{
    struct checkpoint_identity identity = {.shard_id = 0};
    struct checkpoint_set set;
    struct cutter cutter = {
        .io = io_sim_new(rot->disk, &(struct io_sim_options){.seed = 14}),
        .recover = {.read_only = true, .has_checkpoint = true, .apply = apply_nothing},
        .result = calloc(1, sizeof(*cutter.result))};
    cutter.wal = (struct wal_options){
        .io = cutter.io, .dir = rot->wal_dir, .segment_bytes = BITROT_SEGMENT_BYTES};
    memcpy(cutter.wal.store_id, rot->options.store_id, 16);
    memcpy(identity.store_id, rot->options.store_id, 16);
    if (checkpoint_scan(cutter.io, BITROT_DIR "/shard-000/checkpoint", &identity, &set) < 0)
        bitrot_fail("no checkpoint");
    cutter.recover.from = set.heads[0].position;
    cutter.recover.first_file = set.heads[0].wal_first_file;
    cutter.recover.proven_lsn = cutter.recover.from.lsn;
    for (uint64_t number = 1; number <= 4; number++) {
        char path[SEGMENT_PATH_MAX];
        segment_path_make(path, rot->wal_dir, number);
        struct sim_file *file = sim_disk_find(rot->disk, path);
        for (uint64_t size = 0; size < file->size; size += step_bytes)
            cut_once(&cutter, file, path, size);
        for (uint32_t i = 0; i < rot->group_count; i++)
            if (rot->groups[i].file == number)
                cut_once(&cutter, file, path, rot->groups[i].offset);
    }
    io_free(cutter.io);
    free(cutter.result);
    return cutter.count;
}
