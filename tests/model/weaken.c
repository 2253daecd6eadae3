/* For each atomic operation of the product that a harness comes to, and each memory order weaker than the one written there: all
 * harnesses that come to it run with it, until one fails. What no harness notices has to be in survivors.def, with the
 * reason; and what is there has to survive. */
#include "tests/model/weaken.h"

#include <stdlib.h>
#include <string.h>

#define MODELS_MAX 64

enum { FOUND, SURVIVED };

struct survivor {
    const char *file, *text;
    int occurrence; // of the same text in that file, from 1
    uint8_t order, to;
    const char *reason;
};

static const struct survivor survivors[] = {
#define SURVIVES(file, text, occurrence, order, to, reason)                                        \
    {file, text, occurrence, MODEL_##order, MODEL_##to, reason},
#include "tests/model/survivors.def"
#undef SURVIVES
};

static const struct model *models[MODELS_MAX];
static uint64_t cost[MODELS_MAX];
static bool touches[MODELS_MAX][256];
static int model_count;
static uint64_t bound; // executions of a harness; 0: all
static bool reason_used[sizeof(survivors) / sizeof(survivors[0])];

static bool look(const struct model *const *tables, size_t table_count);
static int compare_cost(const void *a, const void *b);
static bool try_order(const struct model_site *site, uint8_t to, int *found);
static const struct survivor *expected(const struct model_site *site, uint8_t to);

static const char *const order_names[] = {"relaxed", "consume", "acquire",
                                          "release", "acq_rel", "seq_cst"};

static const char *base_name(const char *file)
{
    return strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
}

static bool is_weaker(const struct model_site *site, uint8_t to)
{
    bool loads = site->kind != MODEL_STORE, stores = site->kind != MODEL_LOAD;
    switch (to) {
    case MODEL_RELAXED:
        return site->order > MODEL_RELAXED;
    case MODEL_ACQUIRE:
        return loads && site->order >= MODEL_ACQ_REL;
    case MODEL_RELEASE:
        return stores && site->order >= MODEL_ACQ_REL;
    case MODEL_ACQ_REL:
        return loads && stores && site->order == MODEL_SEQ_CST;
    default:
        return false;
    }
}

/* By a thread; what is only called when all is quiet has nobody to be ordered with. */
static bool is_touched(uint16_t id)
{
    for (int i = 0; i < model_count; i++)
        if (touches[i][id])
            return true;
    return false;
}

int weaken_all(const struct model *const *tables, size_t table_count, uint64_t executions_max)
{
    bound = executions_max;
    int tried = 0, found = 0, wrong = 0;
    if (!look(tables, table_count))
        return 1;
    for (uint16_t id = 1; explorer_site(id); id++) {
        const struct model_site *site = explorer_site(id);
        if (strstr(site->file, "tests/model/") || !is_touched(id))
            continue;
        for (uint8_t to = MODEL_RELAXED; to < MODEL_SEQ_CST; to++) {
            if (!is_weaker(site, to))
                continue;
            tried++;
            wrong += !try_order(site, to, &found);
        }
    }
    for (size_t i = 0; i < sizeof(survivors) / sizeof(survivors[0]); i++)
        if (!reason_used[i]) {
            printf("FAIL  survivors.def: %s %s: no such operation\n", survivors[i].file,
                   survivors[i].text);
            wrong++;
        }
    printf("%d weakened memory orders: %d found, %d survive with a reason, %d wrong\n", tried,
           found, tried - found - wrong, wrong);
    return wrong > 0;
}

/* Which harness comes to which operation. The cheap ones are asked first. */
static bool look(const struct model *const *tables, size_t table_count)
{
    struct model_result result;
    for (size_t i = 0; i < table_count; i++)
        for (const struct model *model = tables[i]; model->name; model++)
            models[model_count++] = model;
    for (int i = 0; i < model_count; i++) {
        explorer_run(models[i], &(struct model_options){.trace = stdout, .executions_max = bound},
                     &result);
        if (result.failed)
            return false;
        cost[i] = result.executions;
        for (uint16_t id = 1; explorer_site(id) && id < 256; id++)
            touches[i][id] = explorer_touched(id);
    }
    return true;
}

static int compare_cost(const void *a, const void *b)
{
    uint64_t left = cost[*(const int *)a], right = cost[*(const int *)b];
    return (left > right) - (left < right);
}

static bool try_order(const struct model_site *site, uint8_t to, int *found)
{
    int by_cost[MODELS_MAX];
    struct model_result result;
    uint64_t executions = 0;
    const struct survivor *survivor = expected(site, to);
    for (int i = 0; i < model_count; i++)
        by_cost[i] = i;
    qsort(by_cost, (size_t)model_count, sizeof(by_cost[0]), compare_cost);
    printf("      %s:%d %s %s -> %s: ", base_name(site->file), site->line, site->text,
           order_names[site->order], order_names[to]);
    for (int i = 0; i < model_count; i++) {
        if (!touches[by_cost[i]][site->id])
            continue;
        explorer_run(
            models[by_cost[i]],
            &(struct model_options){.weaken = site->id, .weaken_to = to, .executions_max = bound},
            &result);
        executions += result.executions;
        if (!result.failed)
            continue;
        ++*found;
        printf("found by %s: %s%s\n", models[by_cost[i]]->name, result.what,
               survivor ? "  FAIL: survivors.def says that it isn't" : "");
        return survivor == NULL;
    }
    printf("survives %llu executions: %s\n", (unsigned long long)executions,
           survivor ? survivor->reason : "FAIL: survivors.def gives no reason");
    return survivor != NULL;
}

/* How many operations with the same text come before it in its file, itself included. */
static int occurrence_of(const struct model_site *site)
{
    int count = 1;
    for (uint16_t id = 1; explorer_site(id); id++) {
        const struct model_site *other = explorer_site(id);
        count += strcmp(other->file, site->file) == 0 && strcmp(other->text, site->text) == 0 &&
                 other->kind == site->kind && other->line < site->line;
    }
    return count;
}

static const struct survivor *expected(const struct model_site *site, uint8_t to)
{
    for (size_t i = 0; i < sizeof(survivors) / sizeof(survivors[0]); i++) {
        const struct survivor *survivor = &survivors[i];
        if (strcmp(survivor->file, base_name(site->file)) != 0 ||
            strcmp(survivor->text, site->text) != 0 || survivor->order != site->order ||
            survivor->to != to || survivor->occurrence != occurrence_of(site))
            continue;
        reason_used[i] = true;
        return survivor;
    }
    return NULL;
}
