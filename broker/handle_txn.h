/* What the handlers of transactions share. Private to handle_txn*.c and txn_job.c. */
#ifndef SLUICE_BROKER_HANDLE_TXN_H
#define SLUICE_BROKER_HANDLE_TXN_H

#include "broker/transactions.h"

/* Of a checked TXN_PREPARE or TXN_COMMIT: what it names, and (COMMIT) where its results go, filled in as not known. False for
 * what an operator ends by name: then whatever is there is meant. */
bool txn_request_end(struct request *request, struct msg_txn_end *end,
                     struct txn_result_item **results);

/* Answers PREPARE, COMMIT or ABORT now: with the error, or with success; has_results: they are in place. */
void txn_request_answer(struct shard *shard, struct request *request, uint16_t error,
                        const char *text, bool has_results);
/* The same when everything that is in the log by now is durable. */
void txn_request_answer_when_durable(struct shard *shard, struct request *request, uint16_t error,
                                     bool has_results);

/* Logs that an idle transactional id is forgotten. 0, FULL, or another status. */
MUST_USE int transactions_forget(struct shard *shard, uint32_t row);

/* Mails to coordinators and to shard 0. */
enum handled handle_txn_join(struct shard *shard, struct request *mail);
enum handled handle_txn_ask(struct shard *shard, struct request *mail);
enum handled handle_producer_id_mail(struct shard *shard, struct request *mail);
/* A producer id came from shard 0 for a TXN_INIT of ours. */
void txn_init_on_reply(struct shard *shard, struct request *mail);

#endif
