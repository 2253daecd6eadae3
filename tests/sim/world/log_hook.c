#include "tests/sim/world/log_hook.h"

static struct log_observer observe;

int __wrap_wal_append(struct wal *wal, const struct wal_entry *entry, struct wal_view *view);
int __real_wal_append(struct wal *wal, const struct wal_entry *entry, struct wal_view *view);
void __wrap_store_free(struct store *store);
void __real_store_free(struct store *store);

void log_observe(struct log_observer observer)
{
    observe = observer;
}

int __wrap_wal_append(struct wal *wal, const struct wal_entry *entry, struct wal_view *view)
{
    int status = __real_wal_append(wal, entry, view);
    if (status == 0 && observe.appended)
        observe.appended(wal, view);
    return status;
}

void __wrap_store_free(struct store *store)
{
    if (store && observe.freed)
        observe.freed(store);
    __real_store_free(store);
}
