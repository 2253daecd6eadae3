/* Consume, transform, produce, exactly once: moves the records of one topic to another, with their
 * values in capitals. Kill it and start it again as often as you like, or run several of them with
 * different ids: each record arrives once.
 *
 *     cc transfer.c $(pkg-config --cflags --libs sluice) -o transfer
 *     ./transfer mover-1 movers from to [SECONDS]      SECONDS without a record: the end
 *
 * The id says which program this is in its next life. What the last life left open is aborted when
 * this one begins; what it had committed is not read again, since the positions of the group "movers"
 * are part of each transaction. */
#include <ctype.h>
#include <signal.h>
#include <sluice.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MESSAGES = 500, POLL_MS = 200, PATIENCE_MS = 30000 };

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

/* Key and partition stay, so that the order within a partition does, too. */
static int send_in_capitals(struct sluice_producer *producer, const char *topic,
                            const struct sluice_message *message)
{
    static char value[1 << 20];
    size_t len = message->value_len < sizeof(value) ? message->value_len : sizeof(value);
    for (size_t i = 0; i < len; i++)
        value[i] = (char)toupper(((const unsigned char *)message->value)[i]);
    struct sluice_record record = {.topic = topic,
                                   .partition = message->partition,
                                   .key = message->key,
                                   .key_len = message->key_len,
                                   .value = message->value ? value : NULL,
                                   .value_len = len,
                                   .timestamp_ms = message->timestamp_ms};
    return sluice_producer_send(producer, &record);
}

/* One transaction. If anything fails nothing of it is visible, and its input is read again. */
static int transfer(struct sluice_producer *producer, struct sluice_consumer *consumer,
                    const char *to, const struct sluice_message *messages, int count)
{
    int status = sluice_txn_begin(producer);
    if (status != SLUICE_OK)
        return status;
    for (int i = 0; i < count && status == SLUICE_OK; i++)
        status = send_in_capitals(producer, to, &messages[i]);
    if (status == SLUICE_OK)
        status = sluice_txn_send_offsets(producer, consumer, PATIENCE_MS);
    if (status != SLUICE_OK) {
        sluice_txn_abort(producer, PATIENCE_MS);
        return status;
    }
    do {
        status = sluice_txn_commit(producer, PATIENCE_MS);
    } while (status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT); // not decided: ask again
    return status;
}

static int run(struct sluice_producer *producer, struct sluice_consumer *consumer, const char *to,
               long seconds)
{
    struct sluice_message messages[MESSAGES];
    time_t last = time(NULL);
    unsigned long moved = 0;
    while (!stopped && (seconds == 0 || time(NULL) - last < seconds)) {
        int count = sluice_consumer_poll(consumer, messages, MESSAGES, POLL_MS);
        if (count == 0)
            continue;
        int status = count;
        if (count > 0)
            status = transfer(producer, consumer, to, messages, count);
        if (status == SLUICE_OK) {
            moved += (unsigned long)count;
            last = time(NULL);
            continue;
        }
        fprintf(stderr, "%s: %s\n", sluice_name(status), sluice_text(status));
        if (sluice_is_fatal(status))
            return status;
        while (!stopped && sluice_consumer_rewind(consumer, PATIENCE_MS) != SLUICE_OK)
            fprintf(stderr, "rewind: %s\n", sluice_last_error());
    }
    printf("%lu records moved\n", moved);
    return SLUICE_OK;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: %s ID GROUP FROM TO [SECONDS]\n", argv[0]);
        return 2;
    }
    struct sluice_client *client;
    struct sluice_producer *producer = NULL;
    struct sluice_consumer *consumer = NULL;
    struct sluice_client_options client_options = {.size = sizeof(client_options)};
    struct sluice_producer_options producer_options = {
        .size = sizeof(producer_options), .transactional_id = argv[1], .send_waits = true};
    struct sluice_consumer_options consumer_options = {
        .size = sizeof(consumer_options),
        .group = argv[2],
        .instance_id = argv[1], // so the next life has this one's partitions at once
        .manual_commit = true};
    const char *from = argv[3];
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    int status = sluice_client_new(&client_options, &client);
    if (status != SLUICE_OK)
        return 1;
    status = sluice_producer_new(client, &producer_options, &producer);
    if (status == SLUICE_OK)
        status = sluice_consumer_new(client, &consumer_options, &consumer);
    if (status == SLUICE_OK)
        status = sluice_consumer_join(consumer, &from, 1);
    if (status == SLUICE_OK)
        status = run(producer, consumer, argv[4], argc > 5 ? atol(argv[5]) : 0);
    if (status != SLUICE_OK)
        fprintf(stderr, "%s: %s\n", sluice_name(status), sluice_last_error());
    sluice_consumer_free(consumer);
    sluice_producer_free(producer);
    sluice_client_free(client);
    return status != SLUICE_OK;
}
