#include "tests/soak/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"
#define PREFIX "sluice-soak-" // and the pid of whom it belongs to

static bool write_text(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (!written)
        printf("%s: %s\n", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return written;
}

/* The number behind `key`, or the first one when key is "". */
static uint64_t read_number(const char *folder, const char *name, const char *key)
{
    char path[512], line[256];
    uint64_t number = 0;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof(line), file)) {
        size_t length = strlen(key);
        if (strncmp(line, key, length) == 0 && sscanf(line + length, "%" SCNu64, &number) == 1)
            break;
    }
    if (file)
        fclose(file);
    return number;
}

static bool has_v2(void)
{
    return access(ROOT "/cgroup.controllers", R_OK) == 0;
}

const char *cgroup_missing(void)
{
    if (geteuid() != 0)
        return "needs root";
    bool usable = has_v2() ? access(ROOT "/cgroup.subtree_control", W_OK) == 0
                           : access(ROOT "/memory/cgroup.procs", W_OK) == 0 &&
                                 access(ROOT "/cpu/cgroup.procs", W_OK) == 0;
    return usable ? NULL : "no cgroups of memory and CPU here";
}

static void name_folders(struct cgroup *cgroup, int pid)
{
    char name[64];
    snprintf(name, sizeof(name), PREFIX "%d", pid);
    cgroup->is_v2 = has_v2();
    snprintf(cgroup->memory, sizeof(cgroup->memory), "%s/%s", cgroup->is_v2 ? ROOT : ROOT "/memory",
             name);
    snprintf(cgroup->cpu, sizeof(cgroup->cpu), "%s/%s", cgroup->is_v2 ? ROOT : ROOT "/cpu", name);
    snprintf(cgroup->memory_procs, sizeof(cgroup->memory_procs), "%s/cgroup.procs", cgroup->memory);
    snprintf(cgroup->cpu_procs, sizeof(cgroup->cpu_procs), "%s/cgroup.procs", cgroup->cpu);
    cgroup->join[0] = cgroup->memory_procs;
    cgroup->join[1] = cgroup->is_v2 ? NULL : cgroup->cpu_procs;
    cgroup->join[2] = NULL;
}

bool cgroup_open(struct cgroup *cgroup)
{
    name_folders(cgroup, (int)getpid());
    if (cgroup->is_v2 && !write_text(ROOT, "cgroup.subtree_control", "+memory +cpu"))
        return false;
    bool made = mkdir(cgroup->memory, 0755) == 0 || errno == EEXIST;
    if (!cgroup->is_v2)
        made = made && (mkdir(cgroup->cpu, 0755) == 0 || errno == EEXIST);
    if (!made)
        printf("%s: %s\n", cgroup->memory, strerror(errno));
    return made;
}

bool cgroup_memory_limit(struct cgroup *cgroup, uint64_t bytes)
{
    char text[32];
    snprintf(text, sizeof(text), "%" PRIu64, bytes);
    if (cgroup->is_v2)
        return write_text(cgroup->memory, "memory.max", bytes ? text : "max");
    return write_text(cgroup->memory, "memory.limit_in_bytes", bytes ? text : "-1");
}

bool cgroup_cpu_limit(struct cgroup *cgroup, uint32_t percent)
{
    char text[64];
    if (cgroup->is_v2) {
        snprintf(text, sizeof(text), "%u 100000", percent * 1000);
        return write_text(cgroup->cpu, "cpu.max", percent ? text : "max 100000");
    }
    snprintf(text, sizeof(text), "%d", percent ? (int)percent * 1000 : -1);
    return write_text(cgroup->cpu, "cpu.cfs_quota_us", text);
}

uint64_t cgroup_memory_peak(const struct cgroup *cgroup)
{
    return read_number(cgroup->memory, cgroup->is_v2 ? "memory.peak" : "memory.max_usage_in_bytes",
                       "");
}

uint64_t cgroup_oom_kills(const struct cgroup *cgroup)
{
    return read_number(cgroup->memory, cgroup->is_v2 ? "memory.events" : "memory.oom_control",
                       "oom_kill ");
}

void cgroup_close(struct cgroup *cgroup)
{
    for (int tries = 0; rmdir(cgroup->memory) && errno == EBUSY && tries < 200; tries++)
        usleep(5000);
    for (int tries = 0; !cgroup->is_v2 && rmdir(cgroup->cpu) && errno == EBUSY && tries < 200;
         tries++)
        usleep(5000);
}

void cgroups_sweep(void)
{
    struct dirent *entry;
    int pid;
    DIR *folder = cgroup_missing() ? NULL : opendir(has_v2() ? ROOT : ROOT "/memory");
    while (folder && (entry = readdir(folder))) {
        struct cgroup cgroup;
        if (sscanf(entry->d_name, PREFIX "%d", &pid) != 1 || kill(pid, 0) == 0)
            continue;
        name_folders(&cgroup, pid);
        cgroup_close(&cgroup);
    }
    if (folder)
        closedir(folder);
}
