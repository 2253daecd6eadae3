/* Handles of librdkafka, and its mock cluster.
 *
 * The mock cluster listens on loopback inside this process and keeps a few MiB of each partition in memory: with it
 * the driver is tested where there is no server. It is not a broker, and the report says so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/address.h"
#include "bench/driver/kafka/kafka.h"

#define SERVER_DEFAULT "127.0.0.1:9092"
#define MOCK_BROKERS_MAX 16

/* Without this the system's congestion control paces even on loopback. */
static int open_socket(int domain, int type, int protocol, void *opaque)
{
    (void)opaque;
    int fd = socket(domain, type | SOCK_CLOEXEC, protocol);
    if (fd >= 0)
        address_tune_socket(fd);
    return fd;
}

static int set(struct driver_session *session, rd_kafka_conf_t *conf,
               const struct kafka_setting *setting)
{
    char words[KAFKA_ERROR_MAX];
    if (setting->value == NULL || rd_kafka_conf_set(conf, setting->name, setting->value, words,
                                                    sizeof(words)) == RD_KAFKA_CONF_OK)
        return 0;
    return driver_fail(session, "%s = %s: %s", setting->name, setting->value, words);
}

rd_kafka_t *kafka_handle(struct driver_session *session, rd_kafka_type_t type,
                         const struct kafka_setting *settings, void *opaque,
                         void (*on_error)(rd_kafka_t *handle, int error, const char *reason,
                                          void *opaque))
{
    const struct kafka_session *self = session->self;
    const struct kafka_setting all[] = {
        {"bootstrap.servers", self->servers[0] ? self->servers : NULL},
        {"client.id", "sluice-bench"},
        {"socket.nagle.disable", "true"},
    };
    char words[KAFKA_ERROR_MAX];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_socket_cb(conf, open_socket);
    rd_kafka_conf_set_log_cb(conf, NULL); // what matters comes as an error, too
    rd_kafka_conf_set_opaque(conf, opaque);
    if (on_error)
        rd_kafka_conf_set_error_cb(conf, on_error);
    else
        rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    int status = 0;
    for (size_t i = 0; i < ARRAY_COUNT(all) && status == 0; i++)
        status = set(session, conf, &all[i]);
    for (; settings->name && status == 0; settings++)
        status = set(session, conf, settings);
    rd_kafka_t *handle =
        status == 0 ? rd_kafka_new(type, conf, words, sizeof(words)) : NULL; // owns conf then
    if (handle)
        return handle;
    if (status == 0)
        (void)driver_fail(session, "starting librdkafka: %s", words);
    rd_kafka_conf_destroy(conf);
    return NULL;
}

int kafka_fail(struct driver_session *session, const char *what, rd_kafka_resp_err_t error)
{
    return driver_fail(session, "%s: %s (%s)", what, rd_kafka_err2str(error),
                       rd_kafka_err2name(error));
}

/* ---- the mock cluster ---- */

static void ignore_error(rd_kafka_t *handle, int error, const char *reason, void *opaque)
{
    (void)handle, (void)error, (void)reason, (void)opaque;
}

int kafka_mock_start(struct driver_session *session)
{
    struct kafka_session *self = session->self;
    const struct bench_options *options = session->options;
    const char *server = options->server ? options->server : SERVER_DEFAULT;
    bool is_mock = strcmp(server, "mock") == 0 || strncmp(server, "mock:", 5) == 0;
    int brokers = 1;
    char rest;
    if (!is_mock) {
        snprintf(self->servers, sizeof(self->servers), "%s", server);
        return 0;
    }
    if (server[4] && (sscanf(server + 5, "%d%c", &brokers, &rest) != 1 || brokers < 1 ||
                      brokers > MOCK_BROKERS_MAX))
        return driver_fail(session, "--server %s: want mock or mock:N, N 1..%d", server,
                           MOCK_BROKERS_MAX);
    const struct kafka_setting none = {0};
    self->mock_owner = kafka_handle(session, RD_KAFKA_PRODUCER, &none, self, ignore_error);
    if (self->mock_owner == NULL)
        return DRIVER_FAILED;
    self->mock = rd_kafka_mock_cluster_new(self->mock_owner, brokers);
    if (self->mock == NULL)
        return driver_fail(session, "librdkafka's mock cluster did not start");
    snprintf(self->servers, sizeof(self->servers), "%s",
             rd_kafka_mock_cluster_bootstraps(self->mock));
    rd_kafka_resp_err_t error = rd_kafka_mock_topic_create(
        self->mock, options->topic, options->partition_count ? (int)options->partition_count : 1,
        (int)min_u64((uint64_t)brokers, 3));
    if (error)
        return kafka_fail(session, "making a topic of the mock cluster", error);
    fprintf(stderr, "sluice-bench: a mock cluster of librdkafka, no broker, is on %s\n",
            self->servers);
    driver_fact(session, false, "server", "a mock cluster of %d in this process: no broker",
                brokers);
    return 0;
}

void kafka_mock_stop(struct kafka_session *self)
{
    if (self->mock)
        rd_kafka_mock_cluster_destroy(self->mock);
    if (self->mock_owner)
        rd_kafka_destroy(self->mock_owner);
}
