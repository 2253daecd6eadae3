/* The table of drivers, and what all of them share. */
#include "bench/driver/driver.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bench/driver/drivers.h"

static const struct bench_driver *const drivers[] = {
    &driver_sluice,
#ifdef SLUICE_BENCH_KAFKA
    &driver_kafka,
#endif
#ifdef SLUICE_BENCH_REDIS
    &driver_redis,
#endif
#ifdef SLUICE_BENCH_NATS
    &driver_nats,
#endif
#ifdef SLUICE_BENCH_RABBITMQ
    &driver_rabbitmq, &driver_rabbitmq_stream,
#endif
};

static pthread_mutex_t error_lock = PTHREAD_MUTEX_INITIALIZER;

const struct bench_driver *driver_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(drivers); i++) {
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    }
    return NULL;
}

const char *driver_names(void)
{
    static char names[128];
    size_t at = 0;
    for (size_t i = 0; i < ARRAY_COUNT(drivers); i++)
        at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", i > 0 ? ", " : "",
                               drivers[i]->name);
    return names;
}

int driver_session_open(struct driver_session *session, const struct bench_options *options)
{
    *session = (struct driver_session){.driver = driver_find(options->driver), .options = options};
    ASSERT(session->driver); // options.c has looked
    if (session->driver->open(session) ||
        (session->driver->fetch_facts && session->driver->fetch_facts(session))) {
        driver_complain(session, session->driver->name);
        driver_session_close(session);
        return -1;
    }
    return 0;
}

void driver_session_close(struct driver_session *session)
{
    if (session->self)
        session->driver->close(session);
    session->self = NULL;
}

int driver_fail(struct driver_session *session, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&error_lock);
    if (session->error[0] == '\0')
        vsnprintf(session->error, sizeof(session->error), format, arguments);
    pthread_mutex_unlock(&error_lock);
    va_end(arguments);
    return DRIVER_FAILED;
}

void driver_fact(struct driver_session *session, bool is_fetched, const char *name,
                 const char *format, ...)
{
    if (session->fact_count == DRIVER_FACTS_MAX)
        return;
    struct driver_fact *fact = &session->facts[session->fact_count++];
    va_list arguments;
    va_start(arguments, format);
    fact->is_fetched = is_fetched;
    snprintf(fact->name, sizeof(fact->name), "%s", name);
    vsnprintf(fact->value, sizeof(fact->value), format, arguments);
    va_end(arguments);
}

int driver_complain(const struct driver_session *session, const char *what)
{
    fprintf(stderr, "sluice-bench: %s: %s\n", what,
            session->error[0] ? session->error : "failed without saying why");
    return -1;
}
