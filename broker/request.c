/* The pool of requests of a core: taking, giving back, and leaving some for those who end other
 * requests. */
#include "broker/request.h"

#include <string.h>

struct request *request_acquire(struct pool *pool, enum request_kind kind, uint16_t origin_core)
{
    if (kind == REQUEST_CLIENT && pool->free_count <= REQUESTS_RESERVED)
        return NULL;
    struct request *request = pool_acquire(pool);
    if (!request)
        return NULL;
    *request = (struct request){
        .magic = REQUEST_MAGIC,
        .kind = (uint8_t)kind,
        .origin_core = origin_core,
        .target_core = origin_core,
    };
    list_init(&request->link);
    return request;
}

void request_release(struct pool *pool, struct request *request)
{
    ASSERT(request->magic == REQUEST_MAGIC && !list_is_linked(&request->link));
    request->magic = 0;
    pool_release(pool, request);
}

/* What is left to be read of a run is what was written into its frames' metas. Small frames are mostly meta: another place
 * for it would be as large as the buffer. */
void request_give_buffer_back(struct request *request, struct buffers *buffers)
{
    const struct frame_header *header = (const struct frame_header *)request->frames;
    uint32_t head = FRAME_HEADER_SIZE + le32_get(header->meta_length);
    ASSERT(request->kind == REQUEST_CLIENT && request->op == OP_PRODUCE);
    if (request->origin_core != request->target_core || request->parent ||
        request->frame_count > 1 || head > sizeof(request->u.kept.head))
        return;
    memcpy(request->u.kept.head, request->frames, head);
    request->frames = request->u.kept.head;
    if (request->buffer->references == 1)
        request->freed_bytes = request->buffer->capacity;
    buffer_unref(buffers, TAKE(request->buffer));
}
