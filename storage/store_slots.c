/* The slots of the read path: jobs with a buffer each, and the one large buffer that they queue for.
 *
 * Memory: READ_PIECE_BYTES of arena for each job, and one buffer for the largest batch. No failure modes but
 * running out, which callers are told. */
#include "storage/store_read.h"

#include <stdlib.h>

static void jumbo_wake(struct read_jobs *reads);

size_t read_jobs_arena_bytes(const struct store_options *options)
{
    return (size_t)options->read_slot_count * READ_PIECE_BYTES +
           read_jumbo_bytes(options->batch_bytes_max) + DISK_BLOCK;
}

struct read_jobs *read_jobs_new(struct store *store)
{
    const struct store_options *options = &store->options;
    struct read_jobs *reads = calloc(1, sizeof(*reads));
    if (!reads)
        return NULL;
    reads->store = store;
    reads->jobs = calloc(options->read_slot_count, sizeof(*reads->jobs));
    if (!reads->jobs) {
        free(reads);
        return NULL;
    }
    list_init(&reads->free);
    list_init(&reads->jumbo_waiting);
    for (uint32_t i = 0; i < options->read_slot_count; i++) {
        struct read_job *job = &reads->jobs[i];
        job->store = store;
        job->piece = arena_alloc(options->arena, READ_PIECE_BYTES, DISK_BLOCK);
        list_push_back(&reads->free, &job->link);
    }
    reads->jumbo_bytes = read_jumbo_bytes(options->batch_bytes_max);
    reads->jumbo = arena_alloc(options->arena, reads->jumbo_bytes, DISK_BLOCK);
    return reads;
}

void read_jobs_free(struct read_jobs *reads)
{
    if (!reads)
        return;
    free(reads->jobs);
    free(reads);
}

bool read_jobs_are_idle(const struct read_jobs *reads)
{
    return reads->active == 0;
}

uint8_t *read_jobs_jumbo_take(struct read_jobs *reads, uint32_t *capacity)
{
    if (reads->jumbo_is_taken)
        return NULL;
    reads->jumbo_is_taken = true;
    *capacity = reads->jumbo_bytes;
    return reads->jumbo;
}

void read_jobs_jumbo_give(struct read_jobs *reads)
{
    ASSERT(reads->jumbo_is_taken);
    reads->jumbo_is_taken = false;
    jumbo_wake(reads);
}

/* What the job knew may be old by now: it starts over, holding the buffer. */
static void jumbo_wake(struct read_jobs *reads)
{
    struct list *link = list_pop_front(&reads->jumbo_waiting);
    if (!link)
        return;
    struct read_job *job = CONTAINER_OF(link, struct read_job, link);
    reads->jumbo_is_taken = true;
    job->uses_jumbo = true;
    job_run(job);
}
