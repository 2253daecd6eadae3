/* One side of a two-phase commit, as a program that may end between the phases:
 *
 *   sluice-prepared ID TOPIC VALUE          sends ten records, prepares, prints the name, and is gone
 *   sluice-prepared ID commit | abort       ends what an earlier run has prepared
 *
 * Exit: 0 done; 1 failed; 4: a prepared transaction waits, so a new one can't begin. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/include/sluice.h"

#define PATIENCE_MS 10000

static int prepare(struct sluice_producer *producer, const char *topic, const char *value)
{
    struct sluice_txn_name name;
    int status = sluice_txn_begin(producer);
    for (int i = 0; i < 10 && status == SLUICE_OK; i++) {
        struct sluice_record record = {.topic = topic,
                                       .partition = SLUICE_PARTITION_ANY,
                                       .key = &i,
                                       .key_len = sizeof(i),
                                       .value = value,
                                       .value_len = strlen(value)};
        status = sluice_producer_send(producer, &record);
    }
    if (status == SLUICE_OK)
        status = sluice_txn_prepare(producer, PATIENCE_MS, &name);
    if (status == SLUICE_OK)
        printf("prepared %s %" PRIu32 "/%" PRIu64 "\n", name.id, name.coordinator, name.open_lsn);
    return status;
}

static int end(struct sluice_producer *producer, const char *how)
{
    struct sluice_txn_name name;
    int waits = sluice_txn_recover(producer, PATIENCE_MS, &name);
    if (waits <= 0)
        return waits < 0 ? waits : SLUICE_E_UNKNOWN_TRANSACTION;
    printf("waits %s %" PRIu32 "/%" PRIu64 "\n", name.id, name.coordinator, name.open_lsn);
    return strcmp(how, "commit") == 0 ? sluice_txn_commit(producer, PATIENCE_MS)
                                      : sluice_txn_abort(producer, PATIENCE_MS);
}

int main(int argc, char **argv)
{
    struct sluice_client *client;
    struct sluice_producer *producer;
    struct sluice_client_options options = {.size = sizeof(options)};
    if (argc < 3 || sluice_client_new(&options, &client) != SLUICE_OK)
        return 1;
    struct sluice_producer_options producer_options = {.size = sizeof(producer_options),
                                                       .transactional_id = argv[1]};
    int status = sluice_producer_new(client, &producer_options, &producer);
    if (status == SLUICE_OK) {
        status = argc > 3 ? prepare(producer, argv[2], argv[3]) : end(producer, argv[2]);
        if (status != SLUICE_OK)
            fprintf(stderr, "%s: %s\n", sluice_name(status), sluice_last_error());
        sluice_producer_free(producer);
    }
    sluice_client_free(client);
    return status == SLUICE_OK ? 0 : status == SLUICE_E_TRANSACTION_PREPARED ? 4 : 1;
}
