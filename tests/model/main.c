/* sluice_model: explores the harnesses.
 *
 *   sluice_model litmus          the explorer's own tests, each also against brute force
 *   sluice_model run [NAME...]   every execution of these harnesses (of all); --short: without the long ones
 *   sluice_model hunt            all harnesses until one fails, as it has to: for sources with something wrong in them
 *   sluice_model weaken [N]      each memory order of the product's sources, weakened one at a time: who notices? After N executions of a
 *                                harness (all) nobody has
 *   sluice_model replay NAME PATH   the one execution that a failure named, with its trace
 *   sluice_model list
 *
 * Exit status: 0 as expected, 1 not, 2 a mistake in a harness or in the command. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/model/models.h"
#include "tests/model/weaken.h"

static int run_litmus(void);
static int run_models(int count, char **names);
static int hunt(void);
static int replay(const char *name, const char *path);
static int list(void);

static const struct model *const tables[] = {ring_models, wake_models, mailbox_models};

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "litmus") == 0)
        return run_litmus();
    if (strcmp(command, "run") == 0)
        return run_models(argc - 2, argv + 2);
    if (strcmp(command, "hunt") == 0)
        return hunt();
    if (strcmp(command, "weaken") == 0)
        return weaken_all(tables, sizeof(tables) / sizeof(tables[0]),
                          argc > 2 ? strtoull(argv[2], NULL, 10) : 0);
    if (strcmp(command, "replay") == 0 && argc == 4)
        return replay(argv[2], argv[3]);
    if (strcmp(command, "list") == 0)
        return list();
    fprintf(stderr, "usage: sluice_model litmus | run [--short | NAME...] | hunt | weaken [N] | "
                    "replay NAME PATH | list\n");
    return 2;
}

/* ---- litmus ---- */

/* Brute force finds the same graphs, and the explorer none of them twice. */
static bool agrees_with_brute_force(const struct model *model, const struct model_result *result)
{
    struct model_result brute;
    struct model_options options = {
        .brute = true, .count_distinct = true, .executions_max = 300000};
    explorer_run(model, &options, &brute);
    if (brute.bounded)
        return true; // four threads have too many orders
    if (!brute.failed && brute.distinct == result->distinct &&
        result->executions == result->distinct && strcmp(brute.outcomes, result->outcomes) == 0)
        return true;
    printf("FAIL  %s: %llu executions, %llu of them different; by brute force %llu: %s\n",
           model->name, (unsigned long long)result->executions,
           (unsigned long long)result->distinct, (unsigned long long)brute.distinct,
           brute.outcomes);
    return false;
}

static bool litmus_is_right(const struct model *model)
{
    struct model_result result;
    explorer_run(model, &(struct model_options){.count_distinct = true, .trace = stdout}, &result);
    if (result.failed)
        return false;
    if (strcmp(result.outcomes, model->outcomes) != 0) {
        printf("FAIL  %s: outcomes %s\n      expected %s\n", model->name, result.outcomes,
               model->outcomes);
        return false;
    }
    return agrees_with_brute_force(model, &result);
}

static bool litmus_fails(const struct model *model)
{
    struct model_result result, again;
    explorer_run(model, &(struct model_options){0}, &result);
    explorer_run(model, &(struct model_options){.path = result.path}, &again);
    if (result.failed && again.failed && strcmp(result.what, again.what) == 0)
        return true;
    printf("FAIL  %s: nothing was found, or it was not found again\n", model->name);
    return false;
}

static int run_litmus(void)
{
    int count = 0, wrong = 0;
    for (const struct model *model = litmus_models; model->name; model++, count++)
        wrong += !litmus_is_right(model);
    for (const struct model *model = litmus_failures; model->name; model++, count++)
        wrong += !litmus_fails(model);
    printf("%d litmus tests, %d wrong\n", count, wrong);
    return wrong > 0;
}

/* ---- harnesses ---- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool is_wanted(const struct model *model, int count, char **names)
{
    if (count == 1 && strcmp(names[0], "--short") == 0)
        return !model->is_long;
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], model->name) == 0)
            return true;
    return count == 0;
}

/* A harness in which the ring was never full says nothing about full rings. */
static bool saw_all(const struct model *model, const struct model_result *result)
{
    char names[200], *rest = names;
    uint32_t sight = 1;
    snprintf(names, sizeof(names), "%s", model->sights ? model->sights : "");
    for (char *name; (name = strtok_r(rest, " ", &rest)); sight <<= 1)
        if (!(result->sights & sight)) {
            printf("FAIL  %s: no execution saw: %s\n", model->name, name);
            return false;
        }
    return true;
}

static int run_models(int count, char **names)
{
    uint64_t executions = 0, others = 0;
    int ran = 0, wrong = 0;
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        for (const struct model *model = tables[i]; model->name; model++) {
            struct model_result result;
            if (!is_wanted(model, count, names))
                continue;
            double began = seconds();
            explorer_run(model, &(struct model_options){.trace = stdout}, &result);
            printf("%s  %-24s %9llu executions, %8llu blocked, %8llu cut, %7llu refused, %6.2f s  "
                   "%s\n",
                   result.failed ? "FAIL" : "ok  ", model->name,
                   (unsigned long long)result.executions, (unsigned long long)result.blocked,
                   (unsigned long long)result.cut, (unsigned long long)result.refused,
                   seconds() - began, model->what);
            wrong += result.failed || !saw_all(model, &result);
            executions += result.executions;
            others += result.blocked + result.cut + result.refused;
            ran++;
        }
    printf("%d harnesses, %llu executions (and %llu that end early), %d wrong\n", ran,
           (unsigned long long)executions, (unsigned long long)others, wrong);
    return ran == 0 ? 2 : wrong > 0;
}

static int hunt(void)
{
    uint64_t executions = 0;
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        for (const struct model *model = tables[i]; model->name; model++) {
            struct model_result result;
            explorer_run(model, &(struct model_options){.executions_max = 20000}, &result);
            executions += result.executions;
            if (!result.failed)
                continue;
            printf("found by %s: %s; replay %s %s\n", model->name, result.what, model->name,
                   result.path[0] ? result.path : "0");
            return 0;
        }
    printf("nothing was found in %llu executions\n", (unsigned long long)executions);
    return 1;
}

static const struct model *find(const char *name)
{
    const struct model *const all[] = {ring_models, wake_models, mailbox_models, litmus_models,
                                       litmus_failures};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        for (const struct model *model = all[i]; model->name; model++)
            if (strcmp(model->name, name) == 0)
                return model;
    return NULL;
}

static int replay(const char *name, const char *path)
{
    struct model_result result;
    const struct model *model = find(name);
    if (!model) {
        fprintf(stderr, "sluice_model: no harness \"%s\"\n", name);
        return 2;
    }
    explorer_run(model, &(struct model_options){.path = path, .trace = stdout}, &result);
    if (!result.failed)
        printf("  %s: nothing is wrong in this execution\n", name);
    return result.failed;
}

static int list(void)
{
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        for (const struct model *model = tables[i]; model->name; model++)
            printf("%-24s %s\n", model->name, model->what);
    return 0;
}
