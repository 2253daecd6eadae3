/* /proc and /sys, and the driver. */
#include "bench/engine/resources.h"

#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/process.h"

#define SECTOR_BYTES 512u // of /sys/block/*/stat, whatever the disk has

static void take_process(pid_t pid, struct driver_figures *server);
static void take_disk(const struct bench_options *options, struct resources *now);

void resources_take(struct driver_session *session, struct resources *now)
{
    struct process_usage usage = process_usage();
    *now = (struct resources){
        .client_cpu_us = usage.cpu_us,
        .client_rss_bytes = usage.rss_bytes,
        .server = {UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN},
        .disk_writes = UNKNOWN,
        .disk_write_bytes = UNKNOWN,
        .disk_flushes = UNKNOWN,
    };
    if (session->options->server_pid > 0)
        take_process((pid_t)session->options->server_pid, &now->server);
    if (session->driver->figures)
        session->driver->figures(session, &now->server);
    take_disk(session->options, now);
}

/* proc(5): behind the name, which may hold anything, fields 14 and 15 are user and system time in ticks, 24 the resident pages. */
static void take_process(pid_t pid, struct driver_figures *server)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    size_t length = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[length] = '\0';
    const char *behind_name = strrchr(text, ')');
    unsigned long user, system;
    long pages;
    if (behind_name == NULL ||
        sscanf(behind_name + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %*u "
               "%*u %ld",
               &user, &system, &pages) != 3)
        return;
    server->cpu_us = (user + system) * 1000000 / (unsigned long)sysconf(_SC_CLK_TCK);
    server->rss_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void resources_disk_of(const char *path, char name[64])
{
    char link[64], target[PATH_MAX];
    struct stat info;
    name[0] = '\0';
    if (path == NULL || stat(path, &info) != 0)
        return;
    snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(info.st_dev), minor(info.st_dev));
    if (realpath(link, target) == NULL)
        return;
    char partition[PATH_MAX + 16];
    snprintf(partition, sizeof(partition), "%s/partition", target);
    if (access(partition, F_OK) == 0)
        dirname(target); // the disk that the partition is of
    snprintf(name, 64, "%s", basename(target));
}

/* Documentation/block/stat.rst: fields 5 and 7 are writes and sectors written, 16 flushes. */
static void take_disk(const struct bench_options *options, struct resources *now)
{
    char name[64], path[128];
    resources_disk_of(options->data_dir ? options->data_dir : options->limits_dir, name);
    if (name[0] == '\0')
        return;
    snprintf(path, sizeof(path), "/sys/block/%s/stat", name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    unsigned long writes, sectors, flushes;
    int found = fscanf(file, "%*u %*u %*u %*u %lu %*u %lu %*u %*u %*u %*u %*u %*u %*u %*u %lu",
                       &writes, &sectors, &flushes);
    fclose(file);
    if (found >= 2) {
        now->disk_writes = writes;
        now->disk_write_bytes = (uint64_t)sectors * SECTOR_BYTES;
    }
    if (found == 3) // Linux 5.5
        now->disk_flushes = flushes;
}
