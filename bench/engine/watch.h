/* Ends the program when the broker has been out of reach for some seconds: the threads of a load would wait in the library for as long as that
 * goes on trying, which is minutes, and there is nothing to be measured any more. Claims that kill their broker do not use it. */
#ifndef SLUICE_BENCH_ENGINE_WATCH_H
#define SLUICE_BENCH_ENGINE_WATCH_H

#include <pthread.h>

#include "bench/driver/driver.h"

struct watch {
    struct driver_session *session;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool has_ended; // under lock
};

/* Does nothing for a driver that cannot tell. Thread: main. */
void watch_begin(struct watch *watch, struct driver_session *session);
void watch_end(struct watch *watch);

#endif
