/* The explorer's own test: programs of a few lines whose exact sets of outcomes are known from the literature.
 *
 * Names as usual: SB store buffering, MP message passing, LB load buffering, IRIW independent reads of independent writes, CoRR
 * coherence of two reads, 2+2W two writes each, WRC write to read causality. A digit of an outcome is what a load saw, or what a
 * location holds in the end. */
#include <stdatomic.h>

#include "tests/model/models.h"

#define RLX memory_order_relaxed
#define ACQ memory_order_acquire
#define REL memory_order_release
#define SC memory_order_seq_cst

#define LOAD(place, how) (uint64_t) atomic_load_explicit(&(place), how)
#define STORE(place, value, how) atomic_store_explicit(&(place), value, how)
#define FENCE(how) atomic_thread_fence(how)
#define SEE(index, place, how) model_result(index, LOAD(place, how))

static _Atomic int x, y, z;
static int *data; // plain

static void setup(void)
{
    atomic_init(&x, 0);
    atomic_init(&y, 0);
    atomic_init(&z, 0);
    data = model_memory(sizeof(*data), 64);
}

#define THREADS(name, ...)                                                                         \
    static void name(int self)                                                                     \
    {                                                                                              \
        switch (self) {                                                                            \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define T(number, ...)                                                                             \
    case number: {                                                                                 \
        __VA_ARGS__                                                                                \
        break;                                                                                     \
    }

/* clang-format off */

/* ---- SB ---- */
THREADS(sb_relaxed, T(0, STORE(x, 1, RLX); SEE(0, y, RLX);) T(1, STORE(y, 1, RLX); SEE(1, x, RLX);))
THREADS(sb_release_acquire, T(0, STORE(x, 1, REL); SEE(0, y, ACQ);) T(1, STORE(y, 1, REL); SEE(1, x, ACQ);))
THREADS(sb_seq_cst, T(0, STORE(x, 1, SC); SEE(0, y, SC);) T(1, STORE(y, 1, SC); SEE(1, x, SC);))
THREADS(sb_fences, T(0, STORE(x, 1, RLX); FENCE(SC); SEE(0, y, RLX);) T(1, STORE(y, 1, RLX); FENCE(SC); SEE(1, x, RLX);))
THREADS(sb_one_fence, T(0, STORE(x, 1, RLX); FENCE(SC); SEE(0, y, RLX);) T(1, STORE(y, 1, RLX); SEE(1, x, RLX);))
THREADS(sb_acq_rel_fences, T(0, STORE(x, 1, RLX); FENCE(memory_order_acq_rel); SEE(0, y, RLX);)
                           T(1, STORE(y, 1, RLX); FENCE(memory_order_acq_rel); SEE(1, x, RLX);))
THREADS(sb_seq_cst_loads_relaxed, T(0, STORE(x, 1, SC); SEE(0, y, RLX);) T(1, STORE(y, 1, SC); SEE(1, x, RLX);))
THREADS(sb_exchange, T(0, (void)atomic_exchange(&x, 1); model_result(0, (uint64_t)atomic_fetch_add(&y, 0));)
                     T(1, (void)atomic_exchange(&y, 1); model_result(1, (uint64_t)atomic_fetch_add(&x, 0));))

/* ---- MP ---- */
THREADS(mp_relaxed, T(0, STORE(x, 1, RLX); STORE(y, 1, RLX);) T(1, SEE(0, y, RLX); SEE(1, x, RLX);))
THREADS(mp_release_acquire, T(0, STORE(x, 1, RLX); STORE(y, 1, REL);) T(1, SEE(0, y, ACQ); SEE(1, x, RLX);))
THREADS(mp_release_only, T(0, STORE(x, 1, RLX); STORE(y, 1, REL);) T(1, SEE(0, y, RLX); SEE(1, x, RLX);))
THREADS(mp_acquire_only, T(0, STORE(x, 1, RLX); STORE(y, 1, RLX);) T(1, SEE(0, y, ACQ); SEE(1, x, RLX);))
THREADS(mp_fences, T(0, STORE(x, 1, RLX); FENCE(REL); STORE(y, 1, RLX);) T(1, SEE(0, y, RLX); FENCE(ACQ); SEE(1, x, RLX);))
THREADS(mp_fence_wrong_side, T(0, STORE(x, 1, RLX); STORE(y, 1, RLX); FENCE(REL);) T(1, SEE(0, y, RLX); FENCE(ACQ); SEE(1, x, RLX);))
THREADS(mp_plain, T(0, *data = 1; STORE(y, 1, REL);)
                  T(1, uint64_t saw = LOAD(y, ACQ); model_result(0, saw); model_result(1, saw ? (uint64_t)*data : 9);))

/* ---- LB: what this model does not show ---- */
THREADS(lb_relaxed, T(0, SEE(0, x, RLX); STORE(y, 1, RLX);) T(1, SEE(1, y, RLX); STORE(x, 1, RLX);))

/* ---- IRIW ---- */
THREADS(iriw_acquire, T(0, STORE(x, 1, REL);) T(1, STORE(y, 1, REL);)
                      T(2, SEE(0, x, ACQ); SEE(1, y, ACQ);) T(3, SEE(2, y, ACQ); SEE(3, x, ACQ);))
THREADS(iriw_seq_cst, T(0, STORE(x, 1, SC);) T(1, STORE(y, 1, SC);)
                      T(2, SEE(0, x, SC); SEE(1, y, SC);) T(3, SEE(2, y, SC); SEE(3, x, SC);))
THREADS(iriw_fences, T(0, STORE(x, 1, RLX);) T(1, STORE(y, 1, RLX);)
                     T(2, SEE(0, x, RLX); FENCE(SC); SEE(1, y, RLX);) T(3, SEE(2, y, RLX); FENCE(SC); SEE(3, x, RLX);))

/* ---- coherence ---- */
THREADS(corr, T(0, STORE(x, 1, RLX); STORE(x, 2, RLX);) T(1, SEE(0, x, RLX); SEE(1, x, RLX);))
THREADS(corr_two_writers, T(0, STORE(x, 1, RLX);) T(1, STORE(x, 2, RLX);)
                          T(2, SEE(0, x, RLX); SEE(1, x, RLX);) T(3, SEE(2, x, RLX); SEE(3, x, RLX);))
THREADS(cowr, T(0, STORE(x, 1, RLX); SEE(0, x, RLX);) T(1, STORE(x, 2, RLX);))
THREADS(two_two_w_relaxed, T(0, STORE(x, 1, RLX); STORE(y, 2, RLX);) T(1, STORE(y, 1, RLX); STORE(x, 2, RLX);))
THREADS(two_two_w_seq_cst, T(0, STORE(x, 1, SC); STORE(y, 2, SC);) T(1, STORE(y, 1, SC); STORE(x, 2, SC);))
THREADS(wrc_relaxed, T(0, STORE(x, 1, RLX);) T(1, SEE(0, x, RLX); STORE(y, 1, RLX);) T(2, SEE(1, y, RLX); SEE(2, x, RLX);))
THREADS(wrc_release_acquire, T(0, STORE(x, 1, RLX);) T(1, SEE(0, x, RLX); STORE(y, 1, REL);) T(2, SEE(1, y, ACQ); SEE(2, x, RLX);))

/* ---- read-modify-writes and release sequences ---- */
THREADS(add_two, T(0, model_result(0, (uint64_t)atomic_fetch_add_explicit(&x, 1, RLX));)
                 T(1, model_result(1, (uint64_t)atomic_fetch_add_explicit(&x, 1, RLX));))
THREADS(add_three, T(0, model_result(0, (uint64_t)atomic_fetch_add_explicit(&x, 1, RLX));)
                   T(1, model_result(1, (uint64_t)atomic_fetch_add_explicit(&x, 1, RLX));)
                   T(2, model_result(2, (uint64_t)atomic_fetch_add_explicit(&x, 1, RLX));))
THREADS(add_and_store, T(0, model_result(0, (uint64_t)atomic_fetch_add_explicit(&x, 1, RLX));) T(1, STORE(x, 5, RLX);))
THREADS(cas_one_wins, T(0, int zero = 0; model_result(0, atomic_compare_exchange_strong(&x, &zero, 1));)
                      T(1, int zero = 0; model_result(1, atomic_compare_exchange_strong(&x, &zero, 2));))
THREADS(cas_weak, T(0, int zero = 0; model_result(0, atomic_compare_exchange_weak_explicit(&x, &zero, 1, RLX, RLX));))
THREADS(sequence_rmw, T(0, STORE(x, 1, RLX); STORE(y, 1, REL);)
                      T(1, int one = 1; (void)atomic_compare_exchange_weak_explicit(&y, &one, 2, RLX, RLX);)
                      T(2, SEE(0, y, ACQ); SEE(1, x, RLX);))
THREADS(sequence_store, T(0, STORE(x, 1, RLX); STORE(y, 1, REL); STORE(y, 2, RLX);) T(1, SEE(0, y, ACQ); SEE(1, x, RLX);))

/* ---- waiting ---- */
THREADS(wait_relaxed, T(0, STORE(x, 1, RLX); STORE(y, 1, RLX);) T(1, (void)model_await(&y, 0, RLX); SEE(0, x, RLX);))
THREADS(wait_acquire, T(0, STORE(x, 1, RLX); STORE(y, 1, REL);) T(1, (void)model_await(&y, 0, ACQ); SEE(0, x, RLX);))
THREADS(spin, T(0, STORE(x, 1, RLX); STORE(y, 1, REL);)
              T(1, model_call("spins"); while (atomic_load_explicit(&y, ACQ) == 0) ; SEE(0, x, RLX);))

/* ---- these fail ---- */
THREADS(race_relaxed, T(0, *data = 1; STORE(y, 1, RLX);) T(1, if (LOAD(y, ACQ)) *data = 2;))
THREADS(race_after_release, T(0, STORE(y, 1, REL); *data = 1;) T(1, if (LOAD(y, ACQ)) *data = 2;))
THREADS(race_read, T(0, if (LOAD(y, RLX) == 0) *data = 1; STORE(y, 1, REL);) T(1, if (LOAD(y, RLX)) model_result(0, (uint64_t)*data);))
THREADS(wait_for_nobody, T(0, STORE(x, 1, RLX);) T(1, (void)model_await(&y, 0, RLX);))
THREADS(spin_for_nobody, T(0, STORE(x, 1, RLX);) T(1, model_call("spins"); while (atomic_load_explicit(&y, ACQ) == 0) ;))
THREADS(each_waits, T(0, (void)model_await(&y, 0, RLX); STORE(x, 1, RLX);) T(1, (void)model_await(&x, 0, RLX); STORE(y, 1, RLX);))
THREADS(check_stale, T(0, STORE(x, 1, RLX); STORE(y, 1, RLX);) T(1, if (LOAD(y, RLX)) MODEL_CHECK(LOAD(x, RLX) == 1);))

static void final_xy(void)
{
    SEE(0, x, RLX);
    SEE(1, y, RLX);
}

static void final_x_second(void)
{
    SEE(1, x, RLX);
}

#define ALL_16 "0,0,0,0 0,0,0,1 0,0,1,0 0,0,1,1 0,1,0,0 0,1,0,1 0,1,1,0 0,1,1,1 1,0,0,0 1,0,0,1 "
#define IRIW_STRONG ALL_16 "1,0,1,1 1,1,0,0 1,1,0,1 1,1,1,0 1,1,1,1"
#define IRIW_WEAK ALL_16 "1,0,1,0 1,0,1,1 1,1,0,0 1,1,0,1 1,1,1,0 1,1,1,1"

const struct model litmus_models[] = {
    {"sb_relaxed", "", 2, setup, sb_relaxed, NULL, "0,0 0,1 1,0 1,1", NULL},
    {"sb_release_acquire", "", 2, setup, sb_release_acquire, NULL, "0,0 0,1 1,0 1,1", NULL},
    {"sb_seq_cst", "", 2, setup, sb_seq_cst, NULL, "0,1 1,0 1,1", NULL},
    {"sb_fences", "", 2, setup, sb_fences, NULL, "0,1 1,0 1,1", NULL},
    {"sb_one_fence", "", 2, setup, sb_one_fence, NULL, "0,0 0,1 1,0 1,1", NULL},
    {"sb_acq_rel_fences", "", 2, setup, sb_acq_rel_fences, NULL, "0,0 0,1 1,0 1,1", NULL},
    {"sb_seq_cst_loads_relaxed", "", 2, setup, sb_seq_cst_loads_relaxed, NULL, "0,0 0,1 1,0 1,1", NULL},
    {"sb_exchange", "", 2, setup, sb_exchange, NULL, "0,1 1,0 1,1", NULL},
    {"mp_relaxed", "", 2, setup, mp_relaxed, NULL, "0,0 0,1 1,0 1,1", NULL},
    {"mp_release_acquire", "", 2, setup, mp_release_acquire, NULL, "0,0 0,1 1,1", NULL},
    {"mp_release_only", "", 2, setup, mp_release_only, NULL, "0,0 0,1 1,0 1,1", NULL},
    {"mp_acquire_only", "", 2, setup, mp_acquire_only, NULL, "0,0 0,1 1,0 1,1", NULL},
    {"mp_fences", "", 2, setup, mp_fences, NULL, "0,0 0,1 1,1", NULL},
    {"mp_fence_wrong_side", "", 2, setup, mp_fence_wrong_side, NULL, "0,0 0,1 1,0 1,1", NULL},
    {"mp_plain", "", 2, setup, mp_plain, NULL, "0,9 1,1", NULL},
    {"lb_relaxed", "1,1 is not shown", 2, setup, lb_relaxed, NULL, "0,0 0,1 1,0", NULL},
    {"iriw_acquire", "", 4, setup, iriw_acquire, NULL, IRIW_WEAK, NULL},
    {"iriw_seq_cst", "", 4, setup, iriw_seq_cst, NULL, IRIW_STRONG, NULL},
    {"iriw_fences", "", 4, setup, iriw_fences, NULL, IRIW_STRONG, NULL},
    {"corr", "", 2, setup, corr, NULL, "0,0 0,1 0,2 1,1 1,2 2,2", NULL},
    {"corr_two_writers", "", 4, setup, corr_two_writers, NULL,
     "0,0,0,0 0,0,0,1 0,0,0,2 0,0,1,1 0,0,1,2 0,0,2,1 0,0,2,2 "
     "0,1,0,0 0,1,0,1 0,1,0,2 0,1,1,1 0,1,1,2 0,1,2,1 0,1,2,2 "
     "0,2,0,0 0,2,0,1 0,2,0,2 0,2,1,1 0,2,1,2 0,2,2,1 0,2,2,2 "
     "1,1,0,0 1,1,0,1 1,1,0,2 1,1,1,1 1,1,1,2 1,1,2,1 1,1,2,2 "
     "1,2,0,0 1,2,0,1 1,2,0,2 1,2,1,1 1,2,1,2 1,2,2,2 "
     "2,1,0,0 2,1,0,1 2,1,0,2 2,1,1,1 2,1,2,1 2,1,2,2 "
     "2,2,0,0 2,2,0,1 2,2,0,2 2,2,1,1 2,2,1,2 2,2,2,1 2,2,2,2", NULL},
    {"cowr", "what it reads, and what is there in the end", 2, setup, cowr, final_x_second, "1,1 1,2 2,2", NULL},
    {"two_two_w_relaxed", "", 2, setup, two_two_w_relaxed, final_xy, "1,1 1,2 2,1 2,2", NULL},
    {"two_two_w_seq_cst", "", 2, setup, two_two_w_seq_cst, final_xy, "1,2 2,1 2,2", NULL},
    {"wrc_relaxed", "", 3, setup, wrc_relaxed, NULL, "0,0,0 0,0,1 0,1,0 0,1,1 1,0,0 1,0,1 1,1,0 1,1,1", NULL},
    {"wrc_release_acquire", "", 3, setup, wrc_release_acquire, NULL,
     "0,0,0 0,0,1 0,1,0 0,1,1 1,0,0 1,0,1 1,1,1", NULL},
    {"add_two", "", 2, setup, add_two, NULL, "0,1 1,0", NULL},
    {"add_three", "", 3, setup, add_three, NULL, "0,1,2 0,2,1 1,0,2 1,2,0 2,0,1 2,1,0", NULL},
    {"add_and_store", "", 2, setup, add_and_store, final_x_second, "0,5 5,6", NULL},
    {"cas_one_wins", "", 2, setup, cas_one_wins, NULL, "0,1 1,0", NULL},
    {"cas_weak", "", 1, setup, cas_weak, NULL, "0 1", NULL},
    {"sequence_rmw", "", 3, setup, sequence_rmw, NULL, "0,0 0,1 1,1 2,1", NULL},
    {"sequence_store", "", 2, setup, sequence_store, NULL, "0,0 0,1 1,1 2,0 2,1", NULL},
    {"wait_relaxed", "", 2, setup, wait_relaxed, NULL, "0 1", NULL},
    {"wait_acquire", "", 2, setup, wait_acquire, NULL, "1", NULL},
    {"spin", "", 2, setup, spin, NULL, "1", NULL},
    {0},
};

const struct model litmus_failures[] = {
    {"race_relaxed", "", 2, setup, race_relaxed, NULL, NULL, NULL},
    {"race_after_release", "", 2, setup, race_after_release, NULL, NULL, NULL},
    {"race_read", "", 2, setup, race_read, NULL, NULL, NULL},
    {"wait_for_nobody", "", 2, setup, wait_for_nobody, NULL, NULL, NULL},
    {"spin_for_nobody", "", 2, setup, spin_for_nobody, NULL, NULL, NULL},
    {"each_waits", "", 2, setup, each_waits, NULL, NULL, NULL},
    {"check_stale", "", 2, setup, check_stale, NULL, NULL, NULL},
    {0},
};
