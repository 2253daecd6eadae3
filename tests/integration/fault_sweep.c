/* Each I/O operation of a real broker failed once: what it says, how it ends, and what is there afterwards.
 *
 *   sluice-fault-sweep BIN_DIR DIR --point NAME [--actions EIO,ENOSPC] [--indices all|N] [--first I] [--last I] [--sticky]
 *                      [--io uring|epoll|auto] [--seconds-max S] [--verbose]
 *
 * For each index i of the trace and each action a broker is started with SLUICE_FAULT=NAME@i=ACTION (--sticky: i+) in an empty
 * directory. Two transactional producers over three shards, a plain one and a reader use it, checkpoints are asked for,
 * spares and segments are made; until the fault strikes. Then one of three things must be seen:
 *
 *     ended     it ends with code 1 within a second of the failed call, as the broker's log has it; the last
 *               line names file and LSN. What this machine stood still meanwhile is not counted, see turn(); with all
 *               of that it is within --seconds-max (1). Of every second run what is at and behind that LSN is then wiped from the
 *               files, as a kernel may drop what it could not flush: had any of it been acked, it would be gone
 *     went on   what failed is no part of the log (a spare, an index, a read ...): a line says so, everything goes on; the
 *               broker is killed later
 *     refused   it did not become ready: code 1 or 3 and a text
 *
 * After a restart without the fault the clients go on and end what they do; then nothing may be in doubt or left over, the broker
 * stops with 0, and the history (tests/checker) must have no anomaly: all acked is there, once. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "storage/format.h"
#include "tests/checker/checker.h"
#include "bench/engine/broker_process.h"
#include "tests/integration/history_client.h"

#define WORKERS 2
#define PLAIN WORKERS // number of the plain producer
#define CHILDREN (WORKERS + 2)
#define TRACE_FLUSHES 500 // --indices all, for fdatasyncs
#define MISSES_MAX 3      // in a row: the trace ends before; for other points
#define SAMPLED_SPAN 64   // of a trace whose end nobody knows
#define PARTITIONS_PER_TOPIC 4
#define STRIKE_S 15
#define GOES_ON_S 0.7 // behind a fault that ends nothing
#define END_S_MAX 1.0 // from the failed call to the broker's end
#define TURN_S 0.001
#define TURN_S_MAX 0.005 // one that takes longer stood still
#define TURNS_MAX 65536u

struct sweep_totals { // in shared memory
    uint32_t runs, ended, went_on, refused, missed, wiped;
    uint64_t commits, acks, wiped_bytes;
    double exit_ms_max; // without what stood still
};

struct sweep {
    const char *bin_dir, *dir, *point, *actions, *io;
    uint32_t sample; // 0: all
    uint32_t first, last;
    double seconds_max;
    bool sticky, verbose;
    char planted[512]; // besides, from SLUICE_FAULT: to see that the sweep notices a bug
    struct sweep_totals *totals;
};

struct run {
    const struct sweep *sweep;
    struct broker_process broker;
    struct world *world;
    struct child children[CHILDREN];
    uint32_t index;
    const char *action;
    char data_dir[3000];
    bool wipes;
    int code;       // exit code of the broker with the fault; -1: it did not end
    char *log;      // what it wrote
    double ended_s; // wall clock
    double *turns;  // likewise, the ends of this program's own while it waits
    uint32_t turn_count;
};

static const char *const topics[] = {"sweep-a", "sweep-b", "sweep-c"};

static void parse(struct sweep *sweep, int argc, char **argv);
static int sweep_all(struct sweep *sweep);
static bool one_run(const struct sweep *sweep, uint32_t index, const char *action);
static void run_in_child(const struct sweep *sweep, uint32_t index, const char *action);

int main(int argc, char **argv)
{
    static struct sweep sweep = {
        .actions = "EIO,ENOSPC", .io = "auto", .sample = 24, .first = 1, .seconds_max = 1};
    setvbuf(stdout, NULL, _IOLBF, 0);
    parse(&sweep, argc, argv);
    sweep.totals = world_share(sizeof(*sweep.totals));
    const char *planted = getenv("SLUICE_FAULT");
    snprintf(sweep.planted, sizeof(sweep.planted), "%s%s", planted && *planted ? "," : "",
             planted ? planted : "");
    unsetenv("SLUICE_FAULT");
    return sweep_all(&sweep);
}

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: sluice-fault-sweep BIN_DIR DIR --point NAME [--actions EIO,ENOSPC] "
                    "[--indices all|N] [--first I] [--last I] [--sticky] [--io B] "
                    "[--seconds-max S] [--verbose]\n");
    exit(2);
}

static void parse(struct sweep *sweep, int argc, char **argv)
{
    if (argc < 3)
        usage();
    sweep->bin_dir = argv[1];
    sweep->dir = argv[2];
    for (int i = 3; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--sticky") == 0)
            sweep->sticky = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            sweep->verbose = true;
        else if (!value)
            usage();
        else if (strcmp(argv[i], "--point") == 0)
            sweep->point = argv[++i];
        else if (strcmp(argv[i], "--actions") == 0)
            sweep->actions = argv[++i];
        else if (strcmp(argv[i], "--indices") == 0)
            sweep->sample = strcmp(argv[++i], "all") == 0 ? 0 : (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--first") == 0)
            sweep->first = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--last") == 0)
            sweep->last = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--io") == 0)
            sweep->io = argv[++i];
        else if (strcmp(argv[i], "--seconds-max") == 0)
            sweep->seconds_max = strtod(argv[++i], NULL);
        else
            usage();
    }
    if (!sweep->point || sweep->first == 0)
        usage();
}

/* ---- which ---- */

/* A sample lies thicker where a start is: each index is the one before times a factor. */
static uint32_t index_after(const struct sweep *sweep, uint32_t index, uint32_t last)
{
    double span = last == UINT32_MAX ? SAMPLED_SPAN : last;
    if (sweep->sample == 0)
        return index + 1;
    if (sweep->sample == 1)
        return UINT32_MAX;
    double next = index * pow(span / sweep->first, 1.0 / (sweep->sample - 1));
    return next < index + 1 ? index + 1 : (uint32_t)(next + 0.5);
}

/* False: something was not as it must be. */
static bool sweep_action(struct sweep *sweep, const char *action, uint32_t last)
{
    uint32_t misses = 0, tried = 0;
    for (uint32_t index = sweep->first; index <= last && misses < MISSES_MAX;
         index = index_after(sweep, index, last)) {
        uint32_t missed = sweep->totals->missed;
        if (sweep->sample > 0 && (tried++ == sweep->sample || misses > 0))
            break;
        if (!one_run(sweep, index, action)) {
            printf("FAILED; again: sluice-fault-sweep %s %s --point %s --actions %s --first %u "
                   "--last %u --io %s%s --verbose\n",
                   sweep->bin_dir, sweep->dir, sweep->point, action, index, index, sweep->io,
                   sweep->sticky ? " --sticky" : "");
            return false;
        }
        misses = sweep->totals->missed > missed ? misses + 1 : 0;
        if (index == UINT32_MAX)
            break;
    }
    return true;
}

static int sweep_all(struct sweep *sweep)
{
    bool is_flush = strcmp(sweep->point, "io_fdatasync") == 0;
    uint32_t last = sweep->last ? sweep->last : is_flush ? TRACE_FLUSHES : UINT32_MAX;
    double started = now_s();
    char actions[128];
    snprintf(actions, sizeof(actions), "%s", sweep->actions);
    for (char *rest = actions, *action; (action = strsep(&rest, ","));)
        if (!sweep_action(sweep, action, last))
            return 1;
    const struct sweep_totals *t = sweep->totals;
    printf(
        "%s (%s%s, %s): %u runs: %u ended, %u went on, %u refused to start, %u beyond the trace; "
        "%u logs wiped from the LSN they named (%" PRIu64 " KiB); %" PRIu64 " commits, %" PRIu64
        " acks; slowest end %.0f ms after the failure; 0 anomalies; %.0f s\n",
        sweep->point, sweep->actions, sweep->sticky ? ", sticky" : "", sweep->io, t->runs, t->ended,
        t->went_on, t->refused, t->missed, t->wiped, t->wiped_bytes / 1024, t->commits, t->acks,
        t->exit_ms_max, now_s() - started);
    bool is_whole = !is_flush || t->missed == 0; // each index of the trace was met
    return is_whole && t->ended + t->went_on + t->refused > 0 ? 0 : 1;
}

/* Each run is a process: what it maps and starts goes with it. */
static bool one_run(const struct sweep *sweep, uint32_t index, const char *action)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        run_in_child(sweep, index, action);
        fflush(stdout);
        _exit(0);
    }
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        fail("fork");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- clients ---- */

static void work(struct world *world, uint32_t number)
{
    struct sluice_client *client = client_of(world);
    struct random random;
    char id[32];
    snprintf(id, sizeof(id), "sweep-%u", number);
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .buffer_bytes = 1u << 20,
                                              .send_waits = true,
                                              .transactional_id = id};
    struct sluice_producer *producer;
    random_init(&random, number + 1);
    must(sluice_producer_new(client, &options, &producer), "producer");
    end_waiting(world, producer, number, true);
    while (!atomic_load(&world->stop)) {
        int status = sluice_txn_begin(producer);
        if (status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT)
            continue;
        must(status, "begin");
        uint64_t txn = atomic_fetch_add(&world->txns, 1) + 1, sequence;
        bool whole = true;
        for (uint32_t p = 0; p < world_partitions(world) && whole; p += 1 + number)
            whole = send_one(world, producer, number, p, txn, VALUE_BYTES_MIN + 40, &sequence) == 0;
        if (whole && random_below(&random, 8) == 0 && !prepare(world, producer, number, txn))
            continue;
        if (whole && random_below(&random, 5) > 0)
            commit(world, producer, txn);
        else
            abort_txn(world, producer, txn);
        atomic_store(&world->open_txn[number], 0);
    }
    sluice_producer_free(producer);
    sluice_client_free(client);
}

static void on_report(void *context, const struct sluice_report *report)
{
    struct world *world = context;
    if (report->status != SLUICE_OK)
        return; // after a restart nobody can tell
    history_add(world->history,
                (struct history_event){
                    HISTORY_ACKED, .producer = PLAIN, .partition = report->partition,
                    .sequence = (uint64_t)(uintptr_t)report->opaque, .offset = report->offset});
    atomic_fetch_add(&world->acks, 1);
}

/* To the first topic only, so a report's partition is the history's. */
static void produce_plain(struct world *world, uint32_t number)
{
    struct sluice_client *client = client_of(world);
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .batch_bytes = 4096,
                                              .buffer_bytes = 1u << 20,
                                              .send_waits = true,
                                              .on_report = on_report,
                                              .context = world};
    struct sluice_producer *producer;
    must(sluice_producer_new(client, &options, &producer), "producer");
    for (uint32_t i = 0; !atomic_load(&world->stop); i++) {
        uint64_t sequence;
        must(send_one(world, producer, number, i % PARTITIONS_PER_TOPIC, 0, VALUE_BYTES_MAX,
                      &sequence),
             "send");
        if (i % 8 == 0)
            usleep(500);
    }
    must(sluice_producer_flush(producer, 60000), "flush");
    sluice_producer_free(producer);
    sluice_client_free(client);
}

/* ---- the broker's log ---- */

static void log_read(struct run *run)
{
    struct stat stat;
    int fd = open(run->broker.log_path, O_RDONLY | O_CLOEXEC);
    free(run->log);
    run->log = NULL;
    if (fd < 0 || fstat(fd, &stat) < 0)
        fail("no log");
    run->log = calloc(1, (size_t)stat.st_size + 1);
    if (!run->log || read(fd, run->log, (size_t)stat.st_size) < 0)
        fail("the log can't be read");
    close(fd);
}

/* Start of the line that holds an event, or NULL. */
static const char *log_line(const struct run *run, const char *event)
{
    const char *hit = strstr(run->log, event);
    while (hit && hit > run->log && hit[-1] != '\n')
        hit--;
    return hit;
}

static double line_time_s(const char *line)
{
    struct tm tm = {0};
    double seconds;
    if (sscanf(line, "%d-%d-%dT%d:%d:%lfZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
               &tm.tm_min, &seconds) != 6)
        fail("a line without its time: %.60s", line);
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return (double)timegm(&tm) + seconds;
}

static double wall_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- wiping ---- */

static uint64_t wipe_from(int fd, uint64_t from, uint64_t to)
{
    static const uint8_t zeros[65536];
    for (uint64_t at = from; at < to; at += sizeof(zeros)) {
        size_t len = to - at < sizeof(zeros) ? (size_t)(to - at) : sizeof(zeros);
        if (pwrite(fd, zeros, len, (off_t)at) != (ssize_t)len)
            fail("wipe: %s", strerror(errno));
    }
    return to - from;
}

/* A file that begins with a group says with it where it begins. Of one that was never entered nothing is wiped. */
static uint64_t wipe_file(const char *path, uint64_t lsn)
{
    struct disk_group group;
    struct stat stat;
    uint64_t wiped = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat) < 0 ||
        pread(fd, &group, sizeof(group), DISK_SEGMENT_DATA) != sizeof(group))
        fail("%s: %s", path, strerror(errno));
    uint64_t base = le64_get(group.lsn), size = (uint64_t)stat.st_size;
    if (le32_get(group.magic) == DISK_MAGIC_GROUP) {
        uint64_t from = DISK_SEGMENT_DATA + (lsn > base ? lsn - base : 0);
        if (from < size)
            wiped = wipe_from(fd, from, size);
    }
    if (fsync(fd) < 0)
        fail("fsync: %s", strerror(errno));
    close(fd);
    return wiped;
}

/* All files of the shard whose log failed: `file` is one of them, or the folder of its checkpoints. */
static void wipe(struct run *run, const char *file, uint64_t lsn)
{
    char dir[4096], path[8192];
    const char *shard = strstr(file, "/shard-");
    if (!shard)
        fail("the log names no shard's file: %s", file);
    snprintf(dir, sizeof(dir), "%.*s/shard-%.3s/wal", (int)(shard - file), file, shard + 7);
    DIR *folder = opendir(dir);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        const char *suffix = strrchr(entry->d_name, '.');
        if (!suffix || strcmp(suffix, ".wal") != 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        run->sweep->totals->wiped_bytes += wipe_file(path, lsn);
    }
    if (!folder)
        fail("%s: %s", dir, strerror(errno));
    closedir(folder);
    run->sweep->totals->wiped++;
}

/* ---- one run ---- */

static void start(struct run *run, const char *fault)
{
    if (fault)
        setenv("SLUICE_FAULT", fault, 1);
    int keep = fault ? dup(2) : -1, null = fault ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;
    if (fault)
        dup2(null, 2); // that it may not become ready is told in the totals
    bool started = broker_start(&run->broker);
    if (fault)
        dup2(keep, 2), close(keep), close(null);
    unsetenv("SLUICE_FAULT");
    if (!started && !fault)
        fail("%s@%u=%s: the broker did not start again", run->sweep->point, run->index,
             run->action);
}

static void start_clients(struct run *run)
{
    struct world *world = run->world;
    for (uint32_t i = 0; i < CHILDREN; i++) {
        run->children[i] = (struct child){.number = i < CHILDREN - 1 ? i : 0,
                                          .run = i < WORKERS  ? work
                                                 : i == PLAIN ? produce_plain
                                                              : read_all};
        child_start(&run->children[i], world);
    }
}

/* Whoever waits for the broker sleeps for a moment, in turn after turn. On a busy machine one takes long because it does not get on
 * at all, and neither does the broker. */
static void turn(struct run *run)
{
    usleep((useconds_t)(TURN_S * 1e6));
    if (run->turn_count < TURNS_MAX)
        run->turns[run->turn_count++] = wall_s();
}

/* The time from then on until the broker's end, of turns that stood still the first moment only. */
static double moved_s(const struct run *run, double from_s)
{
    double sum_s = 0;
    for (uint32_t i = 0; i < run->turn_count; i++) {
        double began_s = i > 0 && run->turns[i - 1] > from_s ? run->turns[i - 1] : from_s;
        double took_s = run->turns[i] - began_s;
        if (took_s > 0)
            sum_s += took_s < TURN_S_MAX ? took_s : TURN_S_MAX;
    }
    return sum_s;
}

static bool has_ended(struct run *run)
{
    int status;
    if (waitpid(run->broker.pid, &status, WNOHANG) != run->broker.pid)
        return false;
    run->ended_s = wall_s();
    run->broker.pid = 0;
    if (!WIFEXITED(status))
        fail("%s@%u=%s: the broker died of signal %d", run->sweep->point, run->index, run->action,
             WTERMSIG(status));
    run->code = WEXITSTATUS(status);
    return true;
}

/* Until the broker has ended, or the fault has struck and it goes on all the same, or the trace is over. */
static void wait_for_strike(struct run *run)
{
    double deadline = now_s() + STRIKE_S, struck = 0, looked = 0, hupped = now_s();
    while (!has_ended(run) && now_s() < deadline) {
        for (int i = 0; i < CHILDREN; i++)
            if (run->children[i].pid > 0)
                child_check(&run->children[i]);
        turn(run);
        if (now_s() - hupped > 0.1) { // a checkpoint of each shard
            kill(run->broker.pid, SIGHUP);
            hupped = now_s();
        }
        if (now_s() - looked < 0.05)
            continue;
        looked = now_s();
        log_read(run);
        if (struck == 0 && log_line(run, " fault.struck "))
            struck = now_s();
        double goes_on_s = struck > 0 ? now_s() - struck : 0;
        if (goes_on_s > GOES_ON_S && !log_line(run, " shard.failed "))
            break;
        if (goes_on_s > run->sweep->seconds_max + GOES_ON_S)
            break; // it has said that it ends, and does not
        if (struck == 0 && atomic_load(&run->world->commits) > 600)
            break; // the trace is over
    }
    log_read(run);
}

static _Noreturn void wrong(const struct run *run, const char *what)
{
    size_t len = run->log ? strlen(run->log) : 0;
    fail("%s@%u=%s: %s\n%s", run->sweep->point, run->index, run->action, what,
         len > 3000 ? run->log + len - 3000
         : run->log ? run->log
                    : "");
}

/* The broker has ended by itself: when, how, and what it said. */
static void judge_end(struct run *run)
{
    const char *struck = log_line(run, " fault.struck "), *said = log_line(run, " shard.failed ");
    char file[4096];
    uint64_t lsn;
    if (!struck || !said)
        wrong(run, "it ended and did not say why");
    const char *file_at = strstr(said, " file="), *lsn_at = strstr(said, " lsn=");
    if (!file_at || !lsn_at || sscanf(file_at, " file=%4095s", file) != 1 ||
        sscanf(lsn_at, " lsn=%" SCNu64, &lsn) != 1)
        wrong(run, "file and LSN are not named");
    if (run->code != 1)
        wrong(run, "another exit code than 1");
    double took_ms = moved_s(run, line_time_s(struck)) * 1000;
    if (took_ms > END_S_MAX * 1000 || run->ended_s - line_time_s(struck) > run->sweep->seconds_max)
        wrong(run, "it went on for too long");
    if (took_ms > run->sweep->totals->exit_ms_max)
        run->sweep->totals->exit_ms_max = took_ms;
    run->sweep->totals->ended++;
    if (run->wipes)
        wipe(run, file, lsn);
}

static bool says_what_failed(const struct run *run, const char *from)
{
    for (const char *line = from; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        const char *end = strchrnul(line, '\n');
        const char *warn = memmem(line, (size_t)(end - line), " WARN ", 6);
        const char *error = memmem(line, (size_t)(end - line), " ERROR ", 7);
        if ((warn || error) && !memmem(line, (size_t)(end - line), " fault.", 7))
            return true;
    }
    return false;
}

/* It lives: it must have said that something failed, and something in the middle of the log can't have. */
static void judge_going_on(struct run *run)
{
    const char *struck = log_line(run, " fault.struck ");
    bool is_harmless = strncmp(run->sweep->point, "io_short_", 9) == 0; // the rest is done
    if (!struck) {
        run->sweep->totals->missed++;
    } else if (log_line(run, " shard.failed ")) {
        wrong(run, "it went on for too long");
    } else {
        if (!is_harmless && !says_what_failed(run, struck))
            wrong(run, "it went on without a word");
        run->sweep->totals->went_on++;
    }
    broker_kill(&run->broker);
}

static void judge_refusal(struct run *run)
{
    log_read(run);
    if (strstr(run->log, "(null)"))
        wrong(run, "it said nothing where it should have");
    int code = WIFEXITED(run->broker.status) ? WEXITSTATUS(run->broker.status) : -1;
    if (code != 1 && code != 3)
        wrong(run, "it did not start, with another code than 1 or 3");
    if (!log_line(run, " fault.struck ") || !strstr(run->log, run->data_dir))
        wrong(run, "it did not start, and named no file");
    run->sweep->totals->refused++;
}

/* The clients end what they do with a broker that is well. */
static void finish(struct run *run)
{
    struct world *world = run->world;
    check_nothing_in_doubt(world);
    uint64_t commits = atomic_load(&world->commits);
    double deadline = now_s() + 60;
    while (atomic_load(&world->commits) < commits + 2) {
        for (int i = 0; i < CHILDREN; i++)
            child_check(&run->children[i]);
        if (now_s() > deadline)
            wrong(run, "no transaction was committed for 60 s after the restart");
        usleep(1000);
    }
    atomic_store(&world->stop, true);
    for (int i = 0; i <= PLAIN; i++)
        child_wait(&run->children[i], 90);
    check_nothing_left(world);
    atomic_store(&world->drain, true);
    child_wait(&run->children[CHILDREN - 1], 90);
    if (broker_stop(&run->broker) != 0)
        wrong(run, "the broker did not stop cleanly");
    if (!judge_history(world, run->data_dir))
        wrong(run, "the history has anomalies");
    run->sweep->totals->commits += atomic_load(&world->commits);
    run->sweep->totals->acks += atomic_load(&world->acks);
}

/* By a client of its own, which may meet the fault. */
static void topics_child(struct world *world, uint32_t number)
{
    struct sluice_client *client = client_of(world);
    (void)number;
    for (uint32_t i = 0; i < world->topic_count; i++) {
        int status;
        do
            status =
                sluice_topic_create(client, world->topics[i], world->partitions_per_topic, NULL, 0);
        while (status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT ||
               status == SLUICE_E_CLOSED);
        if (status != SLUICE_E_TOPIC_EXISTS)
            must(status, "topic");
    }
    sluice_client_free(client);
}

static void make_topics(struct run *run)
{
    struct child maker = {.run = topics_child};
    double deadline = now_s() + 60;
    int status;
    child_start(&maker, run->world);
    while (waitpid(maker.pid, &status, WNOHANG) != maker.pid) {
        if (run->code < 0 && has_ended(run)) {
            log_read(run);
            judge_end(run);
            start(run, NULL);
        }
        if (now_s() > deadline)
            wrong(run, "the topics could not be made");
        turn(run);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        wrong(run, "the topics could not be made");
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

static void run_in_child(const struct sweep *sweep, uint32_t index, const char *action)
{
    static const char *const extra[] = {
        "--set", "segment_bytes=4MiB",     "--set",   "shards=3", "--set", "batch_bytes_max=1MiB",
        "--set", "wal_bytes_budget=48MiB", "--cores", "2",        NULL};
    static char program[4096];
    char fault[768];
    struct run run = {.sweep = sweep, .index = index, .action = action, .code = -1};
    run.turns = calloc(TURNS_MAX, sizeof(*run.turns));
    if (!run.turns)
        fail("no memory");
    run.wipes = (index + (action[1] == 'N')) % 2 == 0;
    snprintf(program, sizeof(program), "%s/sluiced", sweep->bin_dir);
    snprintf(run.data_dir, sizeof(run.data_dir), "%s/run", sweep->dir);
    run.broker = (struct broker_process){
        .program = program, .data_dir = run.data_dir, .io = sweep->io, .extra = extra};
    snprintf(fault, sizeof(fault), "%s@%u%s=%s%s", sweep->point, index, sweep->sticky ? "+" : "",
             action, sweep->planted);
    (void)nftw(run.data_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS); // of a run that was interrupted
    (void)snprintf(run.broker.log_path, sizeof(run.broker.log_path), "%s.log", run.data_dir);
    (void)unlink(run.broker.log_path);
    run.world = world_new(topics, 3, PARTITIONS_PER_TOPIC, UINT64_C(1) << 22);
    sweep->totals->runs++;
    start(&run, fault);
    bool ready = run.broker.pid > 0;
    if (!ready) {
        judge_refusal(&run);
        start(&run, NULL);
    }
    snprintf(run.world->server, sizeof(run.world->server), "%s", run.broker.address);
    make_topics(&run);
    start_clients(&run);
    if (ready && run.code < 0) {
        wait_for_strike(&run);
        if (run.broker.pid > 0)
            judge_going_on(&run);
        else
            judge_end(&run);
        start(&run, NULL);
    }
    finish(&run);
    if (sweep->verbose)
        printf("%-32s %s%s\n", fault,
               !ready         ? "refused to start"
               : run.code < 0 ? "went on"
                              : "ended",
               run.wipes && run.code >= 0 ? ", wiped" : "");
    (void)nftw(run.data_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    (void)unlink(run.broker.log_path);
}
