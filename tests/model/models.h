/* All harnesses, in tables that end with a nameless entry. */
#ifndef SLUICE_TESTS_MODEL_MODELS_H
#define SLUICE_TESTS_MODEL_MODELS_H

#include "tests/model/explorer.h"

extern const struct model litmus_models[];   // the explorer's own tests: exact sets of outcomes
extern const struct model litmus_failures[]; // these have to fail
extern const struct model ring_models[];     // base/ring_spsc.[ch], base/ring_mpsc.c
extern const struct model wake_models[];     // base/io.c, with rings
extern const struct model mailbox_models[];  // broker/mailbox.c

#endif
