/* See topic_job.h for the states. A job is advanced by two events only: the committed mark (looked at once per
 * turn) and mails coming home. */
#include "broker/topic_job.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

enum job_state { JOB_FREE, JOB_LOGGING, JOB_TELLING, JOB_SETTLING };

struct topic_job {
    enum job_state state;
    uint32_t topic_id;
    uint64_t lsn;            // LOGGING, SETTLING: goes on when committed
    struct request *request; // the client's, or NULL
    uint32_t told;           // shards that have their mail
    uint32_t answered;
    bool takes_back; // TELLING, SETTLING: what this change added goes again
    uint16_t error;  // first that a shard answered
    char text[72];
};

struct topic_jobs {
    struct topic_job jobs[TOPIC_JOBS_MAX];
    uint32_t count;
    uint32_t resume_row; // topics from this row on may still be unsettled; UINT32_MAX: none
};

static int advance(struct topic_jobs *jobs, struct topic_job *job, struct shard *shard);
static int tell(struct topic_job *job, struct shard *shard);
static int settle(struct topic_job *job, struct shard *shard);
static void finish(struct topic_jobs *jobs, struct topic_job *job, struct shard *shard);
static int resume_more(struct topic_jobs *jobs, struct shard *shard);

struct topic_jobs *topic_jobs_new(void)
{
    struct topic_jobs *jobs = calloc(1, sizeof(*jobs));
    if (jobs)
        jobs->resume_row = UINT32_MAX;
    return jobs;
}

void topic_jobs_free(struct topic_jobs *jobs)
{
    free(jobs);
}

bool topic_jobs_is_full(const struct topic_jobs *jobs)
{
    return jobs->count == TOPIC_JOBS_MAX;
}

bool topic_jobs_is_busy(const struct topic_jobs *jobs, uint32_t topic_id)
{
    for (uint32_t i = 0; i < TOPIC_JOBS_MAX; i++) {
        if (jobs->jobs[i].state != JOB_FREE && jobs->jobs[i].topic_id == topic_id)
            return true;
    }
    return false;
}

bool topic_jobs_is_idle(const struct topic_jobs *jobs)
{
    return jobs->count == 0 && jobs->resume_row == UINT32_MAX;
}

void topic_job_begin(struct topic_jobs *jobs, struct shard *shard, uint32_t topic_id,
                     struct request *request)
{
    for (uint32_t i = 0; i < TOPIC_JOBS_MAX; i++) {
        if (jobs->jobs[i].state != JOB_FREE)
            continue;
        jobs->jobs[i] = (struct topic_job){.state = JOB_LOGGING,
                                           .topic_id = topic_id,
                                           .lsn = store_reserved_lsn(shard->store),
                                           .request = request};
        jobs->count++;
        return;
    }
    ASSERT(!"topic_jobs_is_full() is asked first");
}

void topic_jobs_resume(struct topic_jobs *jobs, struct shard *shard)
{
    jobs->resume_row = 0;
    resume_more(jobs, shard);
}

static int resume_more(struct topic_jobs *jobs, struct shard *shard)
{
    int started = 0;
    while (jobs->resume_row != UINT32_MAX && !topic_jobs_is_full(jobs)) {
        if (jobs->resume_row >= topics_row_count(shard->topics)) {
            jobs->resume_row = UINT32_MAX;
            break;
        }
        const struct disk_topic *topic = topics_row(shard->topics, jobs->resume_row++);
        if (!topic || (topic->settled && !topic->dropped) ||
            topic_jobs_is_busy(jobs, le32_get(topic->topic_id)))
            continue;
        topic_job_begin(jobs, shard, le32_get(topic->topic_id), NULL);
        started++;
    }
    return started;
}

int topic_jobs_turn(struct topic_jobs *jobs, struct shard *shard)
{
    int work = 0;
    for (uint32_t i = 0; jobs->count > 0 && i < TOPIC_JOBS_MAX; i++) {
        if (jobs->jobs[i].state != JOB_FREE)
            work += advance(jobs, &jobs->jobs[i], shard);
    }
    if (jobs->resume_row != UINT32_MAX)
        work += resume_more(jobs, shard);
    return work;
}

static int advance(struct topic_jobs *jobs, struct topic_job *job, struct shard *shard)
{
    bool committed = store_committed_lsn(shard->store) >= job->lsn;
    switch (job->state) {
    case JOB_LOGGING:
        if (!committed)
            return 0;
        job->state = JOB_TELLING;
        return 1 + tell(job, shard);
    case JOB_TELLING:
        if (job->told < shard->shard_count)
            return tell(job, shard);
        if (job->answered < shard->shard_count)
            return 0;
        if (job->error && !job->takes_back) {
            job->takes_back = true;
            job->told = job->answered = 0;
            return 1 + tell(job, shard);
        }
        return settle(job, shard);
    case JOB_SETTLING:
        if (!committed)
            return 0;
        finish(jobs, job, shard);
        return 1;
    case JOB_FREE:
        break;
    }
    return 0;
}

/* One mail per shard, each over the whole range: the owner knows what is its own. */
static int tell(struct topic_job *job, struct shard *shard)
{
    const struct disk_topic *topic = topics_find_id(shard->topics, job->topic_id);
    ASSERT(topic);
    int sent = 0;
    while (job->told < shard->shard_count) {
        struct request *mail = request_acquire(shard->requests, REQUEST_SHARD, shard->core);
        if (!mail)
            return sent;
        mail->shard = (uint16_t)job->told;
        mail->from_shard = shard->id;
        mail->target_core = shard->shard_core[job->told];
        mail->correlation = job->topic_id;
        bool drops = topic->dropped || job->takes_back;
        uint32_t first = job->takes_back ? (uint32_t)le64_get(topic->confirmed) : 0;
        mail->mail = drops ? MAIL_PARTITION_DROP : MAIL_PARTITION_OPEN;
        mail->u.partitions.topic_id = job->topic_id;
        mail->u.partitions.partition_first = first;
        mail->u.partitions.partition_count = le32_get(topic->partition_count) - first;
        mail->u.partitions.settings = topic->settings;
        if (mailbox_send(shard->mailbox, mail)) {
            request_release(shard->requests, mail);
            return sent;
        }
        job->told++;
        sent++;
    }
    return sent;
}

void topic_job_on_reply(struct topic_jobs *jobs, struct shard *shard, struct request *mail)
{
    for (uint32_t i = 0; i < TOPIC_JOBS_MAX; i++) {
        struct topic_job *job = &jobs->jobs[i];
        if (job->state != JOB_TELLING || job->topic_id != mail->correlation)
            continue;
        job->answered++;
        if (mail->error && !job->error) {
            job->error = mail->error;
            memcpy(job->text, mail->text, sizeof(job->text));
        }
        break;
    }
    request_release(shard->requests, mail);
}

/* Logs the outcome; FULL is tried again next turn. */
static int settle(struct topic_job *job, struct shard *shard)
{
    struct disk_topic topic = *topics_find_id(shard->topics, job->topic_id);
    topic.settled = 1;
    if (job->takes_back)
        topic.partition_count = le32_make((uint32_t)le64_get(topic.confirmed));
    topic.confirmed = le64_make(le32_get(topic.partition_count));
    bool goes = topic.dropped || le32_get(topic.partition_count) == 0;
    struct wal_entry entry = {.type = goes ? ENTRY_TOPIC_DROP : ENTRY_TOPIC,
                              .topic_id = job->topic_id,
                              .pieces = {{&topic, sizeof(topic)}},
                              .piece_count = 1};
    struct wal_view view;
    if (store_append(shard->store, &entry, &view, NULL))
        return 0;
    job->lsn = store_reserved_lsn(shard->store);
    job->state = JOB_SETTLING;
    return 1;
}

static void finish(struct topic_jobs *jobs, struct topic_job *job, struct shard *shard)
{
    struct request *request = TAKE(job->request);
    if (job->error)
        LOG_WARN("topic.taken_back", LOG_U64("topic_id", job->topic_id),
                 LOG_STR("error", proto_error_name(job->error)), LOG_STR("text", job->text));
    if (request && job->error) {
        shard_reply_error(shard, request, job->error, "%s", job->text);
    } else if (request) {
        uint8_t *bytes = request->reply->bytes;
        struct writer w =
            writer_make(bytes + FRAME_HEADER_SIZE, request->reply->capacity - FRAME_HEADER_SIZE);
        write_topic_reply(&w, &(struct msg_topic_reply){job->topic_id});
        request->reply_bytes =
            frame_seal(bytes, request->op, FRAME_REPLY, request->correlation, writer_length(&w), 0);
        shard_reply(shard, request);
    }
    job->state = JOB_FREE;
    jobs->count--;
}
