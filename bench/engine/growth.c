#include "bench/engine/growth.h"

int growth_begin(struct growth *growth, struct driver_session *session)
{
    *growth = (struct growth){.is_counted = session->driver->count != NULL};
    if (growth->is_counted && session->driver->count(session, &growth->before))
        return driver_complain(session, "counting the topic's records");
    return 0;
}

void growth_check(const struct growth *growth, struct driver_session *session, uint64_t records,
                  struct report *report)
{
    uint64_t now;
    if (!growth->is_counted)
        return;
    if (session->driver->count(session, &now))
        anomaly(report, "the topic's records could not be counted after the run: %s",
                session->error);
    else if (now - growth->before != records)
        anomaly(report,
                "%llu records were acked, but the topic grew by %llu (is anybody else publishing?)",
                (unsigned long long)records, (unsigned long long)(now - growth->before));
}
