# mutation(NAME FILE FROM TO): the product with one thing wrong in it. Each must be found by a harness. Memory orders are not
# here: `sluice_model weaken` weakens each of them.
mutation(spsc_full_one_late base/ring_spsc.h "> ring->slot_mask)" "> ring->slot_mask + 1)")
mutation(spsc_empty_not_seen base/ring_spsc.h "        if (head == ring->tail_cached)
            return NULL;
" "")
mutation(spsc_publishes_two base/ring_spsc.h "tail + 1, memory_order_release" "tail + 2, memory_order_release")
mutation(spsc_never_released base/ring_spsc.h "head + 1, memory_order_release" "head, memory_order_release")
mutation(mpsc_published_before_written base/ring_mpsc.c "    memcpy(slot->payload, payload, ring->slot_size);
    /* R1: publishes the payload; pairs with A1 in ring_mpsc_pop(). */
    atomic_store_explicit(&slot->sequence, position + 1, memory_order_release);
" "    atomic_store_explicit(&slot->sequence, position + 1, memory_order_release);
    memcpy(slot->payload, payload, ring->slot_size);
")
mutation(mpsc_freed_before_read base/ring_mpsc.c "    memcpy(payload, slot->payload, ring->slot_size);
    /* R2: the payload was read; pairs with A2 in claim(). */
    atomic_store_explicit(&slot->sequence, head + ring->slot_mask + 1, memory_order_release);
" "    atomic_store_explicit(&slot->sequence, head + ring->slot_mask + 1, memory_order_release);
    memcpy(payload, slot->payload, ring->slot_size);
")
mutation(mpsc_lap_one_short base/ring_mpsc.c "head + ring->slot_mask + 1, memory" "head + ring->slot_mask, memory")
mutation(mpsc_full_not_seen base/ring_mpsc.c "if (lead == 0) {" "if (lead <= 0) {")
mutation(mpsc_pops_what_is_not_there base/ring_mpsc.c "memory_order_acquire) != head + 1)
        return false;
    memcpy" "memory_order_acquire) == head + 2)
        return false;
    memcpy")
mutation(wake_looks_before_it_says base/io.c
         "    atomic_store_explicit(&io->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); // W1"
         "    atomic_thread_fence(memory_order_seq_cst); // W1
    atomic_store_explicit(&io->sleeping, 1, memory_order_relaxed);")
mutation(wake_clears_after_waking base/io.c
         "    atomic_store_explicit(&io->sleeping, 0, memory_order_release);
#endif
    io->ops->wake(io, from);"
         "#endif
    io->ops->wake(io, from);
    atomic_store_explicit(&io->sleeping, 0, memory_order_release);")
mutation(mailbox_reply_wakes_nobody broker/mailbox.c "    mailbox->touched |= (uint64_t)1 << home;
" "")
mutation(mailbox_idle_without_replies broker/mailbox.c
         "(ring_spsc_peek(&pair->requests) || ring_spsc_peek(&pair->replies))" "ring_spsc_peek(&pair->requests)")
mutation(mailbox_answer_is_overtaken broker/mailbox.c "min_u64(end - begin,"
         "min_u64(atomic_load_explicit(&pair->requests.tail, memory_order_acquire) - begin + 0 * end,")
mutation(mailbox_post_wakes_nobody broker/mailbox.c "    if (io_sleeping(io))
        io_wake(io, NULL);
    return true;" "    (void)io;
    return true;")
