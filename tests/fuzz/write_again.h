/* A decoded message is written again: what comes out must be what came in, byte for byte, since
 * there is one way only to write a message. A value that a reader lets pass and drops, or takes
 * from the wrong place, is found by that. */
#ifndef SLUICE_TESTS_FUZZ_WRITE_AGAIN_H
#define SLUICE_TESTS_FUZZ_WRITE_AGAIN_H

#include "proto/messages_group.h"

/* Of a frame that its reader has let pass. False: this message can't be had again from what was
 * read (an error's name is the writer's own, whatever stood there). */
bool write_again(const struct frame *frame, struct writer *w);

#endif
