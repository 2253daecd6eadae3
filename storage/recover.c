/* Recovery: gather, walk, decide, act; and the table that decides.
 *
 * The happy path: files are listed, opened, locked and made durable (recover_files.c), the log is
 * replayed from the checkpoint to E (recover_walk.c), no fact speaks against going on, and the log
 * goes on at E in the same file.
 *
 * Facts are gathered by the walk; the first case of recover_cases whose facts all hold decides. A
 * refusal has written nothing. What may be dropped is dropped in one step, by a CUT
 * (recover_cut.c).
 *
 * Why a log whose tail is merely silent goes on in place: behind E lies nothing of this life of the
 * file. A group that was half written without its header block can never become valid: its header's
 * place is where the next group goes, and that one's checksum covers its own payload. */
#include "storage/recover_private.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/plant.h"

static const struct recover_case *decide(uint32_t facts);
static int act(struct recover *recover, const struct recover_case *rule);
static int refuse(struct recover *recover, const struct recover_case *rule);
static void tell(const struct recover *recover, const struct recover_case *rule);
static int finish(struct recover *recover, struct recover_log *log);
static void roles_settle(struct recover *recover);
static void older_settle(struct recover *recover);
static void spares_settle(struct recover *recover);

/* Legend: "facts" must all hold; the first row that fits decides.
 *
 *     E   end of the unbroken chain        D   highest LSN proven durable
 *     row files from the oldest that the checkpoint needs to the successor of the one that holds E
 */
const struct recover_case recover_cases[] = {
    /* -- files that are not what they should be: nothing read from them can be trusted -- */
    {'A', FACT_NEWER, RECOVER_REFUSE, E_NEWER, DAMAGE_NEWER_FORMAT,
     "was written by a newer version of Sluice; start that version"},
    {'B', FACT_FOREIGN, RECOVER_REFUSE, E_FOREIGN, DAMAGE_FOREIGN_FILE,
     "belongs to another store or shard, or has another number than its name"},
    {'C', FACT_MISSING, RECOVER_REFUSE, E_CORRUPT, DAMAGE_MISSING_FILE,
     "is missing: the log needs it"},
    {'D', FACT_WRONG_SIZE, RECOVER_REFUSE, E_CORRUPT, DAMAGE_TRUNCATED_FILE,
     "has not the length of a segment"},
    {'E', FACT_BAD_HEADER, RECOVER_REFUSE, E_CORRUPT, DAMAGE_BAD_HEADER,
     "both copies of the segment header are damaged"},
    {'F', FACT_BAD_START, RECOVER_REFUSE, E_CORRUPT, DAMAGE_BAD_GROUP,
     "its first group is damaged or is not where it belongs"},
    /* -- groups that are intact, but hold what can't be -- */
    {'G', FACT_UNKNOWN_ENTRY, RECOVER_REFUSE, E_CORRUPT, DAMAGE_UNKNOWN_ENTRY,
     "holds an entry of an unknown type that may not be ignored"},
    {'H', FACT_BAD_ENTRY, RECOVER_REFUSE, E_CORRUPT, DAMAGE_BAD_ENTRY,
     "holds an entry that contradicts its group or the state before it"},
    /* -- E < D: acked bytes are damaged or missing -- */
    {'I', FACT_BELOW_PROVEN | FACT_AT_BAD, RECOVER_REFUSE, E_CORRUPT, DAMAGE_BAD_GROUP,
     "a group below the durable mark fails its checksum"},
    {'J', FACT_BELOW_PROVEN | FACT_AT_STALE, RECOVER_REFUSE, E_CORRUPT, DAMAGE_BROKEN_CHAIN,
     "a group below the durable mark does not continue the one before it"},
    {'K', FACT_BELOW_PROVEN, RECOVER_REFUSE, E_CORRUPT, DAMAGE_SHORT_OF_PROVEN,
     "the log ends below what was durable: blocks were lost or are old"},
    /* -- E >= D, after a clean stop: there was nothing in flight, so nothing may lie behind -- */
    {'L', FACT_NOT_CLEAN | FACT_AT_BAD, RECOVER_REFUSE, E_CORRUPT, DAMAGE_BAD_GROUP,
     "the log was closed cleanly, but something damaged lies behind its end"},
    {'M', FACT_NOT_CLEAN, RECOVER_REFUSE, E_CORRUPT, DAMAGE_BROKEN_CHAIN,
     "the log was closed cleanly, but goes on behind its end"},
    /* -- E >= D: nothing behind E is proven acked -- */
    {'N', FACT_SALVAGE, RECOVER_CUT, 0, DAMAGE_NONE, "goes on behind the hole that was given up"},
    {'O', FACT_BEHIND, RECOVER_CUT, 0, DAMAGE_NONE, "drops what was never proven acked"},
    {'P', 0, RECOVER_GO_ON, 0, DAMAGE_NONE, "goes on at its end"},
};
const uint32_t recover_case_count = ARRAY_COUNT(recover_cases);

const char *damage_kind_name(enum damage_kind kind)
{
    static const char *const names[] = {
        [DAMAGE_NONE] = "none",
        [DAMAGE_MISSING_FILE] = "missing_file",
        [DAMAGE_FOREIGN_FILE] = "foreign_file",
        [DAMAGE_BAD_HEADER] = "bad_header",
        [DAMAGE_BAD_GROUP] = "bad_group",
        [DAMAGE_BROKEN_CHAIN] = "broken_chain",
        [DAMAGE_TRUNCATED_FILE] = "truncated_file",
        [DAMAGE_BAD_ENTRY] = "bad_entry",
        [DAMAGE_UNKNOWN_ENTRY] = "unknown_entry",
        [DAMAGE_NEWER_FORMAT] = "newer_format",
        [DAMAGE_SHORT_OF_PROVEN] = "short_of_proven",
    };
    return (size_t)kind < ARRAY_COUNT(names) ? names[kind] : "unknown";
}

int recover_run(const struct wal_options *options, const struct recover_options *recover_options,
                struct recover_result *result, struct recover_log *log)
{
    struct recover recover = {.wal = options, .options = recover_options, .result = result};
    uint64_t group_bytes_max = recover_group_bytes_max(options->segment_bytes);
    *result = (struct recover_result){.damage = DAMAGE_NONE};
    *log = (struct recover_log){.count = 0};
    int status = file_reader_init(&recover.reader, options->io, group_bytes_max);
    if (status == 0)
        status = recover_gather(&recover);
    if (status == 0)
        status = recover_walk(&recover);
    if (status == 0)
        status = act(&recover, decide(recover.facts));
    else if (recover.facts & FACT_BAD_ENTRY) // apply said no: its status, our description
        (void)act(&recover, decide(recover.facts));
    if (status == 0)
        status = finish(&recover, log);
    recover_files_free(&recover);
    file_reader_deinit(&recover.reader);
    return status;
}

void recover_log_free(struct io *io, struct recover_log *log)
{
    for (uint32_t i = 0; i < log->count; i++)
        if (log->files[i].fd >= 0)
            (void)io_close_wait(io, log->files[i].fd);
    free(log->files);
    *log = (struct recover_log){.count = 0};
}

/* ---- facts ---- */

void recover_fact(struct recover *recover, enum fact fact, const struct wal_file *file,
                  uint64_t number, uint64_t offset, uint64_t lsn_from, uint64_t lsn_to)
{
    struct spot *spot = &recover->spots[__builtin_ctz(fact)];
    if (recover->facts & fact)
        return;
    recover->facts |= fact;
    *spot = (struct spot){.offset = offset, .lsn_from = lsn_from, .lsn_to = lsn_to};
    if (file)
        memcpy(spot->name, file->pub.name, sizeof(spot->name));
    else
        snprintf(spot->name, sizeof(spot->name), "%016llx.wal", (unsigned long long)number);
}

static const struct recover_case *decide(uint32_t facts)
{
    const struct recover_case *rule = recover_cases;
    while ((facts & rule->facts) != rule->facts)
        rule++;
    return rule;
}

/* ---- what follows ---- */

static int act(struct recover *recover, const struct recover_case *rule)
{
    struct recover_result *result = recover->result;
    result->end_lsn = recover->place.lsn;
    result->end_chain = recover->place.chain;
    result->proven_lsn = recover->proven_lsn;
    result->rule = rule->letter;
    if (rule->action == RECOVER_REFUSE)
        return refuse(recover, rule);
    if (!recover->options->read_only)
        tell(recover, rule);
    if (rule->action == RECOVER_GO_ON || PLANTED(TAIL_NOT_CUT))
        return 0;
    result->cut = true;
    return recover->options->read_only ? 0 : recover_cut(recover);
}

/* The place that is named is that of the first fact of the row; a broken chain is at E. */
static int refuse(struct recover *recover, const struct recover_case *rule)
{
    struct recover_result *result = recover->result;
    uint32_t place_facts = rule->facts & ~(uint32_t)(FACT_BELOW_PROVEN | FACT_NOT_CLEAN);
    uint32_t fact = place_facts ? place_facts : rule->facts;
    const struct spot *spot = &recover->spots[__builtin_ctz(fact)];
    uint64_t next_good = min_u64(recover->behind_from, max_u64(recover->proven_lsn, spot->lsn_to));
    recover_path(recover, spot->name, result->path);
    result->damage = rule->damage;
    result->offset = spot->offset;
    result->lsn_from = spot->lsn_from;
    result->lsn_to = max_u64(spot->lsn_to > 0 ? spot->lsn_to : next_good,
                             spot->lsn_from + DISK_BLOCK); // a hole is never empty
    snprintf(result->text, sizeof(result->text), "%s", rule->text);
    return rule->status;
}

static void tell(const struct recover *recover, const struct recover_case *rule)
{
    const struct recover_result *result = recover->result;
    if (rule->action == RECOVER_CUT)
        LOG_WARN("wal.tail_dropped", LOG_STR("dir", recover->wal->dir),
                 LOG_U64("end_lsn", result->end_lsn), LOG_U64("proven_lsn", result->proven_lsn),
                 LOG_U64("torn_bytes", result->torn_bytes), LOG_U64("bad_bytes", result->bad_bytes),
                 LOG_U64("stale_bytes", result->stale_bytes),
                 LOG_U64("lost_bytes", result->lost_bytes));
    else if (result->groups > 0)
        LOG_INFO("wal.recovered", LOG_STR("dir", recover->wal->dir),
                 LOG_U64("end_lsn", result->end_lsn), LOG_U64("proven_lsn", result->proven_lsn),
                 LOG_U64("groups", result->groups), LOG_U64("entries", result->entries));
}

/* ---- the log as it is from here on ---- */

static int finish(struct recover *recover, struct recover_log *log)
{
    const struct place *place = &recover->place;
    if (place->file)
        roles_settle(recover);
    log->files = calloc(recover->count + 1, sizeof(*log->files));
    if (log->files == NULL)
        return E_NO_MEMORY;
    for (uint32_t i = 0; i < recover->count; i++) {
        log->files[log->count++] = recover->files[i].pub;
        recover->files[i].pub.fd = -1; // handed over
    }
    log->end = (struct wal_position){.lsn = place->lsn,
                                     .chain = place->chain,
                                     .group_number = place->number,
                                     .append_time_ms = place->append_time_ms,
                                     .file_number = place->file ? place->file->pub.number : 0};
    log->data_end_lsn = recover->data_end_lsn;
    log->open_is_bare = place->bare;
    for (uint32_t i = 0; i < recover->hole_count; i++)
        log->holes[log->hole_count++] =
            (struct segment_hole){recover->holes[i].from_lsn, recover->holes[i].to_lsn};
    log->next_number = recover_highest(recover) + 1;
    return 0;
}

static void roles_settle(struct recover *recover)
{
    struct place *place = &recover->place;
    place->file->pub.end_lsn = place->lsn;
    place->file->pub.role = RECOVER_OPEN;
    older_settle(recover);
    spares_settle(recover);
}

/* Live files end where the next one begins. Older than the checkpoint needs: kept while the row is
 * unbroken, since the checkpoint before may need them; store.c gives them back by its rule. */
static void older_settle(struct recover *recover)
{
    struct wal_file *next = NULL;
    for (uint32_t i = recover->numbered; i > 0; i--) {
        struct wal_file *file = &recover->files[i - 1];
        if (file->pub.number > recover->place.file->pub.number || file->is_void)
            continue;
        bool is_older = file->pub.role == RECOVER_RAW;
        if (is_older) {
            uint64_t base;
            bool continues = next && next->pub.role != RECOVER_RAW && file->fault == FILE_FINE &&
                             recover_file_base(recover, file, &base) && base < next->pub.base_lsn &&
                             (next->is_cut || next->pub.number == file->pub.number + 1);
            if (!continues)
                return; // it and all before it are raw material
            file->pub.role = RECOVER_LIVE;
            file->pub.base_lsn = base;
        }
        if (next && file->pub.end_lsn == 0)
            file->pub.end_lsn = next->pub.base_lsn;
        next = file;
    }
}

/* Behind the open file, numbers one by one; what comes behind a gap, or is not fine, was never
 * entered. */
static void spares_settle(struct recover *recover)
{
    struct wal_file *last = recover->place.file;
    struct wal_file *file = last;
    while ((file = recover_file_after(recover, file)) != NULL) {
        if (file->fault != FILE_FINE || file->pub.number != last->pub.number + 1)
            return;
        file->pub.role = RECOVER_SPARE;
        last = file;
    }
}
