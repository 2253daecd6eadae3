/* The driver of NATS JetStream, by libnats: the topic is a stream in files, its only subject has the same name.
 *
 * Producers share --clients connections; each has an own inbox for answers, and the library an own thread for it. The library
 * either writes each record at once, or collects for up to a millisecond: the first where latency is measured or the rate is given,
 * the second for --rate max, where it sends the more.
 *
 * What an ack means is decided by the server: the record is in a file's page cache. 2.9 flushes every 2 minutes and has no setting
 * for that; later versions have sync_interval, and with "always" an ack is an fsync. */
#include <stdlib.h>
#include <string.h>

#include "bench/driver/drivers.h"
#include "bench/driver/nats/jetstream.h"

#define IO_BUFFER_BYTES (64 * 1024) // of a connection: the library writes when it is full
#define PING_INTERVAL_MS 5000       // two without an answer end a connection whose server hangs
#define CLOSE_MS 10000

static char ack_words[160]; // one session at a time has them

static int make_options(struct jetstream *self);
static int connect_all(struct jetstream *self);
static int make_stream(struct jetstream *self);
static int describe(struct jetstream *self);

/* ---- session ---- */

static int session_open(struct driver_session *session)
{
    const struct bench_options *options = session->options;
    if (options->partition_count > 1)
        return driver_fail(session, "--partitions %u: a stream has no partitions",
                           options->partition_count);
    struct jetstream *self =
        calloc(1, sizeof(*self) + options->client_count * sizeof(natsConnection *));
    if (self == NULL)
        return jetstream_fail(session, "preparing", NATS_NO_MEMORY);
    self->session = session;
    session->self = self;
    session->partition_count = 1;
    return make_options(self) || connect_all(self) || make_stream(self) || describe(self)
               ? DRIVER_FAILED
               : 0;
}

static void session_close(struct driver_session *session)
{
    struct jetstream *self = session->self;
    jsCtx_Destroy(self->context);
    for (uint32_t i = 0; i < self->connection_count; i++)
        natsConnection_Destroy(self->connections[i]);
    natsOptions_Destroy(self->options);
    (void)nats_CloseAndWait(CLOSE_MS); // no thread of the library is in our code any more
    jetstream_producers_release(self);
    free(self);
}

/* The library collects for a millisecond before it writes: right for a top rate, wrong for everything else. */
static bool sends_at_once(const struct bench_options *options)
{
    return options->rate > 0 || options->closed_loop > 0 || options->command == BENCH_SWEEP;
}

static int make_options(struct jetstream *self)
{
    const struct bench_options *options = self->session->options;
    snprintf(self->url, sizeof(self->url), "nats://%s",
             options->server ? options->server : JETSTREAM_SERVER);
    natsOptions *made = NULL;
    natsStatus status = natsOptions_Create(&made);
    self->options = made;
    if (status == NATS_OK)
        status = natsOptions_SetURL(made, self->url);
    if (status == NATS_OK)
        status = natsOptions_SetName(made, "sluice-bench");
    if (status == NATS_OK)
        status = natsOptions_SetTimeout(made, JETSTREAM_WAIT_MS);
    if (status == NATS_OK)
        status = natsOptions_SetAllowReconnect(made, false);
    if (status == NATS_OK)
        status = natsOptions_SetIOBufSize(made, IO_BUFFER_BYTES);
    if (status == NATS_OK)
        status = natsOptions_SetWriteDeadline(made, JETSTREAM_WAIT_MS);
    if (status == NATS_OK)
        status = natsOptions_SetPingInterval(made, PING_INTERVAL_MS);
    if (status == NATS_OK)
        status = natsOptions_SetSendAsap(made, sends_at_once(options));
    return status == NATS_OK ? 0 : jetstream_fail(self->session, self->url, status);
}

int jetstream_connect(struct jetstream *self, natsConnection **connection)
{
    natsStatus status = natsConnection_Connect(connection, self->options);
    return status == NATS_OK ? 0 : jetstream_fail(self->session, self->url, status);
}

int jetstream_context(struct jetstream *self, natsConnection *connection, const jsOptions *options,
                      jsCtx **context)
{
    jsOptions copy = *options;
    natsStatus status = natsConnection_JetStream(context, connection, &copy);
    return status == NATS_OK ? 0 : jetstream_fail(self->session, "using JetStream", status);
}

static int connect_all(struct jetstream *self)
{
    for (; self->connection_count < self->session->options->client_count;
         self->connection_count++) {
        if (jetstream_connect(self, &self->connections[self->connection_count]))
            return DRIVER_FAILED;
    }
    jsOptions options;
    jsOptions_Init(&options);
    options.Wait = JETSTREAM_WAIT_MS;
    return jetstream_context(self, self->connections[0], &options, &self->context);
}

/* ---- the stream ---- */

static int make_stream(struct jetstream *self)
{
    const char *topic = self->session->options->topic;
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    natsStatus status = js_GetStreamInfo(&info, self->context, topic, NULL, &code);
    if (status == NATS_NOT_FOUND) {
        jsStreamConfig config;
        jsStreamConfig_Init(&config);
        config.Name = topic;
        config.Subjects = &topic;
        config.SubjectsLen = 1;
        config.Storage = js_FileStorage;
        status = js_AddStream(NULL, self->context, &config, NULL, &code);
    }
    jsStreamInfo_Destroy(info);
    return status == NATS_OK ? 0 : jetstream_fail(self->session, "making the stream", status);
}

static int stream_info(struct driver_session *session, jsStreamInfo **info)
{
    struct jetstream *self = session->self;
    jsErrCode code = 0;
    natsStatus status = js_GetStreamInfo(info, self->context, session->options->topic, NULL, &code);
    return status == NATS_OK ? 0 : jetstream_fail(session, "asking for the stream", status);
}

static int stream_count(struct driver_session *session, uint64_t *records)
{
    jsStreamInfo *info;
    if (stream_info(session, &info))
        return DRIVER_FAILED;
    *records = info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    return 0;
}

static int stream_available(struct driver_session *session, uint64_t *records)
{
    jsStreamInfo *info;
    if (stream_info(session, &info))
        return DRIVER_FAILED;
    *records = info->State.Msgs;
    jsStreamInfo_Destroy(info);
    return 0;
}

/* ---- what the server says ---- */

static int check_size(struct driver_session *session, const jsStreamConfig *config, int64_t most)
{
    if (config->MaxMsgSize > 0)
        most = (int64_t)min_u64((uint64_t)most, (uint64_t)config->MaxMsgSize);
    if ((int64_t)session->options->record_bytes <= most)
        return 0;
    return driver_fail(session, "--record-size %llu: the server takes up to %lld (max_payload)",
                       (unsigned long long)session->options->record_bytes, (long long)most);
}

static int describe(struct jetstream *self)
{
    struct driver_session *session = self->session;
    char sync[80];
    jsStreamInfo *info;
    if (stream_info(session, &info))
        return DRIVER_FAILED;
    const jsStreamConfig *config = info->Config;
    bool in_memory = config->Storage == js_MemoryStorage;
    int64_t payload_max = natsConnection_GetMaxPayload(self->connections[0]);
    driver_fact(session, true, "storage", "%s", in_memory ? "memory" : "file");
    driver_fact(session, true, "replicas", "%lld", (long long)config->Replicas);
    driver_fact(session, true, "max_payload", "%lld", (long long)payload_max);
    driver_fact(session, false, "records_in_flight", "%u",
                jetstream_records_in_flight(session->options));
    driver_fact(session, false, "client_sends", "%s",
                sends_at_once(session->options) ? "at once" : "what comes within 1 ms together");
    int status = check_size(session, config, payload_max);
    if (config->NoAck)
        status = driver_fail(session, "the stream is set to acknowledge nothing (no_ack)");
    if (status == 0)
        status = jetstream_ask_server(session, sync);
    if (status == 0)
        snprintf(ack_words, sizeof(ack_words), "%s%s",
                 in_memory ? "in the server's memory" : "written to the page cache; ",
                 in_memory ? "" : sync);
    session->ack_means = ack_words;
    jsStreamInfo_Destroy(info);
    return status;
}

int jetstream_fail(struct driver_session *session, const char *what, natsStatus status)
{
    natsStatus last = NATS_OK;
    const char *words = nats_GetLastError(&last);
    bool fits = words && *words && last == status; // else it is about something before
    if (status == NATS_NO_RESPONDERS)
        return driver_fail(session, "%s: nobody answers: is JetStream enabled in the server?",
                           what);
    return driver_fail(session, "%s: %s%s%s", what, natsStatus_GetText(status), fits ? ": " : "",
                       fits ? words : "");
}

const struct bench_driver driver_nats = {
    .name = "nats",
    .library = "libnats " NATS_VERSION_STRING,
    .open = session_open,
    .close = session_close,
    .count = stream_count,
    .available = stream_available,
    .producer_new = jetstream_producer_new,
    .producer_send = jetstream_producer_send,
    .producer_flush = jetstream_producer_flush,
    .producer_free = jetstream_producer_free,
    .consumer_new = jetstream_consumer_new,
    .consumer_poll = jetstream_consumer_poll,
    .consumer_free = jetstream_consumer_free,
};
