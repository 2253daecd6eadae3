/* A thread that asks the driver twice a second. */
#include "bench/engine/watch.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "bench/engine/place.h"

#define LOOK_MS 500
#define LOST_NS_MAX (5 * NS_PER_S)

static void give_up(const struct driver_session *session)
{
    fprintf(stderr, "sluice-bench: %s: no connection to the server for %d s: the run is over\n",
            session->driver->name, (int)(LOST_NS_MAX / NS_PER_S));
    fflush(stdout);
    _exit(1); // the others are inside the library
}

/* Returns false when the watch has ended. */
static bool wait_a_moment(struct watch *watch)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LOOK_MS * (long)NS_PER_MS;
    until.tv_sec += until.tv_nsec / (long)NS_PER_S;
    until.tv_nsec %= (long)NS_PER_S;
    pthread_mutex_lock(&watch->lock);
    if (!watch->has_ended)
        pthread_cond_timedwait(&watch->ended, &watch->lock, &until);
    bool goes_on = !watch->has_ended;
    pthread_mutex_unlock(&watch->lock);
    return goes_on;
}

static void *watch_main(void *context)
{
    struct watch *watch = context;
    uint64_t heard_ns = now_ns();
    while (wait_a_moment(watch)) {
        if (!watch->session->driver->is_lost(watch->session))
            heard_ns = now_ns();
        if (now_ns() - heard_ns > LOST_NS_MAX)
            give_up(watch->session);
    }
    return NULL;
}

void watch_begin(struct watch *watch, struct driver_session *session)
{
    *watch = (struct watch){.session = session};
    pthread_mutex_init(&watch->lock, NULL);
    pthread_cond_init(&watch->ended, NULL);
    watch->has_thread =
        session->driver->is_lost && pthread_create(&watch->thread, NULL, watch_main, watch) == 0;
}

void watch_end(struct watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    watch->has_ended = true;
    pthread_cond_broadcast(&watch->ended);
    pthread_mutex_unlock(&watch->lock);
    if (watch->has_thread)
        pthread_join(watch->thread, NULL);
    pthread_mutex_destroy(&watch->lock);
    pthread_cond_destroy(&watch->ended);
}
