/* TXN_OFFSETS: a group's offsets join a transaction. This shard, where the group lives, becomes a participant. */
#include "broker/groups.h"
#include "broker/handle_txn.h"
#include "broker/participants.h"

enum handled handle_txn_offsets(struct shard *shard, struct request *request)
{
    struct frame frame;
    struct msg_txn_offsets m;
    uint16_t error = frame_decode(request->frames, &frame);
    error = error ? error : read_txn_offsets(&frame, &m);
    struct disk_txn_name name = {.coordinator = le32_make(error ? 0 : m.txn.coordinator),
                                 .open_lsn = le64_make(error ? 0 : m.txn.open_lsn)};
    error = error ? error
                  : participants_check(shard, &name, m.txn.producer_id, m.txn.epoch, request->text);
    error = error ? error : groups_check_stage(shard->groups, &m, request->text);
    if (!error) {
        int status = groups_append_staged(shard, &name, &m);
        if (status == E_FULL)
            return BLOCKED;
        error = status ? proto_error_from_status(status) : PE_NONE;
    }
    if (error)
        return shard_refuse(shard, request, error);
    struct writer w = shard_reply_writer(request);
    shard_reply_seal(request, &w);
    participants_answer(shard, request, &name, m.txn.producer_id, m.txn.epoch);
    return HANDLED;
}
