/* Files are changed as the next start sees them. Nothing of it is durable, which only a power cut would tell. */
#include "tests/fuzz/store_edit.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "storage/checkpoint.h"
#include "storage/group.h"
#include "tests/fuzz/store_world.h"

#define EDITS_MAX 16
#define FILES_MAX 32
#define GROUP_MAX ((uint32_t)(64 * KIB))
#define SEAL_FROM_MAX ((uint64_t)(1 * MIB)) // of a log: what the images have and an input adds

enum edit { WRITE, CUT, REMOVE, MOVE, COPY, ZERO, EXTEND, GROUP, REPLACE, NUMBER, EDIT_COUNT };

struct files { // of the disk, no directories, in order of their paths
    const struct sim_name *names[FILES_MAX];
    uint32_t count;
};

struct chain { // of the groups up to here
    uint64_t value;
    bool is_new; // it was another one
};

static void edit_one(struct sim_disk *disk, struct input_reader *input);
static void write_bytes_at(struct sim_disk *disk, struct input_reader *input);
static void copy_blocks(struct sim_disk *disk, struct input_reader *input);
static void zero_blocks(struct sim_disk *disk, struct input_reader *input);
static void write_number(struct sim_disk *disk, struct input_reader *input);
static void move_file(struct sim_disk *disk, struct input_reader *input);
static void add_group(struct sim_disk *disk, struct input_reader *input, bool replace);
static void seal_log(struct sim_disk *disk, const struct sim_name *name, struct chain *chain);
static struct chain chain_before_cut(const uint8_t *group);
static uint64_t hash_of_header(const uint8_t *group);
static void seal_header(struct sim_disk *disk, const struct sim_name *name, uint64_t at);
static void seal_checkpoint(struct sim_disk *disk, const struct sim_name *name);
static void seal_index(struct sim_disk *disk, const struct sim_name *name);

void store_edit(struct sim_disk *disk, struct input_reader *input)
{
    for (int i = 0; i < EDITS_MAX && input->left > 0; i++)
        edit_one(disk, input);
}

/* ---- files and places ---- */

static int by_path(const void *a, const void *b)
{
    return strcmp((*(const struct sim_name *const *)a)->path,
                  (*(const struct sim_name *const *)b)->path);
}

static struct files files_of(const struct sim_disk *disk)
{
    struct files files = {.count = 0};
    for (uint32_t i = 0; i < disk->seen.count && files.count < FILES_MAX; i++)
        if (!disk->seen.names[i].file->is_dir)
            files.names[files.count++] = &disk->seen.names[i];
    qsort(files.names, files.count, sizeof(files.names[0]), by_path);
    return files;
}

static const struct sim_name *take_file(struct sim_disk *disk, struct input_reader *input)
{
    struct files files = files_of(disk);
    uint32_t wish = (uint32_t)input_number(input, 1);
    return files.count > 0 ? files.names[wish % files.count] : NULL;
}

static bool ends_with(const char *path, const char *end)
{
    size_t len = strlen(path), end_len = strlen(end);
    return len >= end_len && strcmp(path + len - end_len, end) == 0;
}

static bool read_group(const struct sim_file *file, uint64_t at, struct disk_group *group)
{
    return sim_file_read(file, (uint8_t *)group, at, sizeof(*group)) == sizeof(*group) &&
           le32_get(group->magic) == DISK_MAGIC_GROUP &&
           le32_get(group->payload_bytes) <= GROUP_MAX;
}

/* Where the n-th group of a file begins; the last one if there are fewer; the first byte behind
 * them for n = UINT32_MAX. */
static uint64_t group_at(const struct sim_file *file, uint32_t n)
{
    struct disk_group group;
    uint64_t at = DISK_SEGMENT_DATA, last = at;
    for (uint32_t i = 0; at < SEAL_FROM_MAX && read_group(file, at, &group); i++) {
        if (i == n)
            return at;
        last = at;
        at += group_total_bytes(le32_get(group.payload_bytes));
    }
    return n == UINT32_MAX ? at : last;
}

static uint64_t take_place(const struct sim_file *file, struct input_reader *input)
{
    uint64_t at;
    switch (input_number(input, 1)) {
    case 1:
        at = group_at(file, (uint32_t)input_number(input, 1));
        return at + input_number(input, 1) % sizeof(struct disk_group);
    case 2:
        at = group_at(file, (uint32_t)input_number(input, 1));
        return at + sizeof(struct disk_group) + input_number(input, 2);
    case 3:
        return input_number(input, 1);
    case 4:
        return group_at(file, UINT32_MAX) + input_number(input, 2);
    default:
        return input_number(input, 3);
    }
}

static void put(struct sim_disk *disk, const struct sim_name *name, const void *bytes, uint64_t at,
                uint64_t len)
{
    if (len > 0 && at + len <= WORLD_SEGMENT_BYTES)
        sim_file_write(disk, name->file, bytes, at, len);
}

/* ---- changes ---- */

static void edit_one(struct sim_disk *disk, struct input_reader *input)
{
    const struct sim_name *name;
    uint8_t what = (uint8_t)input_number(input, 1) % EDIT_COUNT;
    switch ((enum edit)what) {
    case WRITE:
        write_bytes_at(disk, input);
        break;
    case CUT:
        if ((name = take_file(disk, input)))
            sim_file_truncate(disk, name->file, input_number(input, 2) * 512);
        break;
    case REMOVE:
        if ((name = take_file(disk, input)))
            (void)sim_disk_unlink(disk, name->path);
        break;
    case MOVE:
        move_file(disk, input);
        break;
    case COPY:
        copy_blocks(disk, input);
        break;
    case ZERO:
        zero_blocks(disk, input);
        break;
    case EXTEND:
        if ((name = take_file(disk, input)))
            sim_file_truncate(disk, name->file, name->file->size + input_number(input, 1) * 1024);
        break;
    case GROUP:
    case REPLACE:
        add_group(disk, input, what == REPLACE);
        break;
    case NUMBER:
        write_number(disk, input);
        break;
    case EDIT_COUNT:
        break;
    }
}

static void write_bytes_at(struct sim_disk *disk, struct input_reader *input)
{
    const struct sim_name *name = take_file(disk, input);
    size_t len;
    if (name == NULL)
        return;
    uint64_t at = take_place(name->file, input);
    const uint8_t *bytes = input_take(input, input_number(input, 1), &len);
    put(disk, name, bytes, at, len);
}

static void write_number(struct sim_disk *disk, struct input_reader *input)
{
    const struct sim_name *name = take_file(disk, input);
    if (name == NULL)
        return;
    uint64_t at = take_place(name->file, input);
    uint64_t len = 1 + input_number(input, 1) % 8, value = input_number(input, 8);
    put(disk, name, &value, at, len);
}

/* The same name with another number: a file in another's place, or one over another. */
static void move_file(struct sim_disk *disk, struct input_reader *input)
{
    const struct sim_name *name = take_file(disk, input);
    uint8_t number = (uint8_t)input_number(input, 1);
    char path[256];
    const char *slash = name ? strrchr(name->path, '/') : NULL;
    const char *dot = slash ? strrchr(slash, '.') : NULL;
    if (dot == NULL)
        return;
    snprintf(path, sizeof(path), "%.*s/%016x%s", (int)(slash - name->path), name->path, number,
             dot);
    if (strcmp(path, name->path) != 0)
        (void)sim_disk_rename(disk, name->path, path);
}

static void copy_blocks(struct sim_disk *disk, struct input_reader *input)
{
    static uint8_t block[DISK_BLOCK];
    const struct sim_name *from = take_file(disk, input);
    if (from == NULL)
        return;
    uint64_t from_at = align_down(take_place(from->file, input), DISK_BLOCK);
    const struct sim_name *to = take_file(disk, input);
    uint64_t to_at = align_down(take_place(to->file, input), DISK_BLOCK);
    for (uint64_t left = 1 + input_number(input, 1) % 16; left > 0; left--) {
        uint64_t len = sim_file_read(from->file, block, from_at, DISK_BLOCK);
        put(disk, to, block, to_at, len);
        from_at += DISK_BLOCK;
        to_at += DISK_BLOCK;
    }
}

static void zero_blocks(struct sim_disk *disk, struct input_reader *input)
{
    static const uint8_t zeros[DISK_BLOCK];
    const struct sim_name *name = take_file(disk, input);
    if (name == NULL)
        return;
    uint64_t at = align_down(take_place(name->file, input), DISK_BLOCK);
    for (uint64_t left = 1 + input_number(input, 1) % 16; left > 0; left--, at += DISK_BLOCK)
        put(disk, name, zeros, at, DISK_BLOCK);
}

/* ---- groups ---- */

static uint32_t take_entries(struct input_reader *input, uint8_t *payload, uint32_t *count)
{
    uint32_t at = 0;
    *count = (uint32_t)input_number(input, 1) % 8;
    for (uint32_t i = 0; i < *count; i++) {
        size_t len;
        struct disk_entry entry = {.type = (uint8_t)input_number(input, 1),
                                   .flags = (uint8_t)input_number(input, 1),
                                   .topic_id = le32_make((uint32_t)input_number(input, 1)),
                                   .partition = le32_make((uint32_t)input_number(input, 1))};
        const uint8_t *bytes = input_take(input, input_number(input, 2) % 4096, &len);
        entry.payload_bytes = le32_make((uint32_t)len);
        memcpy(payload + at, &entry, sizeof(entry));
        if (len > 0)
            memcpy(payload + at + sizeof(entry), bytes, len);
        at += (uint32_t)align_up(sizeof(entry) + len, 8);
    }
    return at;
}

/* The newest file of the log that has a group. */
static const struct sim_name *log_end(struct sim_disk *disk)
{
    struct files files = files_of(disk);
    const struct sim_name *newest = NULL;
    struct disk_group group;
    for (uint32_t i = 0; i < files.count; i++)
        if (ends_with(files.names[i]->path, ".wal") &&
            read_group(files.names[i]->file, DISK_SEGMENT_DATA, &group))
            newest = files.names[i];
    return newest;
}

static void add_group(struct sim_disk *disk, struct input_reader *input, bool replace)
{
    static uint8_t bytes[GROUP_MAX];
    const struct sim_name *name = log_end(disk);
    struct disk_group last;
    if (name == NULL)
        return;
    uint64_t last_at =
        group_at(name->file, replace ? (uint32_t)input_number(input, 1) : UINT32_MAX - 1);
    uint8_t type = (uint8_t)input_number(input, 1);
    uint32_t count;
    if (!read_group(name->file, last_at, &last))
        return;
    memset(bytes, 0, sizeof(bytes));
    uint32_t payload = take_entries(input, bytes + GROUP_HEADER_BYTES, &count);
    uint32_t last_bytes = group_total_bytes(le32_get(last.payload_bytes));
    struct group_head head = {.type = type,
                              .payload_bytes = payload,
                              .entry_count = count,
                              .lsn = le64_get(last.lsn) + (replace ? 0 : last_bytes),
                              .number = le64_get(last.number) + !replace,
                              .append_time_ms = le64_get(last.append_time_ms),
                              .chain = le64_get(last.chain)};
    (void)group_stamp_replicated(bytes, &head, group_payload_checksum(bytes, payload));
    group_stamp_local(bytes, le64_get(last.generation), le64_get(last.durable_lsn));
    put(disk, name, bytes, last_at + (replace ? 0 : last_bytes), group_total_bytes(payload));
}

/* ---- checksums ---- */

void store_seal(struct sim_disk *disk)
{
    struct files files = files_of(disk);
    struct chain chain = {0};
    for (uint32_t i = 0; i < files.count; i++) {
        const char *path = files.names[i]->path;
        if (ends_with(path, ".wal")) {
            seal_header(disk, files.names[i], 0);
            seal_header(disk, files.names[i], DISK_BLOCK);
            seal_log(disk, files.names[i], &chain);
        } else if (ends_with(path, ".ckpt")) {
            seal_checkpoint(disk, files.names[i]);
        } else if (ends_with(path, ".idx")) {
            seal_index(disk, files.names[i]);
        } else if (ends_with(path, "/store")) {
            seal_header(disk, files.names[i], 0);
        }
    }
}

static void seal_header(struct sim_disk *disk, const struct sim_name *name, uint64_t at)
{
    uint8_t block[DISK_BLOCK];
    if (sim_file_read(name->file, block, at, DISK_BLOCK) != DISK_BLOCK)
        return;
    le64 checksum = le64_make(hash_xxh3(block, DISK_BLOCK - 8));
    if (memcmp(block + DISK_BLOCK - 8, &checksum, 8) != 0)
        put(disk, name, &checksum, at + DISK_BLOCK - 8, 8);
}

/* A group that is intact stays as it is while nothing in front of it has another chain than before: holes break the chain, and a
 * checkpoint has noted it. Only a file's first group may begin one: its own is kept when nothing is known of the group before.
 * A CUT says which chain it continues. */
static void seal_log(struct sim_disk *disk, const struct sim_name *name, struct chain *chain)
{
    static uint8_t bytes[GROUP_MAX + DISK_BLOCK];
    struct disk_group group;
    for (uint64_t at = DISK_SEGMENT_DATA;
         at < SEAL_FROM_MAX && read_group(name->file, at, &group);) {
        uint32_t payload = le32_get(group.payload_bytes), total = group_total_bytes(payload);
        if (sim_file_read(name->file, bytes, at, total) != total)
            return;
        struct disk_group *sealed = (struct disk_group *)bytes;
        sealed->payload_checksum = le64_make(group_payload_checksum(bytes, payload));
        if (group.type == GROUP_CUT &&
            payload >= sizeof(struct disk_entry) + sizeof(struct disk_cut))
            *chain = chain_before_cut(bytes);
        bool is_new = chain->is_new || memcmp(sealed, &group, sizeof(group)) != 0 ||
                      hash_of_header(bytes) != le64_get(group.header_checksum);
        if (is_new && (chain->value != 0 || le64_get(sealed->lsn) == 0))
            sealed->chain = le64_make(group_chain(chain->value, bytes));
        chain->value = le64_get(sealed->chain);
        chain->is_new |= chain->value != le64_get(group.chain);
        sealed->header_checksum = le64_make(hash_of_header(bytes));
        if (memcmp(sealed, &group, sizeof(group)) != 0)
            put(disk, name, sealed, at, sizeof(*sealed));
        at += total;
    }
}

static struct chain chain_before_cut(const uint8_t *group)
{
    const struct disk_cut *cut =
        (const void *)(group + sizeof(struct disk_group) + sizeof(struct disk_entry));
    return (struct chain){.value = le64_get(cut->chain)};
}

static uint64_t hash_of_header(const uint8_t *group)
{
    return hash_xxh3(group, offsetof(struct disk_group, header_checksum));
}

static void seal_checkpoint(struct sim_disk *disk, const struct sim_name *name)
{
    static uint8_t bytes[1 * MIB];
    uint64_t size = sim_file_read(name->file, bytes, 0, sizeof(bytes)), hash = 0;
    struct disk_checkpoint *header = (struct disk_checkpoint *)bytes;
    if (size < DISK_BLOCK)
        return;
    uint64_t left =
        min_u64(align_up(le64_get(header->body_bytes) % MIB, DISK_BLOCK), size - DISK_BLOCK);
    for (uint64_t at = DISK_BLOCK; left > 0;) {
        uint64_t len = min_u64(left, CHECKPOINT_PIECE_BYTES);
        hash = hash_xxh3_seeded(bytes + at, len, hash);
        at += len;
        left -= len;
    }
    le64 checksum = le64_make(hash);
    if (memcmp(&checksum, &header->body_checksum, 8) != 0)
        put(disk, name, &checksum, offsetof(struct disk_checkpoint, body_checksum), 8);
    seal_header(disk, name, 0);
}

static void seal_index(struct sim_disk *disk, const struct sim_name *name)
{
    static uint8_t bytes[256 * KIB];
    uint64_t size = sim_file_read(name->file, bytes, 0, sizeof(bytes));
    if (size < DISK_BLOCK)
        return;
    le64 checksum = le64_make(hash_xxh3(bytes + DISK_BLOCK, size - DISK_BLOCK));
    put(disk, name, &checksum, offsetof(struct disk_index, checksum_body), 8);
    seal_header(disk, name, 0);
}
