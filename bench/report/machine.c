/* What this was measured on: enough to tell two machines, or two states of one, apart. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/bytes.h"
#include "bench/engine/resources.h"
#include "bench/report/report.h"
#include "git_revision.h" // made by the build

static json_t *line_of(const char *path);
static json_t *cpu_model(void);
static json_t *disk_json(const char *path);

json_t *machine_json(const struct bench_options *options)
{
    struct utsname name;
    const char *place = options->data_dir ? options->data_dir : options->limits_dir;
    json_t *machine = json_object();
    if (uname(&name) == 0)
        json_object_set_new(machine, "kernel", json_string(name.release));
    json_object_set_new(machine, "cpu", cpu_model());
    json_object_set_new(machine, "cpus", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    json_object_set_new(machine, "memory_bytes",
                        json_integer((json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE)));
    json_object_set_new(machine, "governor",
                        line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    json_object_set_new(machine, "huge_pages",
                        line_of("/sys/kernel/mm/transparent_hugepage/enabled"));
    json_object_set_new(machine, "congestion_control",
                        line_of("/proc/sys/net/ipv4/tcp_congestion_control"));
    json_object_set_new(machine, "disk", place ? disk_json(place) : json_null());
    json_object_set_new(machine, "version", json_string(SLUICE_VERSION));
    json_object_set_new(machine, "git", json_string(SLUICE_GIT_REVISION));
    return machine;
}

static json_t *line_of(const char *path)
{
    char line[256];
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return json_null();
    bool is_read = fgets(line, sizeof(line), file) != NULL;
    fclose(file);
    if (!is_read)
        return json_null();
    line[strcspn(line, "\n")] = '\0';
    return json_string(line);
}

static json_t *cpu_model(void)
{
    char line[256];
    json_t *model = NULL;
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL)
        return json_null();
    while (model == NULL && fgets(line, sizeof(line), file)) {
        const char *colon = strchr(line, ':');
        line[strcspn(line, "\n")] = '\0';
        if (colon && strncmp(line, "model name", 10) == 0)
            model = json_string(colon + 2);
    }
    fclose(file);
    return model ? model : json_null();
}

/* statfs(2): magic numbers of the file systems that a broker is likely to lie on. */
static const char *file_system_of(const char *path)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } known[] = {{0xef53, "ext4"},      {0x58465342, "xfs"},  {0x9123683e, "btrfs"},
                 {0x01021994, "tmpfs"}, {0x6969, "nfs"},      {0x794c7630, "overlayfs"},
                 {0x2fc12fc1, "zfs"},   {0x65735546, "fuse"}, {0xf2f52010, "f2fs"}};
    struct statfs info;
    if (statfs(path, &info) != 0)
        return "unknown";
    for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
        if ((unsigned long)info.f_type == known[i].magic)
            return known[i].name;
    }
    return "unknown";
}

static json_t *disk_json(const char *path)
{
    char name[64], file[160];
    json_t *disk = json_object();
    resources_disk_of(path, name);
    json_object_set_new(disk, "file_system", json_string(file_system_of(path)));
    json_object_set_new(disk, "device", name[0] ? json_string(name) : json_null());
    static const char *const attributes[][2] = {{"model", "device/model"},
                                                {"write_cache", "queue/write_cache"},
                                                {"fua", "queue/fua"},
                                                {"rotational", "queue/rotational"},
                                                {"scheduler", "queue/scheduler"}};
    for (size_t i = 0; name[0] && i < ARRAY_COUNT(attributes); i++) {
        snprintf(file, sizeof(file), "/sys/block/%s/%s", name, attributes[i][1]);
        json_object_set_new(disk, attributes[i][0], line_of(file));
    }
    return disk;
}
