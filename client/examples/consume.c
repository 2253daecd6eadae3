/* Prints a topic's records from the beginning, one a line, up to the ends that are visible at the
 * start.
 *
 *     cc consume.c $(pkg-config --cflags --libs sluice) -o consume
 *     ./consume numbers
 *
 * A lost connection is made again by the library, and reading goes on where it was. */
#include <sluice.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { MESSAGES_PER_POLL = 256, POLL_MS = 1000 };

/* Sets *ends to the offsets behind the last records, one for each partition. */
static int find_ends(struct sluice_client *client, const char *topic, uint64_t **ends,
                     uint32_t *partition_count)
{
    struct sluice_topic *topics;
    uint32_t count;
    int status = sluice_topic_list(client, &topic, 1, &topics, &count);
    if (status != SLUICE_OK)
        return status;
    *partition_count = topics[0].partition_count;
    sluice_topics_free(topics, count);
    *ends = calloc(*partition_count, sizeof(**ends));
    if (!*ends)
        return SLUICE_E_NO_MEMORY;
    for (uint32_t p = 0; p < *partition_count && status == SLUICE_OK; p++)
        status = sluice_offset(client, topic, p, SLUICE_START_END, 0, &(*ends)[p]);
    return status;
}

/* A partition is done when what comes next in it lies behind its end. */
static int is_done(struct sluice_consumer *consumer, const char *topic, const uint64_t *ends,
                   uint32_t partition_count)
{
    for (uint32_t p = 0; p < partition_count; p++) {
        uint64_t position = 0;
        sluice_consumer_position(consumer, topic, p, &position, NULL);
        if (position < ends[p])
            return 0;
    }
    return 1;
}

static int print_all(struct sluice_consumer *consumer, const char *topic, const uint64_t *ends,
                     uint32_t partition_count)
{
    struct sluice_message messages[MESSAGES_PER_POLL];
    while (!is_done(consumer, topic, ends, partition_count)) {
        int count = sluice_consumer_poll(consumer, messages, MESSAGES_PER_POLL, POLL_MS);
        if (count < 0)
            return count;
        for (int i = 0; i < count; i++)
            printf("%u\t%lu\t%.*s\n", messages[i].partition, (unsigned long)messages[i].offset,
                   (int)messages[i].value_len, (const char *)messages[i].value);
    }
    return SLUICE_OK;
}

static int consume(struct sluice_client *client, const char *topic)
{
    uint64_t *ends = NULL;
    uint32_t partition_count = 0;
    struct sluice_consumer *consumer = NULL;
    struct sluice_consumer_options options = {.size = sizeof(options)};
    int status = find_ends(client, topic, &ends, &partition_count);
    if (status == SLUICE_OK)
        status = sluice_consumer_new(client, &options, &consumer);
    if (status == SLUICE_OK)
        status = sluice_consumer_subscribe(consumer, topic, SLUICE_PARTITION_ANY,
                                           SLUICE_START_BEGINNING, 0);
    if (status == SLUICE_OK)
        status = print_all(consumer, topic, ends, partition_count);
    sluice_consumer_free(consumer);
    free(ends);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: consume TOPIC\n");
        return 2;
    }
    struct sluice_client *client;
    struct sluice_client_options options = {.size = sizeof(options)};
    int status = sluice_client_new(&options, &client);
    if (status == SLUICE_OK) {
        status = consume(client, argv[1]);
        sluice_client_free(client);
    }
    if (status != SLUICE_OK)
        fprintf(stderr, "consume: %s %s\n", sluice_text(status), sluice_last_error());
    return status != SLUICE_OK;
}
