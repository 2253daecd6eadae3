/* What the files of inspection share. */
#ifndef SLUICE_STORAGE_INSPECT_PRIVATE_H
#define SLUICE_STORAGE_INSPECT_PRIVATE_H

#include "storage/checkpoint.h"
#include "storage/inspect.h"
#include "storage/store_dir.h"

#define INSPECT_PATH_MAX 4400 // DIR/shard-NNN/archive/<name>

/* A data directory, locked, its identity read. */
struct inspect_dir {
    struct io *io;
    const char *dir;
    bool no_direct; // the file system has none
    int lock_fd;    // -1: there is no LOCK to take
    struct store_head head;
};
MUST_USE int inspect_dir_open(struct inspect_dir *place, struct io *io, const char *dir,
                              char text[512]);
void inspect_dir_close(struct inspect_dir *place);

/* One shard under inspection. */
struct inspect_shard {
    const struct inspect_dir *place;
    const struct inspect_options *options;
    uint32_t shard;
    int worst; // first status of damage
    struct checkpoint_set checkpoints;
    char path[INSPECT_PATH_MAX]; // of the item that is being reported
};

/* Reports one item and remembers damage. */
void inspect_report(struct inspect_shard *shard, const struct inspect_item *item);
/* DIR/shard-NNN/<folder>/<name>, into shard->path; name may be empty. */
void inspect_path(struct inspect_shard *shard, const char *folder, const char *name);

/* What recovery would start from: the newest valid checkpoint, and what all of them prove. */
void inspect_recover_options(const struct checkpoint_set *set, struct recover_options *recover);
void inspect_wal_options(const struct inspect_dir *place, uint32_t shard, const char *wal_dir,
                         struct wal_options *options);

MUST_USE int inspect_log(struct inspect_shard *shard); // inspect_log.c: segments, groups, verdict
MUST_USE int inspect_archives(struct inspect_shard *shard); // inspect_archive.c

#endif
