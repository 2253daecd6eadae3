/* The kernel's books about this process. Nothing can fail but /proc, which a container may not have: then the
 * figure is 0 and everything else goes on. */
#include "base/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"

static uint64_t resident_bytes(void)
{
    char text[128];
    unsigned long long total_pages, resident_pages;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    if (sscanf(text, "%llu %llu", &total_pages, &resident_pages) != 2)
        return 0;
    return resident_pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t microseconds(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

struct process_usage process_usage(void)
{
    struct rusage usage;
    ASSERT(getrusage(RUSAGE_SELF, &usage) == 0); // fails only for arguments that aren't these
    return (struct process_usage){
        .cpu_us = microseconds(usage.ru_utime) + microseconds(usage.ru_stime),
        .rss_bytes = resident_bytes(),
        .rss_peak_bytes = (uint64_t)usage.ru_maxrss * KIB,
    };
}
