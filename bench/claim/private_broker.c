#include "bench/claim/private_broker.h"

#include <errno.h>
#include <ftw.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/engine/place.h"
#include "bench/engine/undo.h"
#include "client/include/sluice.h"

#define CONNECT_MS 10000
#define SPARES_WAIT_S 180

static int find_program(struct private_broker *broker, const struct bench_options *options);

int private_broker_init(struct private_broker *broker, const struct bench_options *options,
                        const char *const *settings)
{
    const char *above = options->data_dir ? options->data_dir : ".";
    int count = 0;
    *broker = (struct private_broker){.place = ""};
    if (find_program(broker, options))
        return -1;
    snprintf(broker->place, sizeof(broker->place), "%s/sluice-bench-XXXXXX", above);
    if (undo_make_directory(broker->place)) {
        fprintf(stderr, "sluice-bench: %s: %s\n", above, strerror(errno));
        broker->place[0] = '\0';
        return -1;
    }
    snprintf(broker->store, sizeof(broker->store), "%.*s/store", PATH_MAX - 8, broker->place);
    snprintf(broker->cores, sizeof(broker->cores), "%u", options->core_count);
    broker->arguments[count++] = "--cores";
    broker->arguments[count++] = broker->cores;
    for (; *settings; settings++) {
        ASSERT(count + 2 < PRIVATE_ARGUMENTS_MAX);
        broker->arguments[count++] = "--set";
        broker->arguments[count++] = *settings;
    }
    broker->process = (struct broker_process){.program = broker->program,
                                              .data_dir = broker->store,
                                              .io = options->io,
                                              .extra = broker->arguments};
    return 0;
}

int private_broker_open(struct private_broker *broker, const struct bench_options *options,
                        const char *const *settings)
{
    return private_broker_init(broker, options, settings) || private_broker_start(broker) ||
                   private_broker_wait_for_spares(broker)
               ? -1
               : 0;
}

static int find_program(struct private_broker *broker, const struct bench_options *options)
{
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[length > 0 ? length : 0] = '\0';
    if (options->broker_program)
        snprintf(broker->program, sizeof(broker->program), "%s", options->broker_program);
    else
        snprintf(broker->program, sizeof(broker->program), "%.*s/sluiced", PATH_MAX - 16,
                 dirname(self));
    if (access(broker->program, X_OK) == 0)
        return 0;
    fprintf(stderr, "sluice-bench: %s: %s (--broker names another)\n", broker->program,
            strerror(errno));
    return -1;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

void private_broker_deinit(struct private_broker *broker)
{
    if (broker->process.pid > 0)
        (void)broker_stop(&broker->process);
    if (broker->place[0])
        undo_remove_directory(broker->place);
}

void private_broker_forget(struct private_broker *broker)
{
    ASSERT(broker->process.pid == 0);
    (void)nftw(broker->store, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int private_broker_start(struct private_broker *broker)
{
    if (broker_start(&broker->process))
        return 0;
    char line[1024];
    FILE *log = fopen(broker->process.log_path, "re");
    while (log && fgets(line, sizeof(line), log))
        fputs(line, stderr); // it goes with the directory
    if (log)
        fclose(log);
    return -1;
}

/* ---- status ---- */

static int value_of(struct sluice_client *client, const char *name, uint64_t *value)
{
    struct sluice_broker_status status;
    int result = sluice_status(client, &status);
    *value = 0;
    if (result)
        return result;
    for (uint32_t i = 0; i < status.value_count; i++) {
        if (strcmp(status.values[i].name, name) == 0)
            *value = (uint64_t)status.values[i].value;
    }
    sluice_status_free(&status);
    return SLUICE_OK;
}

static int connect_to(struct private_broker *broker, struct sluice_client **client)
{
    struct sluice_client_options options = {
        .size = sizeof(options), .server = broker->process.address, .client_id = "sluice-bench"};
    int status = sluice_client_new(&options, client);
    if (status == SLUICE_OK)
        status = sluice_client_wait(*client, CONNECT_MS);
    if (status == SLUICE_OK)
        return 0;
    fprintf(stderr, "sluice-bench: connecting to %s: %s\n", broker->process.address,
            sluice_text(status));
    return -1;
}

int private_broker_value(struct private_broker *broker, const char *name, uint64_t *value)
{
    struct sluice_client *client;
    if (connect_to(broker, &client))
        return -1;
    int status = value_of(client, name, value);
    sluice_client_free(client);
    if (status)
        fprintf(stderr, "sluice-bench: asking for the status: %s\n", sluice_text(status));
    return status ? -1 : 0;
}

int private_broker_wait_for_spares(struct private_broker *broker)
{
    struct sluice_client *client;
    uint64_t spares = 0, before = UINT64_MAX;
    if (connect_to(broker, &client))
        return -1;
    int status = SLUICE_OK;
    for (int i = 0; i < SPARES_WAIT_S && status == SLUICE_OK; i++) {
        status = value_of(client, "segments_spare", &spares);
        if (spares > 1 && spares == before)
            break;
        before = spares;
        sleep_until_ns(now_ns() + NS_PER_S);
    }
    sluice_client_free(client);
    if (status)
        fprintf(stderr, "sluice-bench: asking for the status: %s\n", sluice_text(status));
    return status ? -1 : 0;
}
