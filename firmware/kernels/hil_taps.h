/* Products of a window of taps with four channels, each with its own weights: the core of depthwise convolutions.
 *
 * `weights` has four bytes a tap, row by row; `channels` four biases (with the input's zero point in them), four multipliers
 * and a word of shifts, as in hil_rows.h. */
#ifndef HIL_TAPS_H
#define HIL_TAPS_H

#include <stdint.h>

/* `count` pixels in a row. Order and size are known to the assembly. */
typedef struct {
    const int8_t *x; /* four channels of the first tap of the first pixel */
    const int8_t *weights;
    const int32_t *channels;
    int8_t *output;
    uint32_t count;
    uint32_t x_step, output_step; /* bytes from pixel to pixel */
    int32_t centre;               /* 2 * zero point + 1 */
    uint32_t min, max;            /* of the activation, four times */
    uint32_t tap_step, row_step;  /* bytes from tap to tap, and from the first tap of a row to that of the next */
    uint32_t width, height;       /* of the window; the width is at most HIL_TAPS_WIDTH */
} hil_taps_t;

enum { HIL_TAPS_WIDTH = 7 };

typedef void (*hil_taps_fn)(const hil_taps_t *taps);

/* Shifts of 0 or more: scales below 1/2. */
void hil_taps(const hil_taps_t *taps);

/* Any shifts; the twin in C. */
void hil_taps_any(const hil_taps_t *taps);

#endif
