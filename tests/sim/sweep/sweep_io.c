/* Each operation on a file that the broker starts, failed once with each of the errors; and what a device does that stays
 * broken: all fdatasyncs, all writes from the n-th operation on. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sweep/scenario.h"
#include "tests/sim/sweep/sweep.h"

struct fault {
    const char *name;
    int error;
    enum io_kind kind; // IO_NONE: any
    bool is_sticky;
};

static const struct fault faults[] = {
    {"EIO", EIO, IO_NONE, false},
    {"ENOSPC", ENOSPC, IO_NONE, false},
    {"ECANCELED", ECANCELED, IO_NONE, false},
    {"EAGAIN", EAGAIN, IO_NONE, false},
    {"short", IO_SIM_SHORT, IO_WRITE,
     false}, // any other is whole or not at all, as base/io.h has it
    {"EIO+", EIO, IO_WRITE, true},
    {"ENOSPC+", ENOSPC, IO_WRITE, true},
    {"sync+", EIO, IO_FDATASYNC, true},
};

static const char *const kind_names[] = {
    [IO_NONE] = "call",     [IO_OPEN] = "open",     [IO_CLOSE] = "close",
    [IO_READ] = "read",     [IO_WRITE] = "write",   [IO_FDATASYNC] = "fdatasync",
    [IO_RENAME] = "rename", [IO_UNLINK] = "unlink", [IO_SYNC_DIR] = "sync_dir"};

static const struct fault *chosen; // in the child

#define LOG_FILES_MAX 64
#define WAL_HEADER_BYTES (2 * SIM_BLOCK)

static int on_operation(struct process *process, const struct io_op *op);

uint64_t sweep_io(const struct sweep_options *options)
{
    sweep_begin(options, "io");
    scenario_run(on_operation, options->is_loud, options->history);
    return sweep_end();
}

static const char *path_of(const struct process *process, const struct io_op *op)
{
    const struct sim_disk *disk = process->disk;
    if (op->path)
        return op->path;
    int slot = op->fd - IO_SIM_FD_BASE;
    for (uint32_t i = 0; slot >= 0 && slot < IO_SIM_FILES_MAX && i < disk->seen.count; i++)
        if (disk->seen.names[i].file == process->files.slots[slot].file)
            return disk->seen.names[i].path;
    return "a file without a name";
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* ---- which files hold groups: a file is of the log from its first one on, before it is being prepared ---- */

static struct sim_file *log_files[LOG_FILES_MAX];
static uint32_t log_file_count;

static struct sim_file *file_of(const struct process *process, const struct io_op *op)
{
    int slot = op->fd - IO_SIM_FD_BASE;
    return slot >= 0 && slot < IO_SIM_FILES_MAX ? process->files.slots[slot].file : NULL;
}

static uint32_t find_log_file(const struct sim_file *file)
{
    uint32_t i = 0;
    while (i < log_file_count && log_files[i] != file)
        i++;
    return i;
}

/* Groups lie behind the two headers and begin with a magic; preparing writes zeros. A renamed file is raw material. */
static void watch_log(const struct process *process, const struct io_op *op)
{
    uint64_t first;
    if (op->kind == IO_RENAME && ends_with(op->path, ".wal")) {
        uint32_t i = find_log_file(sim_disk_find(process->disk, op->path));
        if (i < log_file_count)
            log_files[i] = log_files[--log_file_count];
        return;
    }
    if (op->kind != IO_WRITE || !ends_with(path_of(process, op), ".wal") ||
        op->offset < WAL_HEADER_BYTES)
        return;
    memcpy(&first, op->buf, sizeof(first));
    if (first == 0 || find_log_file(file_of(process, op)) < log_file_count)
        return;
    if (log_file_count == LOG_FILES_MAX)
        fail("more files of logs than expected");
    log_files[log_file_count++] = file_of(process, op);
}

/* What the log promises hangs on these two. Of a write in two pieces both succeed. */
static bool is_of_log(const struct process *process, const struct io_op *op, int error)
{
    return (op->kind == IO_WRITE || op->kind == IO_FDATASYNC) && error > 0 &&
           find_log_file(file_of(process, op)) < log_file_count;
}

static int strike(struct process *process, const struct io_op *op, const struct fault *fault)
{
    static char path[256];
    const struct scenario_strike *s = &scenario.strike;
    bool first = !s->has_struck || s->life != scenario.broker.lives;
    bool of_log = is_of_log(process, op, fault->error);
    if (!first && !(of_log && !s->is_of_log)) // one that stays: what matters is the first of a log
        return fault->error;
    snprintf(path, sizeof(path), "%s", path_of(process, op));
    scenario_strikes((struct scenario_strike){
        .is_sticky = fault->is_sticky,
        .is_of_log = of_log,
        .at_ns = op->kind == IO_NONE ? 0 : op->backend[0],
        .path = path,
    });
    return fault->error;
}

static int on_operation(struct process *process, const struct io_op *op)
{
    char what[160];
    if (process != scenario.broker.process)
        return 0;
    watch_log(process, op);
    if (chosen) {
        bool goes_on = chosen->is_sticky && !scenario.strike.is_over && op->kind == chosen->kind;
        return goes_on ? strike(process, op, chosen) : 0;
    }
    if (!sweep_point())
        return 0;
    snprintf(what, sizeof(what), "%s of %s", kind_names[op->kind], path_of(process, op));
    for (size_t i = 0; i < ARRAY_COUNT(faults); i++) {
        if (faults[i].kind != IO_NONE && faults[i].kind != op->kind)
            continue;
        if (!sweep_fork(faults[i].name, what))
            continue;
        chosen = &faults[i];
        return strike(process, op, chosen);
    }
    return 0;
}
