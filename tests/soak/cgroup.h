/* Memory and CPU of the broker, limited from outside: cgroup v1 or v2, whichever the machine has. */
#ifndef SLUICE_TESTS_SOAK_CGROUP_H
#define SLUICE_TESTS_SOAK_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

struct cgroup {
    bool is_v2;
    char memory[256], cpu[256]; // folders; the same in v2
    char memory_procs[300], cpu_procs[300];
    const char *join[3]; // for broker_process.join
};

/* What keeps this machine from having one; NULL: nothing does. */
const char *cgroup_missing(void);

bool cgroup_open(struct cgroup *cgroup); // of this process; false after a message
bool cgroup_memory_limit(struct cgroup *cgroup, uint64_t bytes); // 0: none
bool cgroup_cpu_limit(struct cgroup *cgroup, uint32_t percent);  // 0: none
uint64_t cgroup_memory_peak(const struct cgroup *cgroup);        // 0: unknown
uint64_t cgroup_oom_kills(const struct cgroup *cgroup);
void cgroup_close(struct cgroup *cgroup); // nobody may be in it any more

/* Those of processes that are gone. */
void cgroups_sweep(void);

#endif
