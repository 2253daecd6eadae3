#include "tests/checker/checker.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tests/checker/checker_private.h"

#define PRINTED_OF_A_KIND 10

static const struct {
    const char *name, *text;
} anomalies[] = {
#define ANOMALY(name, text) {#name, text},
#include "tests/checker/anomalies.def"
#undef ANOMALY
};

static const event_fn handlers[HISTORY_KIND_COUNT] = {
    [HISTORY_SEND] = on_send,
    [HISTORY_REFUSED] = on_refused,
    [HISTORY_ACKED] = on_acked,
    [HISTORY_FAILED] = on_refused,
    [HISTORY_COMMIT_ASKED] = on_txn,
    [HISTORY_COMMITTED] = on_txn,
    [HISTORY_ABORT_ASKED] = on_txn,
    [HISTORY_ABORTED] = on_txn,
    [HISTORY_READER_START] = on_reader_start,
    [HISTORY_READ] = on_read,
    [HISTORY_READ_FOREIGN] = on_read_foreign,
    [HISTORY_READER_DONE] = on_reader_done,
    [HISTORY_END_ASKED] = on_end_asked,
    [HISTORY_END] = on_end,
    [HISTORY_OFFSET_COMMIT_ASKED] = on_offset_commit_asked,
    [HISTORY_OFFSET_COMMITTED] = on_offset_committed,
    [HISTORY_OFFSET_ASKED] = on_offset_asked,
    [HISTORY_OFFSET_FETCHED] = on_offset_fetched,
    [HISTORY_OFFSET_RESET] = on_offset_reset,
};

static void print_anomaly(void *context, enum anomaly anomaly, const char *sentence);

struct checker *checker_new(const struct checker_options *options)
{
    struct checker *checker = calloc(1, sizeof(*checker));
    if (!checker) {
        perror("checker");
        exit(1);
    }
    if (options)
        checker->options = *options;
    if (!checker->options.on_anomaly) {
        checker->options.on_anomaly = print_anomaly;
        checker->options.context = checker;
    }
    return checker;
}

void checker_free(struct checker *checker)
{
    tables_free(checker);
    free(checker);
}

void checker_add(struct checker *checker, const struct history_event *event)
{
    checker->event_count++;
    if (event->kind == HISTORY_NONE)
        return;
    if (event->kind >= HISTORY_KIND_COUNT || event->partition >= NUMBER_MAX ||
        event->producer >= NUMBER_MAX || event->reader >= NUMBER_MAX ||
        event->group >= NUMBER_MAX || event->txn >= TXN_NUMBER_MAX) {
        found(checker, ANOMALY_MALFORMED, "event %" PRIu64 " (%s) has numbers out of range",
              checker->event_count - 1, history_kind_name(event->kind));
        return;
    }
    handlers[event->kind](checker, event);
}

uint64_t checker_count(const struct checker *checker, enum anomaly anomaly)
{
    return checker->counts[anomaly];
}

uint64_t checker_count_all(const struct checker *checker)
{
    uint64_t sum = 0;
    for (int i = 0; i < ANOMALY_COUNT; i++)
        sum += checker->counts[i];
    return sum;
}

struct checker_totals checker_totals(const struct checker *checker)
{
    return checker->totals;
}

const char *anomaly_name(enum anomaly anomaly)
{
    return anomalies[anomaly].name;
}

const char *anomaly_text(enum anomaly anomaly)
{
    return anomalies[anomaly].text;
}

static struct checker *check_all(const struct history *history,
                                 const struct checker_options *options)
{
    struct checker *checker = checker_new(options);
    for (uint64_t i = 0; i < history_count(history); i++)
        checker_add(checker, history_at(history, i));
    checker_finish(checker);
    return checker;
}

static void print_first(void *context, enum anomaly anomaly, const char *sentence)
{
    bool *printed = context;
    if (!printed[anomaly])
        printf("%s: %s\n", anomalies[anomaly].name, sentence);
    printed[anomaly] = true;
}

bool history_has(const struct history *history, enum anomaly anomaly)
{
    bool printed[ANOMALY_COUNT] = {false};
    struct checker_options options = {.on_anomaly = print_first, .context = printed};
    struct checker *checker = check_all(history, &options);
    bool has = checker->counts[anomaly] > 0;
    checker_free(checker);
    return has;
}

bool history_check(const struct history *history)
{
    struct checker *checker = check_all(history, NULL);
    struct checker_totals t = checker->totals;
    printf("history: %" PRIu64 " events, %" PRIu64 " records sent, %" PRIu64 " seen; transactions: "
           "%" PRIu64 " committed, %" PRIu64 " aborted, without an answer %" PRIu64
           " visible and %" PRIu64 " not\n",
           checker->event_count, t.records_sent, t.records_seen, t.committed, t.aborted,
           t.unknown_seen, t.unknown_unseen);
    for (int i = 0; i < ANOMALY_COUNT; i++) {
        if (checker->counts[i])
            printf("anomaly %s: %" PRIu64 " (%s)\n", anomalies[i].name, checker->counts[i],
                   anomalies[i].text);
    }
    bool good = checker_count_all(checker) == 0;
    checker_free(checker);
    return good;
}

/* ---- findings ---- */

void found(struct checker *checker, enum anomaly anomaly, const char *format, ...)
{
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    checker->counts[anomaly]++;
    checker->options.on_anomaly(checker->options.context, anomaly, sentence);
}

static void print_anomaly(void *context, enum anomaly anomaly, const char *sentence)
{
    const struct checker *checker = context;
    if (checker->counts[anomaly] <= PRINTED_OF_A_KIND)
        printf("%s: %s\n", anomalies[anomaly].name, sentence);
}
