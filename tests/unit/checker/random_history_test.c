/* Random histories of a model broker that makes no mistakes: the checker must find nothing. Then the same with one mistake
 * of each kind that the model is told to make: it must find that. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "tests/checker/checker.h"

#define PARTITIONS 5
#define PRODUCERS 4
#define RECORDS_MAX 4096 // in a partition
#define ITEMS_MAX 32     // in a transaction

struct record {
    uint32_t producer;
    uint64_t sequence, txn;
};

struct model {
    struct random random;
    struct checker *checker;
    int mistake; // enum anomaly, or -1
    bool made;
    uint64_t next_txn;
    uint64_t sequences[PRODUCERS][PARTITIONS];
    struct record logs[PARTITIONS][RECORDS_MAX];
    uint64_t ends[PARTITIONS];
    uint64_t read_to[PARTITIONS];
    uint64_t counts[ANOMALY_COUNT];
    char first[512];
};

static void note(void *context, enum anomaly anomaly, const char *sentence)
{
    struct model *model = context;
    model->counts[anomaly]++;
    if (!model->first[0])
        snprintf(model->first, sizeof(model->first), "%s: %s", anomaly_name(anomaly), sentence);
}

static void add(struct model *model, struct history_event event)
{
    checker_add(model->checker, &event);
}

static uint32_t below(struct model *model, uint32_t limit)
{
    return (uint32_t)random_below(&model->random, limit);
}

/* Does the model make its mistake now? Once, and not at the very beginning. */
static bool errs(struct model *model, enum anomaly anomaly)
{
    if (model->mistake != (int)anomaly || model->made || model->next_txn < 20)
        return false;
    model->made = true;
    return true;
}

static void append(struct model *model, uint32_t partition, struct record record)
{
    model->logs[partition][model->ends[partition]++] = record;
}

static struct record send_one(struct model *model, uint32_t producer, uint32_t partition,
                              uint64_t txn)
{
    struct record record = {producer, model->sequences[producer][partition]++, txn};
    add(model, (struct history_event){HISTORY_SEND, .producer = producer, .partition = partition,
                                      .sequence = record.sequence, .txn = txn});
    return record;
}

static void plain(struct model *model)
{
    uint32_t producer = below(model, PRODUCERS), partition = below(model, PARTITIONS);
    struct record record = send_one(model, producer, partition, 0);
    bool stored = below(model, 8) > 0;
    if (!stored)
        return;
    uint64_t offset = model->ends[partition];
    bool made_before = model->made;
    if (!errs(model, ANOMALY_LOST))
        append(model, partition, record);
    if (errs(model, ANOMALY_DUPLICATE))
        append(model, partition, record);
    if (errs(model, ANOMALY_INCONSISTENT))
        offset++;
    if (below(model, 4))
        add(model, (struct history_event){HISTORY_ACKED, .producer = producer,
                                          .partition = partition, .sequence = record.sequence,
                                          .offset = below(model, 9) || model->mistake >= 0
                                                        ? offset
                                                        : HISTORY_NO_OFFSET});
    else if (!made_before)
        model->made &= model->mistake == ANOMALY_DUPLICATE; // without the ack it was none
}

static void transaction(struct model *model)
{
    uint64_t txn = model->next_txn++;
    uint32_t producer = below(model, PRODUCERS), count = 2 + below(model, ITEMS_MAX - 2);
    struct record staged[ITEMS_MAX];
    uint32_t partitions[ITEMS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        partitions[i] = (i + (uint32_t)txn) % PARTITIONS;
        staged[i] = send_one(model, producer, partitions[i], txn);
    }
    bool asked = below(model, 10) >= 3, answered = below(model, 5) > 0;
    bool visible = asked && (answered || below(model, 2));
    add(model,
        (struct history_event){asked ? HISTORY_COMMIT_ASKED : HISTORY_ABORT_ASKED, .txn = txn});
    if (!asked && errs(model, ANOMALY_ABORTED_READ))
        visible = true;
    uint32_t from = visible && errs(model, ANOMALY_TORN) ? 1 : 0;
    for (uint32_t i = from; visible && i < count; i++)
        append(model, partitions[i], staged[i]);
    if (asked && answered)
        add(model, (struct history_event){HISTORY_COMMITTED, .txn = txn});
    else if (!asked && answered)
        add(model, (struct history_event){HISTORY_ABORTED, .txn = txn});
}

static void read_on(struct model *model, uint32_t partition, uint64_t count)
{
    for (; count > 0 && model->read_to[partition] < model->ends[partition]; count--) {
        uint64_t offset = model->read_to[partition]++;
        if (model->mistake == ANOMALY_REORDERED && offset + 1 < model->ends[partition] &&
            model->logs[partition][offset].producer ==
                model->logs[partition][offset + 1].producer &&
            errs(model, ANOMALY_REORDERED)) {
            struct record swapped = model->logs[partition][offset];
            model->logs[partition][offset] = model->logs[partition][offset + 1];
            model->logs[partition][offset + 1] = swapped;
        }
        if (errs(model, ANOMALY_HOLE))
            continue;
        const struct record *record = &model->logs[partition][offset];
        add(model, (struct history_event){HISTORY_READ, .partition = partition, .offset = offset,
                                          .producer = record->producer,
                                          .sequence = record->sequence, .txn = record->txn});
    }
}

static void ask_end(struct model *model)
{
    uint32_t partition = below(model, PARTITIONS);
    uint64_t end = model->ends[partition];
    if (end > 0 && errs(model, ANOMALY_OFFSET_BACK)) {
        add(model, (struct history_event){HISTORY_END_ASKED, .partition = partition});
        add(model, (struct history_event){HISTORY_END, .partition = partition, .offset = end});
        end--;
    }
    add(model, (struct history_event){HISTORY_END_ASKED, .partition = partition});
    add(model, (struct history_event){HISTORY_END, .partition = partition, .offset = end});
}

static void run(struct model *model)
{
    for (uint32_t p = 0; p < PARTITIONS; p++)
        add(model, (struct history_event){HISTORY_READER_START, .partition = p});
    for (int i = 0; i < 400; i++) {
        uint32_t what = below(model, 10);
        if (what < 4)
            plain(model);
        else if (what < 6)
            transaction(model);
        else if (what < 7)
            ask_end(model);
        else
            read_on(model, below(model, PARTITIONS), below(model, 50));
    }
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        add(model, (struct history_event){HISTORY_END_ASKED, .partition = p});
        add(model, (struct history_event){HISTORY_END, .partition = p, .offset = model->ends[p]});
        uint64_t all = RECORDS_MAX;
        if (errs(model, ANOMALY_STUCK) && model->ends[p] > model->read_to[p])
            all = model->ends[p] - model->read_to[p] - 1;
        read_on(model, p, all);
        add(model, (struct history_event){HISTORY_READER_DONE, .partition = p});
    }
}

static struct model *new_model(uint64_t seed, int mistake)
{
    struct model *model = calloc(1, sizeof(*model));
    cr_assert(model);
    random_init(&model->random, seed);
    struct checker_options options = {.on_anomaly = note, .context = model};
    model->checker = checker_new(&options);
    model->mistake = mistake;
    model->next_txn = 1;
    run(model);
    checker_finish(model->checker);
    return model;
}

static void free_model(struct model *model)
{
    checker_free(model->checker);
    free(model);
}

Test(random_history, a_broker_without_mistakes_has_no_anomalies)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct model *model = new_model(seed, -1);
        cr_expect_eq(checker_count_all(model->checker), 0, "seed %lu: %s", seed, model->first);
        struct checker_totals totals = checker_totals(model->checker);
        cr_expect_gt(totals.committed, 0);
        cr_expect_gt(totals.aborted, 0);
        cr_expect_gt(totals.records_seen, 0);
        free_model(model);
    }
}

/* A record that is lost behind the last one of its partition that was acked has an offset that is never reached; the rest
 * of such mistakes may show as another kind. What must not be is that nothing shows. */
Test(random_history, one_mistake_is_found)
{
    static const int mistakes[] = {ANOMALY_LOST, ANOMALY_DUPLICATE,    ANOMALY_REORDERED,
                                   ANOMALY_TORN, ANOMALY_ABORTED_READ, ANOMALY_OFFSET_BACK,
                                   ANOMALY_HOLE, ANOMALY_INCONSISTENT, ANOMALY_STUCK};
    for (size_t m = 0; m < sizeof(mistakes) / sizeof(*mistakes); m++) {
        uint64_t made = 0, found_as_such = 0;
        for (uint64_t seed = 0; seed < 50; seed++) {
            struct model *model = new_model(seed, mistakes[m]);
            if (model->made && mistakes[m] != ANOMALY_STUCK)
                cr_expect_gt(checker_count_all(model->checker), 0, "%s, seed %lu: nothing found",
                             anomaly_name((enum anomaly)mistakes[m]), seed);
            made += model->made;
            found_as_such += model->counts[mistakes[m]] > 0;
            free_model(model);
        }
        cr_expect_gt(made, 25, "%s was hardly made", anomaly_name((enum anomaly)mistakes[m]));
        cr_expect_gt(found_as_such, made / 4, "%s was found %lu times of %lu",
                     anomaly_name((enum anomaly)mistakes[m]), found_as_such, made);
    }
}
