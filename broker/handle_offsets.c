/* OFFSETS: where beginning, end, or a timestamp lies in each of the named partitions.
 *
 * Items are answered in order into the lent reply buffer. A search by timestamp may suspend the job until its index is
 * read; then it goes on with the next item. As a search may have to walk a long index, a turn has a few of them for all
 * jobs together; who gets none goes on in the next turn. */
#include <stdio.h>
#include <stdlib.h>

#include "base/plant.h"
#include "broker/cursor.h"
#include "broker/cursor_private.h"
#include "broker/offsets_job.h"

struct offsets_job {
    struct request *request; // NULL: free
    struct shard *shard;
    struct msg_offsets message; // points into the request's frame
    uint32_t next;              // item
    bool waits;                 // for a search: goes on in the next turn
    struct store_read read;
    int64_t found_timestamp;
};

struct offsets_jobs {
    struct offsets_job jobs[OFFSETS_JOBS_MAX];
    uint32_t first;    // to go on in the next turn: they take turns, too
    uint32_t searches; // begun since the last turn
};

static struct offsets_job *job_begin(struct offsets_jobs *jobs);
static void job_run(struct offsets_job *job);
static void job_finish(struct offsets_job *job);
static void on_search_done(struct store_read *read);
static struct offsets_item *reply_item(struct offsets_job *job);
static int search(struct offsets_job *job, struct partition *partition, uint64_t timestamp);
static void take_search(struct offsets_job *job);

struct offsets_jobs *offsets_jobs_new(void)
{
    return calloc(1, sizeof(struct offsets_jobs));
}

void offsets_jobs_free(struct offsets_jobs *jobs)
{
    free(jobs);
}

static uint32_t reply_bytes_of(uint32_t item_count)
{
    uint32_t fixed = FRAME_HEADER_SIZE + 8;
    return fixed + item_count * (uint32_t)sizeof(struct offsets_item);
}

enum handled handle_offsets(struct shard *shard, struct request *request)
{
    struct frame frame;
    struct msg_offsets message;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_offsets(&frame, &message);
    if (error) {
        shard_reply_error(shard, request, error, "OFFSETS: 1..%u partitions with a start of 0..3",
                          FETCH_ITEM_COUNT_MAX);
        return HANDLED;
    }
    if (message.item_count == 0 || reply_bytes_of(message.item_count) > request->reply->capacity) {
        shard_reply_error(
            shard, request, PE_INVALID_ARGUMENT, "%u partitions, allowed 1..%u", message.item_count,
            (request->reply->capacity - reply_bytes_of(0)) / (uint32_t)sizeof(struct offsets_item));
        return HANDLED;
    }
    struct offsets_job *job = job_begin(shard->offsets_jobs);
    if (!job) {
        shard_reply_error(shard, request, PE_OVERLOADED, "%u offset queries are under way",
                          OFFSETS_JOBS_MAX);
        return HANDLED;
    }
    *job = (struct offsets_job){.request = request, .shard = shard, .message = message};
    job_run(job);
    return HANDLED;
}

int offsets_jobs_turn(struct offsets_jobs *jobs)
{
    jobs->searches = 0;
    for (uint32_t i = 0; i < OFFSETS_JOBS_MAX; i++) {
        struct offsets_job *job = &jobs->jobs[(jobs->first + i) % OFFSETS_JOBS_MAX];
        if (!job->request || !job->waits)
            continue;
        job->waits = false;
        job_run(job);
    }
    jobs->first++;
    return (int)jobs->searches; // none: who waits does so for a read that ends
}

static struct offsets_job *job_begin(struct offsets_jobs *jobs)
{
    for (uint32_t i = 0; i < OFFSETS_JOBS_MAX; i++) {
        if (!jobs->jobs[i].request)
            return &jobs->jobs[i];
    }
    return NULL;
}

static struct offsets_item *reply_item(struct offsets_job *job)
{
    uint8_t *items = job->request->reply->bytes + reply_bytes_of(0);
    return (struct offsets_item *)items + job->next;
}

/* Until the end or until a search has to wait. */
static void job_run(struct offsets_job *job)
{
    for (; job->next < job->message.item_count; job->next++) {
        const struct fetch_item *item = &job->message.items[job->next];
        struct offsets_item *out = reply_item(job);
        *out = (struct offsets_item){.topic_id = item->topic_id,
                                     .partition = item->partition,
                                     .timestamp_ms = le64_make(UINT64_MAX)};
        struct partition *partition =
            store_partition(job->shard->store, le32_get(item->topic_id), le32_get(item->partition));
        if (!partition) {
            out->error = le16_make(PE_UNKNOWN_PARTITION);
            continue;
        }
        if (item->start == START_TIMESTAMP) {
            int started = search(job, partition, le64_get(item->value));
            job->waits = started == E_FULL;
            if (started != 1)
                return; // on_search_done() or the next turn goes on
            take_search(job);
            continue;
        }
        uint64_t offset = 0;
        out->error =
            le16_make(cursor_start(partition, item->start, le64_get(item->value), &offset));
        if (item->start == START_END && offset > 0 && PLANTED(END_BACK))
            offset--;
        out->offset = le64_make(offset);
    }
    job_finish(job);
}

/* 1 finished, 0 will call on_search_done(), FULL. */
static int search(struct offsets_job *job, struct partition *partition, uint64_t timestamp)
{
    struct offsets_jobs *jobs = job->shard->offsets_jobs;
    if (jobs->searches >= SEARCHES_PER_TURN)
        return E_FULL;
    job->read =
        (struct store_read){.partition = partition, .done = on_search_done, .hint = INDEX_NONE};
    list_init(&job->read.link);
    job->found_timestamp = -1;
    int started =
        store_find_time(job->shard->store, &job->read, (int64_t)timestamp, &job->found_timestamp);
    jobs->searches += started != E_FULL;
    return started;
}

static void take_search(struct offsets_job *job)
{
    struct offsets_item *out = reply_item(job);
    if (job->read.status) {
        out->error = le16_make(error_of_read(job->read.status));
        return;
    }
    out->offset = le64_make(job->read.next_offset);
    if (job->read.bytes > 0)
        out->timestamp_ms = le64_make((uint64_t)job->found_timestamp);
}

static void on_search_done(struct store_read *read)
{
    struct offsets_job *job = CONTAINER_OF(read, struct offsets_job, read);
    take_search(job);
    job->next++;
    job_run(job);
}

static void job_finish(struct offsets_job *job)
{
    struct request *request = TAKE(job->request);
    uint8_t *bytes = request->reply->bytes;
    struct writer w = writer_make(bytes + FRAME_HEADER_SIZE, reply_bytes_of(0) - FRAME_HEADER_SIZE);
    write_offsets_begin(&w, job->message.item_count);
    uint32_t meta = reply_bytes_of(job->message.item_count) - FRAME_HEADER_SIZE;
    request->reply_bytes =
        frame_seal(bytes, OP_OFFSETS, FRAME_REPLY, request->correlation, meta, 0);
    shard_reply(job->shard, request);
}
