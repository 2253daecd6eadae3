/* An I/O backend whose kernel is one word: a wake-up raises it, a wait ends when it differs from what the owner saw last. Who
 * is woken sees what was done before the wake-up (release and acquire), as after write(2) and epoll_wait(2), or a message
 * between rings; nothing more: a wait that does not sleep, and a wake-up nobody needed, order nothing else. */
#ifndef SLUICE_TESTS_MODEL_WAKE_H
#define SLUICE_TESTS_MODEL_WAKE_H

#include "base/io.h"

struct wake_io {
    struct io io;
    _Atomic uint32_t kicks;
    uint32_t seen; // owner
};

/* In shared memory, for the current execution. */
struct wake_io *wake_io_new(void);

#endif
