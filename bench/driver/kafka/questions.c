/* What is asked of the server outside of the load: the topic, its settings, its offsets. Thread: the main one.
 *
 * A server need not know how to make topics or to describe them, nor say who is the controller that does (librdkafka's mock cluster: none of
 * it): then a topic appears when its name is asked for, if at all, and the facts say what was not told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/driver/kafka/kafka.h"
#include "bench/engine/place.h"

#define ANSWER_STEP_MS 50
#define ADMIN_MS 3000 // to find the controller, and for its answer
#define LOOKS 50      // for a topic that was just made
#define LOOK_NS (100 * NS_PER_MS)

static rd_kafka_event_t *answer(struct driver_session *session, rd_kafka_queue_t *answers);
static bool has_controller(struct driver_session *session);
static int create(struct driver_session *session);
static int created(struct driver_session *session, rd_kafka_event_t *event);
static const rd_kafka_metadata_topic_t *find(struct driver_session *session,
                                             const struct rd_kafka_metadata *metadata);
static void described(struct driver_session *session, rd_kafka_event_t *event);
static void note_settings(struct driver_session *session, const rd_kafka_ConfigResource_t *topic);

/* ---- who asks ---- */

/* The library tries again without end; of connections that fail it tells here, when it is polled. */
static void on_error(rd_kafka_t *handle, int error, const char *reason, void *opaque)
{
    struct kafka_session *self = opaque;
    (void)handle;
    if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
        self->is_unreachable = true;
    else
        snprintf(self->unreachable, sizeof(self->unreachable), "%s", reason);
}

int kafka_asker_start(struct driver_session *session)
{
    struct kafka_session *self = session->self;
    const struct kafka_setting none = {0};
    self->asker = kafka_handle(session, RD_KAFKA_PRODUCER, &none, self, on_error);
    return self->asker ? 0 : DRIVER_FAILED;
}

void kafka_asker_stop(struct kafka_session *self)
{
    if (self->asked_topic)
        rd_kafka_topic_destroy(self->asked_topic);
    if (self->asker)
        rd_kafka_destroy(self->asker);
}

/* NULL: failed and noted. */
static rd_kafka_event_t *answer(struct driver_session *session, rd_kafka_queue_t *answers)
{
    struct kafka_session *self = session->self;
    uint64_t end_ns = now_ns() + KAFKA_ANSWER_MS * NS_PER_MS;
    while (now_ns() < end_ns) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(answers, ANSWER_STEP_MS);
        if (event)
            return event;
        (void)rd_kafka_poll(self->asker, 0);
        if (self->is_unreachable)
            break;
    }
    (void)driver_fail(session, "%s does not answer%s%s", self->servers,
                      self->unreachable[0] ? ": " : "", self->unreachable);
    return NULL;
}

/* ---- the topic ---- */

int kafka_topic_make(struct driver_session *session)
{
    struct kafka_session *self = session->self;
    self->has_controller = self->mock == NULL && has_controller(session);
    if (self->has_controller && create(session))
        return DRIVER_FAILED;
    /* Not earlier: a server may make a topic whose name it hears, with as many partitions as it likes. */
    self->asked_topic = rd_kafka_topic_new(self->asker, session->options->topic, NULL);
    if (self->asked_topic == NULL)
        return kafka_fail(session, "looking up the topic", rd_kafka_last_error());
    for (int i = 0; i < LOOKS; i++) {
        const struct rd_kafka_metadata *metadata;
        rd_kafka_resp_err_t error =
            rd_kafka_metadata(self->asker, 0, self->asked_topic, &metadata, KAFKA_ANSWER_MS);
        if (error)
            return kafka_fail(session, "looking up the topic", error);
        const rd_kafka_metadata_topic_t *topic = find(session, metadata);
        if (topic) {
            session->partition_count = (uint32_t)topic->partition_cnt;
            driver_fact(session, true, "brokers", "%d", metadata->broker_cnt);
            driver_fact(session, true, "replicas", "%d", topic->partitions[0].replica_cnt);
            driver_fact(session, true, "in_sync_replicas", "%d", topic->partitions[0].isr_cnt);
        }
        rd_kafka_metadata_destroy(metadata);
        if (topic)
            return 0;
        sleep_until_ns(now_ns() + LOOK_NS);
    }
    return driver_fail(session, "topic %s is not there, or has no leader", session->options->topic);
}

/* NULL: not there yet, or one of its partitions has no leader. */
static const rd_kafka_metadata_topic_t *find(struct driver_session *session,
                                             const struct rd_kafka_metadata *metadata)
{
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const rd_kafka_metadata_topic_t *topic = &metadata->topics[i];
        bool is_whole = strcmp(topic->topic, session->options->topic) == 0 &&
                        topic->err == RD_KAFKA_RESP_ERR_NO_ERROR && topic->partition_cnt > 0;
        for (int p = 0; is_whole && p < topic->partition_cnt; p++)
            is_whole = topic->partitions[p].err == RD_KAFKA_RESP_ERR_NO_ERROR &&
                       topic->partitions[p].leader >= 0;
        if (is_whole)
            return topic;
    }
    return NULL;
}

/* ---- making ---- */

/* False if the server says who it is, and that is none of its brokers: nobody would answer. */
static bool has_controller(struct driver_session *session)
{
    struct kafka_session *self = session->self;
    uint64_t end_ns = now_ns() + ADMIN_MS * NS_PER_MS;
    const struct rd_kafka_metadata *metadata;
    int32_t controller = -1;
    self->is_unreachable = false;
    while (controller < 0 && !self->is_unreachable && now_ns() < end_ns) {
        controller = rd_kafka_controllerid(self->asker, ANSWER_STEP_MS);
        (void)rd_kafka_poll(self->asker, 0);
    }
    if (controller < 0 || rd_kafka_metadata(self->asker, 0, NULL, &metadata, KAFKA_ANSWER_MS))
        return true; // create() will say what is wrong
    bool is_found = false;
    for (int i = 0; i < metadata->broker_cnt; i++)
        is_found = is_found || metadata->brokers[i].id == controller;
    rd_kafka_metadata_destroy(metadata);
    return is_found;
}

static int create(struct driver_session *session)
{
    struct kafka_session *self = session->self;
    const struct bench_options *options = session->options;
    char words[KAFKA_ERROR_MAX];
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(
        options->topic, options->partition_count ? (int)options->partition_count : 1, -1, words,
        sizeof(words));
    if (topic == NULL)
        return driver_fail(session, "making the topic: %s", words);
    rd_kafka_queue_t *answers = rd_kafka_queue_new(self->asker);
    rd_kafka_AdminOptions_t *how =
        rd_kafka_AdminOptions_new(self->asker, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    (void)rd_kafka_AdminOptions_set_request_timeout(how, ADMIN_MS, words, sizeof(words));
    (void)rd_kafka_AdminOptions_set_operation_timeout(how, ADMIN_MS / 2, words, sizeof(words));
    rd_kafka_CreateTopics(self->asker, &topic, 1, how, answers);
    rd_kafka_event_t *event = answer(session, answers);
    int status = event ? created(session, event) : DRIVER_FAILED;
    if (event)
        rd_kafka_event_destroy(event);
    rd_kafka_AdminOptions_destroy(how);
    rd_kafka_queue_destroy(answers);
    rd_kafka_NewTopic_destroy(topic);
    return status;
}

static int created(struct driver_session *session, rd_kafka_event_t *event)
{
    const struct kafka_session *self = session->self;
    rd_kafka_resp_err_t error = rd_kafka_event_error(event);
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
    size_t count = 0;
    if (error == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE || error == RD_KAFKA_RESP_ERR__TIMED_OUT)
        return 0; // it may make topics that are asked for
    if (error || result == NULL)
        return driver_fail(session, "making the topic on %s: %s", self->servers,
                           rd_kafka_event_error_string(event));
    const rd_kafka_topic_result_t **topics = rd_kafka_CreateTopics_result_topics(result, &count);
    if (count == 0 || rd_kafka_topic_result_error(topics[0]) == RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_topic_result_error(topics[0]) == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        return 0;
    return driver_fail(session, "making the topic: %s",
                       rd_kafka_topic_result_error_string(topics[0]));
}

/* ---- settings ---- */

int kafka_topic_facts(struct driver_session *session)
{
    struct kafka_session *self = session->self;
    char words[KAFKA_ERROR_MAX];
    if (self->mock) {
        session->ack_means = "nothing: a mock cluster in the memory of this process";
        return 0;
    }
    session->ack_means = "stored by every in-sync replica; the server does not tell where";
    if (!self->has_controller) {
        driver_fact(session, true, "topic_settings", "not told: the server has no controller");
        return 0;
    }
    rd_kafka_ConfigResource_t *topic =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, session->options->topic);
    rd_kafka_queue_t *answers = rd_kafka_queue_new(self->asker);
    rd_kafka_AdminOptions_t *how =
        rd_kafka_AdminOptions_new(self->asker, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    (void)rd_kafka_AdminOptions_set_request_timeout(how, ADMIN_MS, words, sizeof(words));
    rd_kafka_DescribeConfigs(self->asker, &topic, 1, how, answers);
    rd_kafka_event_t *event = answer(session, answers);
    if (event) {
        described(session, event);
        rd_kafka_event_destroy(event);
    }
    rd_kafka_AdminOptions_destroy(how);
    rd_kafka_queue_destroy(answers);
    rd_kafka_ConfigResource_destroy(topic);
    return event ? 0 : DRIVER_FAILED;
}

static void described(struct driver_session *session, rd_kafka_event_t *event)
{
    const rd_kafka_DescribeConfigs_result_t *result = rd_kafka_event_DescribeConfigs_result(event);
    size_t count = 0;
    const rd_kafka_ConfigResource_t **topics =
        result && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR
            ? rd_kafka_DescribeConfigs_result_resources(result, &count)
            : NULL;
    if (count > 0 && rd_kafka_ConfigResource_error(topics[0]) == RD_KAFKA_RESP_ERR_NO_ERROR)
        note_settings(session, topics[0]);
    else
        driver_fact(session, true, "topic_settings", "not told: %s",
                    count > 0 ? rd_kafka_ConfigResource_error_string(topics[0])
                              : rd_kafka_event_error_string(event));
}

static void note_settings(struct driver_session *session, const rd_kafka_ConfigResource_t *topic)
{
    static const char *const names[] = {"flush.messages", "flush.ms", "min.insync.replicas",
                                        "max.message.bytes"};
    size_t count = 0;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(topic, &count);
    for (size_t i = 0; i < count; i++) {
        const char *name = rd_kafka_ConfigEntry_name(entries[i]),
                   *value = rd_kafka_ConfigEntry_value(entries[i]);
        for (size_t k = 0; value && k < ARRAY_COUNT(names); k++) {
            if (strcmp(name, names[k]) == 0)
                driver_fact(session, true, name, "%s", value);
        }
        if (value && strcmp(name, "flush.messages") == 0)
            session->ack_means =
                strcmp(value, "1") == 0
                    ? "flushed to the disk of every in-sync replica"
                    : "in the page cache of every in-sync replica, flushed later: flush.messages, "
                      "flush.ms";
    }
}

/* ---- offsets ---- */

/* rd_kafka_query_watermark_offsets() is not used: it asks for one partition at a time, and when the server dies meanwhile it
 * may wait for ever. The two names are times in the protocol's ListOffsets. */
int kafka_offsets(struct driver_session *session, rd_kafka_t *handle, int64_t which,
                  int64_t *offsets)
{
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)session->partition_count);
    for (uint32_t i = 0; i < session->partition_count; i++)
        rd_kafka_topic_partition_list_add(list, session->options->topic, (int32_t)i)->offset =
            which;
    rd_kafka_resp_err_t error = rd_kafka_offsets_for_times(handle, list, KAFKA_ANSWER_MS);
    for (int i = 0; i < list->cnt && error == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
        error = list->elems[i].err;
        offsets[list->elems[i].partition] = list->elems[i].offset;
    }
    rd_kafka_topic_partition_list_destroy(list);
    return error ? kafka_fail(session, "asking for the partitions' offsets", error) : 0;
}

static int sum_of(struct driver_session *session, int64_t which, uint64_t *sum)
{
    struct kafka_session *self = session->self;
    int64_t *offsets = calloc(session->partition_count, sizeof(*offsets));
    if (offsets == NULL)
        return driver_fail(session, "out of memory");
    int status = kafka_offsets(session, self->asker, which, offsets);
    *sum = 0;
    for (uint32_t i = 0; i < session->partition_count && status == 0; i++)
        *sum += (uint64_t)offsets[i];
    free(offsets);
    return status;
}

int kafka_topic_offsets(struct driver_session *session, uint64_t *begins, uint64_t *ends)
{
    if (session->error[0])
        return DRIVER_FAILED; // a server that is gone need not be asked
    return sum_of(session, RD_KAFKA_OFFSET_BEGINNING, begins) ||
                   sum_of(session, RD_KAFKA_OFFSET_END, ends)
               ? DRIVER_FAILED
               : 0;
}
