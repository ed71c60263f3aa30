/* Time, time per layer, and how much of arena and stack an inference touches. */
#include "hil_port.h"
#include "hil_runtime.h"
#include "hil_wire.h"

typedef int (*infer_fn)(hil_mark_fn mark);

static uint32_t span_overhead;    /* ticks that span() adds to what it times */
static uint32_t mark_overhead[2]; /* ticks of an empty layer: the first, and any other */
static uint64_t last_ticks;
static uint32_t stack_peak;

static struct {
    uint64_t since;
    uint32_t first;
    uint32_t ticks[HIL_WIRE_PROFILE_SLOTS];
} profile;

/* Not inlined and not cloned, so that every function is timed by the same instructions. */
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((noinline, noclone))
#endif
static uint64_t span(infer_fn run, hil_mark_fn mark, int *status)
{
    const uint64_t start = hil_port_ticks();
    profile.since = start;
    const int result = run(mark);
    const uint64_t stop = hil_port_ticks();
    *status = result;
    return stop - start;
}

static void mark_layer(uint32_t layer)
{
    const uint64_t now = hil_port_ticks();
    const uint32_t slot = layer - profile.first;
    if (slot < HIL_WIRE_PROFILE_SLOTS) {
        const uint64_t spent = now - profile.since;
        profile.ticks[slot] = spent > UINT32_MAX ? UINT32_MAX : (uint32_t)spent;
    }
    profile.since = hil_port_ticks(); /* the lines above are nobody's time */
}

void hil_measure_init(void)
{
    int status;
    /* Twice: the first round is for caches. What a lone return costs more than nothing is what a nop costs, so that
     * the overhead leaves the inference's own return in its time. */
    for (uint32_t round = 0; round < 2u; round++) {
        const uint64_t bare = span(hil_bare_return, 0, &status);
        const uint64_t longer = span(hil_bare_nop_return, 0, &status);
        span_overhead = 2u * bare > longer ? (uint32_t)(2u * bare - longer) : 0u;
        profile.first = 0;
        (void)span(hil_bare_marks, mark_layer, &status);
        mark_overhead[0] = profile.ticks[0];
        mark_overhead[1] = profile.ticks[1];
    }
}

static uint64_t less(uint64_t ticks, uint32_t overhead)
{
    return ticks > overhead ? ticks - overhead : 0u;
}

static bool infer(hil_mark_fn mark, uint64_t *ticks)
{
    int status;
    hil_port_flush(); /* nothing of ours under way while the clock runs */
    *ticks = less(span(hil_model_infer, mark, &status), span_overhead);
    hil_input_spent(status == 0);
#if defined(HIL_MODEL_IN_RAM)
    hil_model_give_output();
#endif
    if (status != 0) {
        hil_error_number("Kernel refused: layer ", (uint32_t)status - 1u);
    }
    return status == 0;
}

bool hil_infer(uint64_t *ticks)
{
    const bool fine = infer(0, ticks);
    last_ticks = *ticks;
    return fine;
}

uint64_t hil_microseconds(uint64_t ticks)
{
    uint32_t rest;
    const uint32_t hertz = hil_port_ticks_hz();
    const uint64_t seconds = hil_divide(ticks, hertz, &rest);
    return seconds * 1000000u + hil_divide((uint64_t)rest * 1000000u, hertz, &rest);
}

uint64_t hil_estimate_us(void)
{
    return last_ticks == 0u ? 0u : hil_microseconds(last_ticks) + 1u;
}

const int8_t *hil_output(void)
{
    if (!hil_input_answered()) {
        hil_error("No output yet");
        return 0;
    }
    return hil_arena + hil_model.output_offset;
}

/* As many inferences as it takes to see every layer, PROFILE_SLOTS at a time. */
void hil_profile(void)
{
    uint64_t ticks;
    const uint32_t layers = hil_model.layers;
    if (!hil_input_ready(1u + (layers - 1u) / HIL_WIRE_PROFILE_SLOTS)) {
        return;
    }
    for (profile.first = 0; profile.first < layers; profile.first += HIL_WIRE_PROFILE_SLOTS) {
        hil_input_place();
        if (profile.first == 0u) {
            hil_reply_input();
        }
        if (!infer(mark_layer, &ticks)) {
            return;
        }
        for (uint32_t i = 0; i < HIL_WIRE_PROFILE_SLOTS && profile.first + i < layers; i++) {
            if (i % HIL_WIRE_SAMPLES_PER_LINE == 0u) {
                if (i != 0u) {
                    hil_reply_end();
                }
                hil_reply(HIL_WIRE_KEY_LAYERS);
                hil_field_u64(profile.first + i);
            }
            hil_field_u64(less(profile.ticks[i], mark_overhead[profile.first + i != 0u]));
        }
        hil_reply_end();
    }
}

static uint32_t stack_used(uint32_t paint)
{
    const uint32_t *word = (const uint32_t *)hil_memory.stack_start;
    while (word < (const uint32_t *)hil_memory.stack_end && *word == paint) {
        word++;
    }
    return (uint32_t)(hil_memory.stack_end - (const uint8_t *)word);
}

/* From the bottom up to what is in use; this loop needs no stack. */
static void paint_stack(uint32_t paint)
{
    for (volatile uint32_t *word = (volatile uint32_t *)hil_memory.stack_start; word < hil_stack_pointer(); word++) {
        *word = paint;
    }
}

/* Bytes to watch: the arena, and a few behind it where that is nobody's memory. */
static uint32_t watched_bytes(void)
{
    const uint32_t bytes = hil_model.arena_size - hil_model.arena_kept;
    const uint8_t *arena_end = (const uint8_t *)hil_arena + bytes;
    const bool guarded = arena_end == hil_memory.spare_start &&
                         (uintptr_t)hil_memory.spare_end - (uintptr_t)hil_memory.spare_start >=
                             HIL_WIRE_ARENA_GUARD_BYTES;
    return bytes + (guarded ? HIL_WIRE_ARENA_GUARD_BYTES : 0u);
}

static void poison_arena(uint8_t poison)
{
    const uint32_t bytes = watched_bytes();
    for (uint32_t i = 0; i < bytes; i++) {
        hil_arena[i] = (int8_t)poison;
    }
}

static uint32_t arena_used(uint8_t poison)
{
    uint32_t used = watched_bytes();
    while (used > 0u && (uint8_t)hil_arena[used - 1u] == poison) {
        used--;
    }
    return used;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* Twice, with opposite poisons: a byte that an inference happens to set to the one is not the other. The input is
 * written before and the output read after each inference, so both count as used even where no kernel writes. */
void hil_memory_report(void)
{
    uint64_t ticks;
    uint32_t arena = larger(hil_model.input_offset + hil_model.input_size,
                            hil_model.output_offset + hil_model.output_size);
    uint32_t stack = 0;
    if (!hil_input_ready(2)) {
        return;
    }
    stack_peak = larger(stack_peak, stack_used(HIL_STACK_PAINT));
    for (uint32_t pass = 0; pass < 2u; pass++) {
        const uint32_t paint = pass == 0u ? ~HIL_STACK_PAINT : HIL_STACK_PAINT;
        poison_arena((uint8_t)paint);
        hil_input_place();
        paint_stack(paint);
        if (!infer(0, &ticks)) {
            return;
        }
        stack = larger(stack, stack_used(paint));
        arena = larger(arena, arena_used((uint8_t)paint));
    }
    stack_peak = larger(stack_peak, stack);
    if (hil_model_arena_used) {
        arena = hil_model_arena_used(); /* it reserves what it does not always write */
    }
    hil_reply(HIL_WIRE_KEY_MEMORY);
    hil_field_u64(arena);
    hil_field_u64(stack);
    hil_field_u64(stack_peak);
    hil_reply_end();
}
