/* `sluice-bench consume`: from the beginning to the end that is there at the start, from the page cache or with it dropped before
 * (--cold); or --from end, what a publisher elsewhere adds. */
#include "bench/command/consume.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/command/around.h"
#include "bench/engine/run.h"

#define DIRECTORIES_OPEN_MAX 16

/* Clean pages only go when asked to; a broker's dirty ones are written first. */
static int drop_file(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    if (kind != FTW_F)
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1; // the broker has renamed it meanwhile
    (void)fdatasync(fd);
    int error = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    errno = error;
    return error ? -1 : 0;
}

static int drop_cache(const char *directory)
{
    if (nftw(directory, drop_file, DIRECTORIES_OPEN_MAX, FTW_PHYS) == 0)
        return 0;
    fprintf(stderr, "sluice-bench: --cold: %s: %s\n", directory, strerror(errno));
    return -1;
}

static int measure(struct driver_session *session, struct report *report)
{
    static struct run_result result;
    const struct bench_options *options = session->options;
    struct run_plan plan = {.consumer_count = options->consumer_count};
    if (options->is_cold && drop_cache(options->data_dir))
        return -1;
    int status = options->from_end
                     ? run_load(session, &plan, report, &result)
                     : run_catch_up(session, options->consumer_count, report, &result);
    if (status == 0)
        report_take_run(report, &result);
    return status;
}

int consume_main(struct bench_options *options)
{
    return measure_around(options, measure);
}
