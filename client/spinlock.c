/* The waiting side of spinlock.h. */
#include "client/spinlock.h"

#include <sched.h>

#define SPINS 100

void spinlock_take_slowly(struct spinlock *lock)
{
    do {
        int spins = SPINS;
        while (atomic_load_explicit(&lock->taken, memory_order_relaxed)) {
            if (--spins > 0)
                __builtin_ia32_pause();
            else
                sched_yield();
        }
    } while (atomic_exchange_explicit(&lock->taken, true, memory_order_acquire));
}
