/* Index images of archive files: from the cache, or read in pieces, checked and put there.
 *
 * Failure modes: an image that fails a check is damage, since there is no segment left to make it
 * anew from: it is told once with file and place, and readers get CORRUPT. */
#include "storage/archive_private.h"

#include <stdlib.h>

#include "base/log.h"

/* A copy from the page cache of this size takes 100 us. */
#define IMAGE_PIECE_BYTES ((uint64_t)(1 * MIB))

static void load_begin(struct archives *archives, struct archive_image_load *load);
static void piece_start(struct archives *archives, struct archive_image_load *load);
static void piece_done(struct archive_read *read);
static void load_parse(struct archives *archives, struct archive_image_load *load);
static void load_finish(struct archive_image_load *load, int status);
static struct index_identity identity_of(const struct archives *archives,
                                         const struct archive *archive);

int archive_image_start(struct archives *archives, struct archive_image_load *load)
{
    load->image = index_cache_get(archives->options.cache, archive_image_key(load->archive));
    load->status = 0;
    if (load->image)
        return 1;
    load->is_private = false;
    load_begin(archives, load);
    return 0;
}

void archive_image_start_private(struct archives *archives, struct archive_image_load *load)
{
    load->image = NULL;
    load->is_private = true;
    load_begin(archives, load);
}

static void load_begin(struct archives *archives, struct archive_image_load *load)
{
    load->own = (struct index_image){0};
    load->progress = 0;
    load->bytes = malloc(load->archive->index_bytes);
    archive_pin(load->archive);
    piece_start(archives, load);
}

/* Without memory the first piece is read nevertheless, into nothing: so that the end comes from
 * io_poll(). */
static void piece_start(struct archives *archives, struct archive_image_load *load)
{
    uint64_t left = load->archive->index_bytes - load->progress;
    load->read.archive = load->archive;
    load->read.offset = load->archive->index_offset + load->progress;
    load->read.buffer = load->bytes ? load->bytes + load->progress : NULL;
    load->read.len = load->bytes ? (uint32_t)min_u64(left, IMAGE_PIECE_BYTES) : 0;
    load->read.done = piece_done;
    archive_read_start(archives, &load->read);
}

static void piece_done(struct archive_read *read)
{
    struct archive_image_load *load = CONTAINER_OF(read, struct archive_image_load, read);
    load->progress += read->len;
    if (read->status != 0)
        load_finish(load, read->status);
    else if (!load->bytes)
        load_finish(load, E_NO_MEMORY);
    else if (load->progress < load->archive->index_bytes)
        piece_start(read->archives, load);
    else
        load_parse(read->archives, load);
}

static void load_parse(struct archives *archives, struct archive_image_load *load)
{
    struct index_identity identity = identity_of(archives, load->archive);
    int status = index_image_parse(load->bytes, load->archive->index_bytes, &identity, &load->own);
    if (status != 0) {
        LOG_ERROR("archive.index_damaged", LOG_STR("path", load->archive->path),
                  LOG_U64("offset", load->archive->index_offset),
                  LOG_U64("bytes", load->archive->index_bytes), LOG_STATUS(status));
        archives->stats.damage = E_CORRUPT;
        load_finish(load, E_CORRUPT);
        return;
    }
    load->bytes = NULL; // own has it
    if (!load->is_private) {
        load->image =
            index_cache_put(archives->options.cache, archive_image_key(load->archive), &load->own);
        status = load->image ? 0 : E_NO_MEMORY;
    }
    load_finish(load, status);
}

static void load_finish(struct archive_image_load *load, int status)
{
    free(TAKE(load->bytes));
    archive_unpin(load->archive);
    load->status = status;
    load->done(load);
}

static struct index_identity identity_of(const struct archives *archives,
                                         const struct archive *archive)
{
    struct index_identity identity = {
        .shard_id = archives->options.shard_id,
        .number = archive->number,
        .base_lsn = archive->base_lsn,
        .end_lsn = archive->end_lsn,
    };
    memcpy(identity.store_id, archives->options.store_id, sizeof(identity.store_id));
    return identity;
}
