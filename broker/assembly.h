/* A broker's parts put together: data directory, cores with their shards, and the checks that need all of them.
 *
 * What needs no process around it: no signals, no exit codes, no HTTP. broker.c is that process; tests put a broker together
 * without one.
 *
 *     assembly_open_directory()   locks it, learns what the store has
 *     (a listening socket in broker->listen_fd)
 *     assembly_start_cores()      each recovers its shards; wait for CORE_OPEN
 *     assembly_check_store()      what only the whole store can tell
 *     assembly_post(INBOX_START)  wait for CORE_SERVING
 *
 * Texts have room for ASSEMBLY_TEXT_MAX bytes and name file and place. Thread: main. */
#ifndef SLUICE_BROKER_ASSEMBLY_H
#define SLUICE_BROKER_ASSEMBLY_H

#include "broker/broker.h"

#define ASSEMBLY_TEXT_MAX 600

MUST_USE int assembly_open_directory(struct broker *broker, char *text);
MUST_USE int assembly_start_cores(struct broker *broker, char *text);
MUST_USE int assembly_check_store(struct broker *broker, char *text);

bool assembly_has_failed(const struct broker *broker);
/* Why, of the first core that failed to start; 0: none did. */
int assembly_failure(const struct broker *broker, const char **text);
bool assembly_has_reached(const struct broker *broker, enum core_state state);
void assembly_post(struct broker *broker, enum inbox_kind kind, uint64_t value); // to each core

#endif
