/* Making and unmaking of a ring: asks for the most, takes what the kernel has, says what was
 * refused.
 *
 * Wanted: one issuer and deferred task work, so that completions run on this thread when it asks
 * for them (5-10 % less CPU per byte), and a completion ring for every operation that may be in
 * flight. Older kernels get fewer flags. Not negotiable: no lost completions, waiting with a
 * timeout in the same call, and the opcodes that io.h is made of, which is Linux 5.11. */
#include "base/io_uring_private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

#define SQ_ENTRIES_MAX 1024 // more only wait longer: one enter takes all that are there

static int open_ring(struct uring *uring, uint32_t ops_max);
static uint32_t next_power_of_two(uint32_t value);
static int check_features(struct uring *uring);
static bool has_all_opcodes(const struct io_uring_probe *probe);
static void tune(struct uring *uring);
static void drain_wake(struct uring *uring);
static void forget_ring_fd(struct uring *uring);

#define SETUP_BASE (IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP)
#define SETUP_5_19                                                                                 \
    (SETUP_BASE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG)
#define SETUP_6_1 (SETUP_5_19 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

/* Best first; an old kernel answers EINVAL to flags that it does not know. */
static const unsigned setup_flags[] = {SETUP_6_1, SETUP_5_19, SETUP_BASE};

#define FEATURES_NEEDED                                                                            \
    (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |                    \
     IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG)

static const uint8_t opcodes_needed[] = {
    IORING_OP_ACCEPT, IORING_OP_CONNECT,      IORING_OP_POLL_ADD, IORING_OP_RECV,
    IORING_OP_SEND,   IORING_OP_OPENAT,       IORING_OP_CLOSE,    IORING_OP_READ,
    IORING_OP_WRITE,  IORING_OP_FSYNC,        IORING_OP_RENAMEAT, IORING_OP_UNLINKAT,
    IORING_OP_NOP,    IORING_OP_ASYNC_CANCEL,
};

int uring_open(struct uring *uring, uint32_t ops_max, struct io_refusal *refusal)
{
    refusal->step = "io_uring_setup";
    refusal->os_error = -open_ring(uring, ops_max);
    if (refusal->os_error != 0)
        return E_UNSUPPORTED;
    refusal->step = "io_uring_probe";
    refusal->os_error = -check_features(uring);
    if (refusal->os_error != 0)
        goto fail_ring;
    /* Blocking, so that a read on the ring waits for the first wake instead of failing. */
    refusal->step = "eventfd";
    uring->wake_fd = eventfd(0, EFD_CLOEXEC);
    refusal->os_error = uring->wake_fd < 0 ? errno : 0;
    if (refusal->os_error != 0)
        goto fail_ring;
    tune(uring);
    return 0;

fail_ring:
    io_uring_queue_exit(&uring->ring);
    return E_UNSUPPORTED;
}

void uring_close(struct uring *uring)
{
    if (pthread_equal(uring->owner, pthread_self()))
        drain_wake(uring);
    else
        forget_ring_fd(uring);
    io_uring_queue_exit(&uring->ring);
    close(uring->wake_fd);
}

static int open_ring(struct uring *uring, uint32_t ops_max)
{
    int result = -EINVAL;

    for (size_t i = 0; i < ARRAY_COUNT(setup_flags) && result == -EINVAL; i++) {
        /* Twice the operations: beside each its cancel, and the wake-ups. Beyond that the kernel
         * keeps completions in a list of its own, slower but whole. */
        struct io_uring_params params = {.flags = setup_flags[i],
                                         .cq_entries = next_power_of_two(2 * ops_max)};
        uint32_t entries = next_power_of_two((uint32_t)min_u64(ops_max, SQ_ENTRIES_MAX));
        result = io_uring_queue_init_params(entries, &uring->ring, &params);
    }
    return result;
}

static uint32_t next_power_of_two(uint32_t value)
{
    return value <= 1 ? 1 : 1u << (32 - __builtin_clz(value - 1));
}

static int check_features(struct uring *uring)
{
    if ((uring->ring.features & FEATURES_NEEDED) != FEATURES_NEEDED)
        return -EOPNOTSUPP;
    struct io_uring_probe *probe = io_uring_get_probe_ring(&uring->ring);
    if (!probe)
        return -EOPNOTSUPP;
    bool complete = has_all_opcodes(probe);
    uring->has_msg_ring = io_uring_opcode_supported(probe, IORING_OP_MSG_RING);
    uring->skips_success = uring->ring.features & IORING_FEAT_CQE_SKIP;
    io_uring_free_probe(probe);
    return complete ? 0 : -EOPNOTSUPP;
}

static bool has_all_opcodes(const struct io_uring_probe *probe)
{
    for (size_t i = 0; i < ARRAY_COUNT(opcodes_needed); i++) {
        if (!io_uring_opcode_supported(probe, opcodes_needed[i]))
            return false;
    }
    return true;
}

/* Where the kernel's workers may run: a thread that is bound to one processor sends its workers to the
 * others, or each fdatasync would wait behind it. (A mask that holds its processor, too, leaves them there:
 * measured.) */
static void worker_processors(cpu_set_t *set)
{
    cpu_set_t own;

    io_all_processors(set);
    if (CPU_COUNT(set) < 2 || sched_getaffinity(0, sizeof own, &own) != 0 || CPU_COUNT(&own) != 1)
        return;
    CPU_XOR(set, set, &own);
}

/* What makes it faster but is not needed: failures are only told at level debug. */
static void tune(struct uring *uring)
{
    cpu_set_t set;

    int result = io_uring_register_ring_fd(&uring->ring);
    if (result < 0)
        LOG_DEBUG("io.ring_fd_not_registered", LOG_I64("os_error", -result));
    worker_processors(&set);
    result = io_uring_register_iowq_aff(&uring->ring, sizeof set, &set);
    if (result < 0 && sched_getaffinity(getpid(), sizeof set, &set) == 0) // a cpuset allows fewer
        result = io_uring_register_iowq_aff(&uring->ring, sizeof set, &set);
    if (result < 0)
        LOG_DEBUG("io.worker_affinity_not_set", LOG_I64("os_error", -result));
}

/* Takes the standing read back: it would write into memory that is being freed. */
static void drain_wake(struct uring *uring)
{
    struct io_uring_cqe *cqe;
    struct io_uring_sqe *sqe = uring->wake_armed ? io_uring_get_sqe(&uring->ring) : NULL;

    if (!sqe)
        return;
    io_uring_prep_cancel64(sqe, UDATA_EVENTFD, 0);
    io_uring_sqe_set_data64(sqe, UDATA_IGNORE);
    while (uring->wake_armed) {
        if (io_uring_submit_and_wait(&uring->ring, 1) < 0)
            return;
        while (io_uring_cq_ready(&uring->ring) > 0 && io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
            if (cqe->user_data == UDATA_EVENTFD)
                uring->wake_armed = false;
            io_uring_cqe_seen(&uring->ring, cqe);
        }
    }
}

/* The owner has ended, and its requests and its registered descriptor with it. To this thread the
 * number of that descriptor means nothing, or a ring of its own, which must not be unregistered. */
static void forget_ring_fd(struct uring *uring)
{
    uring->ring.enter_ring_fd = uring->ring.ring_fd;
    uring->ring.int_flags = 0;
}
