/* A target that includes this has malloc() and its like replaced by the linker: large blocks come from
 * tests/sim/large_blocks.h, everything else from the sanitizer's allocator. It opens stores, each with thirty
 * large tables, some hundred times a second. The bound on memory counts them as others. */
#ifndef SLUICE_TESTS_FUZZ_KEEP_BLOCKS_H
#define SLUICE_TESTS_FUZZ_KEEP_BLOCKS_H

#endif
