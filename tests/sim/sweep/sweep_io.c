/* Each operation on a file that the broker starts, and each call that blocks, failed once with each of the errors that fit; and what
 * a device does that stays broken: all fdatasyncs, all writes from the n-th operation on, and all transfers of a file in two
 * pieces. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sweep/scenario.h"
#include "tests/sim/sweep/sweep.h"

#define KIND(kind) (1u << (kind))
#define FILES                                                                                      \
    (KIND(IO_OPEN) | KIND(IO_CLOSE) | TRANSFERS | KIND(IO_FDATASYNC) | KIND(IO_RENAME) |           \
     KIND(IO_UNLINK) | KIND(IO_SYNC_DIR))
#define TRANSFERS (KIND(IO_READ) | KIND(IO_WRITE))
#define NAMES (KIND(IO_OPEN) | KIND(IO_RENAME) | KIND(IO_UNLINK) | KIND(IO_SYNC_DIR))
#define CALL(call) (1u << (call))
#define CALLS (CALL(IO_SIM_CALLS) - 1)
#define LOCKS (CALL(IO_SIM_LOCK_FILE) | CALL(IO_SIM_LOCK_FD))
#define CALLS_THAT_MAKE (CALL(IO_SIM_MKDIR) | CALL(IO_SIM_LOCK_FILE) | CALL(IO_SIM_ALLOCATE))
#define CALLS_THAT_OPEN (CALL(IO_SIM_LIST) | CALL(IO_SIM_LOCK_FILE))

static const struct fault {
    const char *name;
    int error;
    uint32_t kinds, calls; // that it fits
    bool is_sticky;
} faults[] = {
    {"EIO", EIO, FILES, CALLS, false},
    {"ENOSPC", ENOSPC, FILES, CALLS_THAT_MAKE, false},
    {"ECANCELED", ECANCELED, FILES, 0, false},
    {"EAGAIN", EAGAIN, FILES, LOCKS, false}, // of a lock: another has it
    {"EACCES", EACCES, NAMES, CALL(IO_SIM_MKDIR) | CALL(IO_SIM_FS_INFO) | CALLS_THAT_OPEN, false},
    {"EMFILE", EMFILE, KIND(IO_OPEN) | KIND(IO_SYNC_DIR), CALLS_THAT_OPEN, false},
    {"ENOMEM", ENOMEM, KIND(IO_OPEN), CALL(IO_SIM_LIST) | CALL(IO_SIM_FS_INFO) | LOCKS, false},
    {"short", IO_SIM_SHORT, TRANSFERS, 0, false}, // any other is whole or not at all
    {"EIO+", EIO, KIND(IO_WRITE), 0, true},
    {"ENOSPC+", ENOSPC, KIND(IO_WRITE), CALL(IO_SIM_ALLOCATE), true},
    {"sync+", EIO, KIND(IO_FDATASYNC), 0, true},
    {"short+", IO_SIM_SHORT, TRANSFERS, 0, true},
};

static const char *const kind_names[] = {
    [IO_OPEN] = "open",         [IO_CLOSE] = "close",   [IO_READ] = "read",
    [IO_WRITE] = "write",       [IO_RENAME] = "rename", [IO_FDATASYNC] = "fdatasync",
    [IO_SYNC_DIR] = "sync_dir", [IO_UNLINK] = "unlink"};
static const char *const call_names[] = {
    [IO_SIM_LIST] = "listing",     [IO_SIM_MKDIR] = "mkdir",         [IO_SIM_FS_INFO] = "fs_info",
    [IO_SIM_FILE_SIZE] = "size",   [IO_SIM_LOCK_FILE] = "lock_file", [IO_SIM_LOCK_FD] = "lock",
    [IO_SIM_ALLOCATE] = "allocate"};

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

static bool fits(const struct fault *fault, const struct io_op *op)
{
    return op->kind == IO_NONE ? fault->calls & CALL(op->len) : fault->kinds & KIND(op->kind);
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
    bool is_socket = slot >= 0 && slot < IO_SIM_FILES_MAX && process->files.slots[slot].socket;
    return is_socket ? "a socket" : "a file without a name";
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
        .is_borne = fault->error == IO_SIM_SHORT,
        .at_ns = op->kind == IO_NONE ? 0 : op->backend[0],
        .path = path,
    });
    return fault->error;
}

/* A kind is what is done to which kind of file, in a start or not. */
static bool is_tried(const char *path, const struct io_op *op)
{
    bool is_call = op->kind == IO_NONE;
    uint64_t words[] = {op->kind, is_call ? op->len : 0, scenario_serves()};
    return sweep_point(sweep_kind(words, ARRAY_COUNT(words), path));
}

static int on_operation(struct process *process, const struct io_op *op)
{
    char what[160];
    if (process != scenario.broker.process || (op->kind != IO_NONE && !(FILES & KIND(op->kind))))
        return 0;
    watch_log(process, op);
    if (chosen) {
        bool goes_on = chosen->is_sticky && !scenario.strike.is_over && fits(chosen, op);
        return goes_on ? strike(process, op, chosen) : 0;
    }
    const char *path = path_of(process, op);
    if (!is_tried(path, op))
        return 0;
    snprintf(what, sizeof(what), "%s of %s",
             op->kind == IO_NONE ? call_names[op->len] : kind_names[op->kind], path);
    for (size_t i = 0; i < ARRAY_COUNT(faults); i++) {
        if (!fits(&faults[i], op) || !sweep_fork(faults[i].name, what))
            continue;
        chosen = &faults[i];
        return strike(process, op, chosen);
    }
    return 0;
}
