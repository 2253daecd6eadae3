/* base/fault.h */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/status.h"

TestSuite(fault, .init = cr_redirect_stderr);

Test(fault, nothing_is_armed_at_first)
{
    for (int point = 0; point < FAULT_POINT_COUNT; point++)
        cr_assert_eq(fault_check((enum fault_point)point), 0);
}

Test(fault, an_absent_or_empty_variable_arms_nothing)
{
    cr_assert_eq(fault_init(NULL), 0);
    cr_assert_eq(fault_init(""), 0);
    cr_assert_not(fault_enabled);
}

Test(fault, the_nth_hit_fails_once)
{
    cr_assert_eq(fault_init("io_fdatasync@3=EIO"), 0);
    cr_assert_eq(fault_check(FAULT_IO_FDATASYNC), 0);
    cr_assert_eq(fault_check(FAULT_IO_FDATASYNC), 0);
    cr_assert_eq(fault_check(FAULT_IO_WRITE), 0);
    cr_assert_eq(fault_check(FAULT_IO_FDATASYNC), EIO);
    cr_assert_eq(fault_check(FAULT_IO_FDATASYNC), 0);
}

Test(fault, a_plus_fails_from_there_on)
{
    cr_assert_eq(fault_init("io_write@2+=ENOSPC"), 0);
    cr_assert_eq(fault_check(FAULT_IO_WRITE), 0);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(fault_check(FAULT_IO_WRITE), ENOSPC);
}

Test(fault, a_list_arms_several_points_and_ranges)
{
    cr_assert_eq(fault_init("io_write@1=EIO,io_write@3=ENOSPC,io_open@1=EPERM,"
                            "io_read@1=EAGAIN,io_rename@1=ECANCELED,io_ring_refused@1=ON"),
                 0);
    cr_assert_eq(fault_check(FAULT_IO_WRITE), EIO);
    cr_assert_eq(fault_check(FAULT_IO_WRITE), 0);
    cr_assert_eq(fault_check(FAULT_IO_WRITE), ENOSPC);
    cr_assert_eq(fault_check(FAULT_IO_OPEN), EPERM);
    cr_assert_eq(fault_check(FAULT_IO_READ), EAGAIN);
    cr_assert_eq(fault_check(FAULT_IO_RENAME), ECANCELED);
    cr_assert_eq(fault_check(FAULT_IO_RING_REFUSED), 1);
}

Test(fault, a_mistake_anywhere_arms_nothing)
{
    static const char *const wrong[] = {
        "io_write",         "io_write@1",         "io_write=EIO",     "@1=EIO",
        "io_write@=EIO",    "io_write@0=EIO",     "io_write@1=",      "io_write@1=EFOO",
        "io_write@+=EIO",   "io_write@1++=EIO",   "io_write@-1=EIO",  "io_write@1=EIO,",
        ",io_write@1=EIO",  "IO_WRITE@1=EIO",     "io_writ@1=EIO",    "io_write@1=eio",
        "io_write@1=EIO x", "io_write@1=EIO,a@1", "io_write =1@EIO",  "io_write@9999999999=EIO",
        "io_write@1x=EIO",  "io_write@1 =EIO",    "io_write=1@1=EIO", "io_writes@1=EIO",
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        cr_assert_eq(fault_init(wrong[i]), E_INVALID, "%s", wrong[i]);
        cr_assert_not(fault_enabled, "%s", wrong[i]);
    }
}

Test(fault, more_rules_than_there_is_room_for_are_refused)
{
    char spec[FAULT_RULE_MAX * 32] = "io_read@1=EIO";
    for (int i = 0; i < FAULT_RULE_MAX; i++)
        strcat(spec, ",io_read@1=EIO");
    cr_assert_eq(fault_init(spec), E_INVALID);
    cr_assert_not(fault_enabled);
}

Test(fault, a_test_arms_a_range_counted_from_then)
{
    fault_arm(FAULT_IO_READ, 1, 1, EAGAIN);
    cr_assert_eq(fault_check(FAULT_IO_READ), EAGAIN);
    fault_arm(FAULT_IO_READ, 2, 3, EIO);
    cr_assert_eq(fault_check(FAULT_IO_READ), 0);
    cr_assert_eq(fault_check(FAULT_IO_READ), EIO);
    cr_assert_eq(fault_check(FAULT_IO_READ), EIO);
    cr_assert_eq(fault_check(FAULT_IO_READ), 0);
}

Test(fault, disarming_takes_all_back)
{
    fault_arm(FAULT_IO_READ, 1, UINT64_MAX, EIO);
    fault_disarm_all();
    cr_assert_eq(fault_check(FAULT_IO_READ), 0);
    cr_assert_not(fault_enabled);
}

Test(fault, crash_kills_as_kill_9_does)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (fault_init("shard_crash_ack@2=CRASH") == 0) {
            fault_check(FAULT_SHARD_CRASH_ACK);
            fault_check(FAULT_SHARD_CRASH_ACK);
        }
        _exit(0);
    }
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static _Atomic unsigned errors_seen;

static void *hit_often(void *context)
{
    for (int i = 0; i < 10000; i++)
        errors_seen += fault_check(FAULT_IO_WRITE) == EIO;
    return NULL;
}

Test(fault, threads_that_hit_one_point_together_are_counted_exactly)
{
    fault_arm(FAULT_IO_WRITE, 1001, 3000, EIO);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, hit_often, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(errors_seen, 2000);
}
