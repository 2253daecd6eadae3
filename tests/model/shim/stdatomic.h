/* In place of the compiler's <stdatomic.h>: each atomic operation of a source is a call to the explorer, which knows file,
 * line and memory order of it. Objects keep their type and place; initial values are read from memory, all others are the
 * explorer's. What the sources use is here, and nothing else: a new operation fails to compile until it is added. */
#ifndef SLUICE_TESTS_MODEL_SHIM_STDATOMIC_H
#define SLUICE_TESTS_MODEL_SHIM_STDATOMIC_H

#include <stdlib.h>
#include <string.h>

#include "tests/model/explorer.h"
#include "tests/model/memory.h"

#ifdef __clang__ // base/io.c asks for the sanitizer, whose instrumentation is all that is used of it
#pragma clang diagnostic ignored "-Wbuiltin-macro-redefined"
#undef __has_feature
#define __has_feature(name) 0
#endif

/* Memory of the harness, always at the same place. */
static inline void *model_aligned_alloc(size_t alignment, size_t size)
{
    return model_memory(size, alignment);
}
static inline void *model_calloc(size_t count, size_t size)
{
    return model_memory(count * size, 64);
}
static inline void model_free(void *place)
{
    (void)place; // all of it at once, when the execution ends
}
#define aligned_alloc model_aligned_alloc
#define calloc model_calloc
#define free model_free
#define memcpy memory_copy // the compilers do not instrument calls

typedef enum {
    memory_order_relaxed = MODEL_RELAXED,
    memory_order_consume = MODEL_CONSUME,
    memory_order_acquire = MODEL_ACQUIRE,
    memory_order_release = MODEL_RELEASE,
    memory_order_acq_rel = MODEL_ACQ_REL,
    memory_order_seq_cst = MODEL_SEQ_CST
} memory_order;

#define MODEL_SITE_(KIND, ORDER, TEXT)                                                             \
    static struct model_site site_ = {                                                             \
        .file = __FILE__, .line = __LINE__, .text = TEXT, .kind = (KIND), .order = (ORDER)}
#define MODEL_VALUE_(place) __typeof__((void)0, *(place))
#define MODEL_WORD_(object)                                                                        \
    ({                                                                                             \
        uint64_t word_ = 0;                                                                        \
        __builtin_memcpy(&word_, &(object), sizeof(object));                                       \
        word_;                                                                                     \
    })
#define MODEL_BACK_(place, word)                                                                   \
    ({                                                                                             \
        uint64_t back_word_ = (word);                                                              \
        MODEL_VALUE_(place) back_;                                                                 \
        __builtin_memcpy(&back_, &back_word_, sizeof(back_));                                      \
        back_;                                                                                     \
    })

#define atomic_init(place, value) memory_init((place), sizeof(*(place)), (uint64_t)(value))

#define atomic_load_explicit(place, how)                                                           \
    ({                                                                                             \
        MODEL_SITE_(MODEL_LOAD, how, #place);                                                      \
        MODEL_BACK_(place, model_load(&site_, (place), sizeof(*(place))));                         \
    })
#define atomic_store_explicit(place, value, how)                                                   \
    ({                                                                                             \
        MODEL_SITE_(MODEL_STORE, how, #place);                                                     \
        MODEL_VALUE_(place) store_ = (value);                                                      \
        model_store(&site_, (place), sizeof(*(place)), MODEL_WORD_(store_));                       \
    })
#define MODEL_RMW_(place, value, how, OP)                                                          \
    ({                                                                                             \
        MODEL_SITE_(MODEL_RMW, how, #place);                                                       \
        MODEL_VALUE_(place) operand_ = (value);                                                    \
        MODEL_BACK_(place,                                                                         \
                    model_rmw(&site_, (place), sizeof(*(place)), OP, MODEL_WORD_(operand_)));      \
    })
#define MODEL_CAS_(place, expected, desired, how, weak)                                            \
    ({                                                                                             \
        MODEL_SITE_(MODEL_CAS, how, #place);                                                       \
        MODEL_VALUE_(place) desired_ = (desired);                                                  \
        uint64_t seen_ = MODEL_WORD_(*(expected));                                                 \
        bool done_ =                                                                               \
            model_cas(&site_, (place), sizeof(*(place)), &seen_, MODEL_WORD_(desired_), weak);     \
        *(expected) = MODEL_BACK_(place, seen_);                                                   \
        done_;                                                                                     \
    })
#define atomic_thread_fence(how)                                                                   \
    ({                                                                                             \
        MODEL_SITE_(MODEL_FENCE, how, "fence");                                                    \
        model_fence(&site_);                                                                       \
    })
/* Of the harnesses alone: a wait in the kernel. */
#define model_await(place, value, how)                                                             \
    ({                                                                                             \
        MODEL_SITE_(MODEL_LOAD, how, #place);                                                      \
        MODEL_BACK_(place, model_await_not(&site_, (place), sizeof(*(place)), (value)));           \
    })

#define atomic_load(place) atomic_load_explicit(place, memory_order_seq_cst)
#define atomic_store(place, value) atomic_store_explicit(place, value, memory_order_seq_cst)
#define atomic_fetch_add_explicit(place, value, how) MODEL_RMW_(place, value, how, MODEL_ADD)
#define atomic_fetch_add(place, value) MODEL_RMW_(place, value, memory_order_seq_cst, MODEL_ADD)
#define atomic_fetch_sub_explicit(place, value, how) MODEL_RMW_(place, value, how, MODEL_SUB)
#define atomic_exchange_explicit(place, value, how) MODEL_RMW_(place, value, how, MODEL_EXCHANGE)
#define atomic_exchange(place, value) MODEL_RMW_(place, value, memory_order_seq_cst, MODEL_EXCHANGE)
#define atomic_compare_exchange_weak_explicit(place, expected, desired, how, otherwise)            \
    MODEL_CAS_(place, expected, desired, how,                                                      \
               true) // a failed one is read as relaxed, whatever it says
#define atomic_compare_exchange_strong(place, expected, desired)                                   \
    MODEL_CAS_(place, expected, desired, memory_order_seq_cst, false)

typedef struct {
    _Atomic bool value;
} atomic_flag;
#define ATOMIC_FLAG_INIT                                                                           \
    {                                                                                              \
        0                                                                                          \
    }
#define atomic_flag_test_and_set(flag) atomic_exchange(&(flag)->value, true)

#endif
