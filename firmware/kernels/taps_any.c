/* The twin in C of hil_taps, for any shifts. */
#include "hil_scale.h"
#include "hil_taps.h"

enum { GROUP = 4 };

void hil_taps_any(const hil_taps_t *taps)
{
    const int8_t *x = taps->x;
    int8_t *output = taps->output;
    for (uint32_t n = taps->count; n != 0; --n) {
        const int8_t *weights = taps->weights;
        int32_t sums[GROUP];
        for (uint32_t i = 0; i < GROUP; ++i) {
            sums[i] = taps->channels[i];
        }
        for (uint32_t row = 0; row < taps->height; ++row) {
            for (uint32_t tap = 0; tap < taps->width; ++tap) {
                const int8_t *const four = x + row * taps->row_step + tap * taps->tap_step;
                for (uint32_t i = 0; i < GROUP; ++i) {
                    sums[i] += four[i] * *weights++;
                }
            }
        }
        hil_finish(taps->channels, GROUP, sums, taps->centre, taps->min, taps->max, output);
        x += taps->x_step;
        output += taps->output_step;
    }
}
