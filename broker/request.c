/* The pool of requests of a core: taking, giving back, and leaving some for those who end other
 * requests. */
#include "broker/request.h"

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
