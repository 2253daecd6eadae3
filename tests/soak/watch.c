#include "tests/soak/watch.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

long log_length(const struct broker_process *broker)
{
    long length = 0;
    FILE *file = fopen(broker->log_path, "r");
    if (file && fseek(file, 0, SEEK_END) == 0)
        length = ftell(file);
    if (file)
        fclose(file);
    return length;
}

bool log_find(const struct broker_process *broker, long from, const char *const words[3],
              char *line, int size)
{
    static char next[8192];
    bool found = false;
    FILE *file = fopen(broker->log_path, "r");
    if (file && fseek(file, from, SEEK_SET) == 0) {
        while (fgets(next, sizeof(next), file)) {
            if (!strstr(next, words[0]) || !strstr(next, words[1]) || !strstr(next, words[2]))
                continue;
            found = true;
            snprintf(line, (size_t)size, "%.*s", (int)strcspn(next, "\n"), next);
        }
    }
    if (file)
        fclose(file);
    return found;
}

bool log_last(const struct broker_process *broker, long from, char *line, int size)
{
    static const char *const any[3] = {"", "", ""};
    return log_find(broker, from, any, line, size);
}

uint64_t log_count(const struct broker_process *broker, const char *word)
{
    static char line[8192];
    uint64_t count = 0;
    FILE *file = fopen(broker->log_path, "r");
    while (file && fgets(line, sizeof(line), file))
        count += strstr(line, word) != NULL;
    if (file)
        fclose(file);
    return count;
}

bool watch_started(struct watch *watch, const struct broker_process *broker, long from)
{
    static const char *const words[3] = {"memory_bytes=", "", ""};
    char line[1024];
    if (!log_find(broker, from, words, line, sizeof(line)))
        return false;
    watch->bound_bytes =
        strtoull(strstr(line, "memory_bytes=") + strlen("memory_bytes="), NULL, 10);
    return watch->bound_bytes > 0;
}

bool watch_look(struct watch *watch, const struct broker_process *broker)
{
    uint64_t peak = (uint64_t)broker_rss_peak_kib(broker) * 1024;
    double share = watch->bound_bytes ? (double)peak / (double)watch->bound_bytes : 0;
    if (watch->rss_bytes < peak)
        watch->rss_bytes = peak;
    if (watch->of_bound < share)
        watch->of_bound = share;
    return share <= BOUND_SLACK;
}

struct descriptors descriptors_of(const struct broker_process *broker)
{
    char path[512], target[512];
    struct descriptors count = {0};
    struct dirent *entry;
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)broker->pid);
    DIR *folder = opendir(path);
    while (folder && (entry = readdir(folder))) {
        snprintf(path, sizeof(path), "/proc/%d/fd/%.200s", (int)broker->pid, entry->d_name);
        ssize_t length = readlink(path, target, sizeof(target) - 1);
        if (length <= 0)
            continue;
        target[length] = '\0';
        if (strncmp(target, "socket:", 7) == 0)
            count.sockets++;
        else if (target[0] == '/')
            count.files++;
        else
            count.others++;
    }
    if (folder)
        closedir(folder);
    return count;
}
