#include "tests/checker/history.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

struct history {
    uint64_t count_max;
    size_t mapped_bytes;
    _Atomic uint64_t claimed;
    struct history_event events[];
};

static const char *const names[] = {
    "none",
#define EVENT(name, fields, when) #name,
#include "tests/checker/events.def"
#undef EVENT
};

struct history *history_new(uint64_t event_count_max)
{
    size_t bytes = sizeof(struct history) + event_count_max * sizeof(struct history_event);
    struct history *history = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (history == MAP_FAILED) {
        perror("history: mmap");
        exit(1);
    }
    history->count_max = event_count_max;
    history->mapped_bytes = bytes;
    return history;
}

void history_free(struct history *history)
{
    munmap(history, history->mapped_bytes);
}

/* The kind is stored last (H1), so a place that was claimed and never filled is none. */
void history_add(struct history *history, struct history_event event)
{
    uint64_t i = atomic_fetch_add(&history->claimed, 1);
    if (i >= history->count_max) {
        fprintf(stderr, "history: full with %" PRIu64 " events\n", history->count_max);
        exit(1);
    }
    struct history_event *place = &history->events[i];
    uint32_t kind = event.kind;
    event.kind = HISTORY_NONE;
    *place = event;
    __atomic_store_n(&place->kind, kind, __ATOMIC_RELEASE); // H1
}

uint64_t history_count(const struct history *history)
{
    uint64_t claimed = atomic_load(&history->claimed);
    return claimed < history->count_max ? claimed : history->count_max;
}

const struct history_event *history_at(const struct history *history, uint64_t i)
{
    return &history->events[i];
}

const char *history_kind_name(uint32_t kind)
{
    return kind < HISTORY_KIND_COUNT ? names[kind] : "?";
}

void history_print(const struct history *history, FILE *file)
{
    for (uint64_t i = 0; i < history_count(history); i++) {
        const struct history_event *e = &history->events[i];
        fprintf(file,
                "%" PRIu64 " %s partition=%u reader=%u producer=%u group=%u count=%u "
                "sequence=%" PRIu64 " offset=%" PRId64 " txn=%" PRIu64 "\n",
                i, history_kind_name(e->kind), e->partition, e->reader, e->producer, e->group,
                e->count, e->sequence, (int64_t)e->offset, e->txn);
    }
}
