/* Depthwise products of 3 x 3 taps, a channel at a time: the core of hil_dw_3x3.
 *
 * A plane is a part of one channel of the image as 16-bit values. Two neighbours along one axis are a word; HIL_PLANE_ROWS
 * words, one behind the other on the other axis, are a column, and HIL_PLANE_PAIRS columns a plane. So SMLAD multiplies two
 * neighbouring taps at once, and a word serves two outputs. */
#ifndef HIL_PLANES_H
#define HIL_PLANES_H

#include <stdint.h>

enum { HIL_PLANE_ROWS = 6, HIL_PLANE_PAIRS = 8, HIL_PLANE_WORDS = HIL_PLANE_ROWS * HIL_PLANE_PAIRS };

/* `count` channels. Order and size are known to the assembly. */
typedef struct {
    uint32_t full, odd;      /* bytes of the columns that a row's pairs of outputs pass by; that a single last output does, or 0 */
    uint32_t rows;           /* of outputs */
    uint32_t across, along;  /* bytes from row to row of the output, and from one output of a row to the next */
    const uint32_t *x;       /* the first plane */
    int8_t *output;          /* the first output of the first channel; that of the next one is a byte further */
    uint32_t count;
    const int8_t *weights;   /* nine a channel */
    const int32_t *channels; /* a bias a channel; a multiplier a channel begins four words behind it: hil_rows.h */
    const uint8_t *shifts;   /* 0 or more: scales below 1/2 */
    int32_t centre;          /* 256 * (2 * zero point + 1) */
} hil_planes_t;

/* Outputs are saturated, not clamped. */
void hil_planes(const hil_planes_t *planes);

#endif
