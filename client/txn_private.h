/* What the files of transactions share beside txn.h. Only client/txn*.c include this. */
#ifndef SLUICE_CLIENT_TXN_PRIVATE_H
#define SLUICE_CLIENT_TXN_PRIVATE_H

#include "client/txn.h"

/* (txn.c) Nothing is open any more. */
void txn_forget(struct producer_txn *txn);
/* The producer's next epoch, which ends what is open. txn_wait_identity() waits for it. */
void txn_renew(struct sluice_producer *producer);
/* (txn_end.c) */
void txn_write_name(struct sluice_txn_name *name, const char *id, uint32_t coordinator,
                    uint64_t open_lsn);
/* Commits or aborts as an operator. deadline_ns 0: the request timeout. (txn_admin.c) */
int txn_end_by_name(struct sluice_client *client, const struct sluice_txn_name *name, bool commit,
                    uint64_t deadline_ns);

#endif
