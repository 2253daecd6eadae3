/* Creates a topic if it isn't there, and shows what the broker has.
 *
 *     cc admin.c $(pkg-config --cflags --libs sluice) -o admin
 *     ./admin numbers 4 */
#include <sluice.h>
#include <stdio.h>
#include <stdlib.h>

static int make_topic(struct sluice_client *client, const char *name, uint32_t partition_count)
{
    const struct sluice_setting settings[] = {{"retention_ms", "7d"}};
    int status = sluice_topic_create(client, name, partition_count, settings, 1);
    return status == SLUICE_E_TOPIC_EXISTS ? SLUICE_OK : status;
}

static int show_topics(struct sluice_client *client)
{
    struct sluice_topic *topics;
    uint32_t count;
    int status = sluice_topic_list(client, NULL, 0, &topics, &count);
    if (status != SLUICE_OK)
        return status;
    for (uint32_t i = 0; i < count; i++)
        printf("topic %s, %u partitions\n", topics[i].name, topics[i].partition_count);
    sluice_topics_free(topics, count);
    return SLUICE_OK;
}

static int show_status(struct sluice_client *client)
{
    struct sluice_broker_status status;
    int result = sluice_status(client, &status);
    if (result != SLUICE_OK)
        return result;
    printf("ready %s, produce %s, consume %s %s\n", status.ready ? "yes" : "no",
           status.can_produce ? "yes" : "no", status.can_consume ? "yes" : "no", status.reason);
    sluice_status_free(&status);
    return SLUICE_OK;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: admin TOPIC PARTITIONS\n");
        return 2;
    }
    struct sluice_client *client;
    struct sluice_client_options options = {.size = sizeof(options)};
    int status = sluice_client_new(&options, &client);
    if (status != SLUICE_OK)
        return 1;
    status = make_topic(client, argv[1], (uint32_t)strtoul(argv[2], NULL, 10));
    if (status == SLUICE_OK)
        status = show_topics(client);
    if (status == SLUICE_OK)
        status = show_status(client);
    if (status != SLUICE_OK)
        fprintf(stderr, "admin: %s %s\n", sluice_text(status), sluice_last_error());
    sluice_client_free(client);
    return status != SLUICE_OK;
}
