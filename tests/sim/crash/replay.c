/* The recorded disk made again, event by event. Writes in flight are versions of their blocks that no flush covers; when one
 * is delivered it takes its place in the order of deliveries. */
#include <stdlib.h>

#include "tests/sim/crash/trace.h"

static void happen(struct replay *replay, const struct sim_event *event);

const struct trace_known *trace_known_at(const struct trace *trace, uint32_t event)
{
    return event < trace->count ? &trace->events[event].known : &trace->last;
}

void replay_begin(struct replay *replay, const struct trace *trace)
{
    *replay = (struct replay){.trace = trace, .disk = sim_disk_new(trace->seed, GIB)};
    replay->files = calloc(trace->count + 1, sizeof(struct sim_file *));
    ASSERT(replay->files != NULL);
}

void replay_end(struct replay *replay)
{
    for (uint32_t i = 1; i <= replay->file_count; i++)
        sim_file_release(replay->disk, replay->files[i]);
    sim_disk_free(replay->disk);
    free(replay->files);
}

void replay_to(struct replay *replay, uint32_t event)
{
    ASSERT(event >= replay->at && event <= replay->trace->count);
    while (replay->at < event)
        happen(replay, &replay->trace->events[replay->at++].event);
}

static struct sim_file *file_of(const struct replay *replay, const struct sim_event *event)
{
    ASSERT(event->file >= 1 && event->file <= replay->file_count);
    return replay->files[event->file];
}

static void create(struct replay *replay, const struct sim_event *event)
{
    struct sim_file *file = sim_disk_create(replay->disk, event->path, event->is_dir);
    ASSERT(file->id == event->file && file->id == replay->file_count + 1);
    file->references++;
    replay->files[++replay->file_count] = file;
}

static void write_start(struct replay *replay, const struct sim_event *event)
{
    struct sim_file *file = file_of(replay, event);
    for (uint64_t at = 0; at < event->len; at += SIM_BLOCK) {
        sim_file_add_version(file, (event->offset + at) / SIM_BLOCK, event->bytes + at, 0);
        file->versions[file->version_count - 1].write = event->write;
    }
}

/* The oldest write in flight of these blocks is this one. */
static void write_done(struct replay *replay, const struct sim_event *event)
{
    struct sim_file *file = file_of(replay, event);
    for (uint32_t i = 0; i < file->version_count; i++) {
        const struct sim_version *version = &file->versions[i];
        if (version->sequence != 0 || version->block != event->offset / SIM_BLOCK)
            continue;
        sim_file_forget(file, version->write);
        break;
    }
    sim_file_write(replay->disk, file, event->bytes, event->offset, event->len);
}

static void happen(struct replay *replay, const struct sim_event *event)
{
    struct sim_disk *disk = replay->disk;
    switch (event->kind) {
    case SIM_CREATE:
        create(replay, event);
        break;
    case SIM_RENAME:
        ASSERT(sim_disk_rename(disk, event->path, event->path_to) == 0);
        break;
    case SIM_UNLINK:
        ASSERT(sim_disk_unlink(disk, event->path) == 0);
        break;
    case SIM_SYNC_DIR:
        sim_disk_sync_dir(disk, event->path, event->sequence);
        break;
    case SIM_ALLOCATE:
        ASSERT(sim_disk_allocate(disk, file_of(replay, event), event->offset, event->len));
        break;
    case SIM_EXTEND:
        sim_file_extend(disk, file_of(replay, event), event->len);
        break;
    case SIM_TRUNCATE:
        sim_file_truncate(disk, file_of(replay, event), event->len);
        break;
    case SIM_WRITE_START:
        write_start(replay, event);
        break;
    case SIM_WRITE:
        write_done(replay, event);
        break;
    case SIM_SYNC:
        sim_file_sync(disk, file_of(replay, event), event->sequence);
        break;
    case SIM_LIFE_ENDS:
        for (uint32_t i = 1; i <= replay->file_count; i++)
            sim_file_forget(replay->files[i], 0);
        break;
    }
}
