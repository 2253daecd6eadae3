/* Publishes each line of standard input to a topic and says how many are on stable storage.
 *
 *     cc publish.c $(pkg-config --cflags --libs sluice) -o publish
 *     seq 1000000 | ./publish numbers
 *
 * Sending is asynchronous: sluice_producer_send() copies the line and returns; a report tells later
 * what became of it. With send_waits a full buffer slows the loop down to the broker's pace. */
#include <sluice.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct counts { // written by reports, on the library's thread; read after the flush
    unsigned long stored;
    unsigned long lost;
};

static void on_report(void *context, const struct sluice_report *report)
{
    struct counts *counts = context;
    if (report->status == SLUICE_OK) {
        counts->stored++;
        return;
    }
    if (counts->lost++ == 0)
        fprintf(stderr, "partition %u: %s\n", report->partition, sluice_text(report->status));
}

static int send_lines(struct sluice_producer *producer, const char *topic)
{
    int status = SLUICE_OK;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t len;
    while (status == SLUICE_OK && (len = getline(&line, &capacity, stdin)) >= 0) {
        if (len > 0 && line[len - 1] == '\n')
            len--;
        struct sluice_record record = {.topic = topic,
                                       .partition = SLUICE_PARTITION_ANY,
                                       .value = line,
                                       .value_len = (size_t)len};
        status = sluice_producer_send(producer, &record);
    }
    free(line);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: publish TOPIC < LINES\n");
        return 2;
    }
    struct counts counts = {0};
    struct sluice_client *client;
    struct sluice_producer *producer;
    struct sluice_client_options client_options = {.size = sizeof(client_options)};
    struct sluice_producer_options producer_options = {.size = sizeof(producer_options),
                                                       .send_waits = true,
                                                       .on_report = on_report,
                                                       .context = &counts};
    int status = sluice_client_new(&client_options, &client);
    if (status != SLUICE_OK) {
        fprintf(stderr, "publish: %s %s\n", sluice_text(status), sluice_last_error());
        return 1;
    }
    status = sluice_producer_new(client, &producer_options, &producer);
    if (status == SLUICE_OK) {
        status = send_lines(producer, argv[1]);
        if (status != SLUICE_OK)
            fprintf(stderr, "publish: %s %s\n", sluice_text(status), sluice_last_error());
        int flushed = sluice_producer_flush(producer, 60000);
        if (flushed != SLUICE_OK)
            fprintf(stderr, "publish: %s\n", sluice_text(flushed));
        sluice_producer_free(producer); // reports what is still pending as lost
    }
    sluice_client_free(client);
    printf("%lu stored, %lu lost\n", counts.stored, counts.lost);
    return status != SLUICE_OK || counts.lost > 0;
}
