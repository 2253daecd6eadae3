/* What the history of an episode says. */
#include "tests/soak/soak.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

uint64_t judge(struct run *run)
{
    const struct load *load = run->load;
    struct totals *totals = run->totals;
    struct checker *checker = checker_new(NULL);
    uint64_t of_txns = 0;
    for (uint64_t i = 0; i < history_count(load->world->history); i++) {
        const struct history_event *event = history_at(load->world->history, i);
        of_txns += event->kind == HISTORY_SEND && event->txn;
        checker_add(checker, event);
    }
    checker_finish(checker);
    struct checker_totals t = checker_totals(checker);
    uint64_t anomalies = checker_count_all(checker);
    checker_free(checker);
    atomic_fetch_add(&totals->sent, t.records_sent);
    atomic_fetch_add(&totals->seen, t.records_seen);
    atomic_fetch_add(&totals->txn_records, of_txns - atomic_load(&load->moved));
    atomic_fetch_add(&totals->committed, t.committed);
    atomic_fetch_add(&totals->aborted, t.aborted);
    atomic_fetch_add(&totals->undecided, t.unknown_seen + t.unknown_unseen);
    atomic_fetch_add(&totals->acked, atomic_load(&load->world->acks));
    atomic_fetch_add(&totals->group_commits, atomic_load(&load->group_commits));
    atomic_fetch_add(&totals->processed, atomic_load(&load->processed));
    atomic_fetch_add(&totals->moved, atomic_load(&load->moved));
    atomic_fetch_add(&totals->audited, atomic_load(&load->audited));
    atomic_fetch_add(&totals->churned, atomic_load(&load->churned));
    atomic_fetch_add(&totals->anomalies, anomalies);
    return anomalies;
}

void save_history(const struct run *run)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "%s/history", run->dir);
    FILE *file = fopen(path, "w");
    if (!file) {
        printf("%s: %s\n", path, strerror(errno));
        return;
    }
    history_print(run->load->world->history, file);
    fclose(file);
}

/* Readers get to the end first, if the broker lets them: most anomalies are seen by readers. */
void look_for_expected(struct run *run)
{
    struct world *world = run->load->world;
    double deadline = now_s() + 10;
    atomic_store(&world->stop, true);
    atomic_store(&run->load->groups_stop, true);
    for (int i = 0; i < LOAD_CHILDREN; i++) {
        if (run->children[i].run != read_all)
            child_end(&run->children[i], deadline);
    }
    deadline = now_s() + 25;
    atomic_store(&world->drain, true);
    for (int i = 0; i < LOAD_CHILDREN; i++)
        child_end(&run->children[i], deadline);
    enum anomaly expected = (enum anomaly)run->options->expected;
    bool seen = history_has(world->history, expected);
    printf(seen ? "seen: %s\n" : "not seen in this episode: %s\n", anomaly_name(expected));
    if (seen)
        atomic_store(&run->totals->has_seen, true);
}
