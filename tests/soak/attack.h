/* Clients that do harm by their number or their slowness, as child processes with raw sockets. */
#ifndef SLUICE_TESTS_SOAK_ATTACK_H
#define SLUICE_TESTS_SOAK_ATTACK_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

struct attack { // in shared memory
    char server[64];
    char topic[32];
    uint32_t partitions;
    uint32_t count; // of connections, in all
    uint64_t seed;
    _Atomic uint32_t connected, answered, refused;
    _Atomic uint32_t closed;  // slowloris: by the broker
    _Atomic uint32_t overdue; // longer in HELLO, or in a frame, than the broker's deadline allows
};

/* Each forks and returns; the process goes on until it is killed. */
pid_t attack_storm(struct attack *attack);
pid_t attack_slowly(struct attack *attack);
pid_t attack_without_reading(struct attack *attack);

#endif
