/* Columns of a pixel, widened to 16 bits: what convolutions over all channels multiply. The layout is that of hil_rows.h. */
#ifndef HIL_GATHER_H
#define HIL_GATHER_H

#include <stdint.h>

/* Where the next columns of a pixel go. Two make a word; the first of them waits in `first` while there is no second. Order
 * and size are known to the assembly. */
typedef struct {
    uint32_t *to;
    int32_t first;
    uint32_t waits;
} hil_stream_t;

/* `rows` runs of `length` columns, each but the last followed by `skip` bytes that are left out. Bytes are loaded one by one:
 * time does not depend on where they lie. */
void hil_gather(hil_stream_t *stream, const int8_t *data, uint32_t rows, uint32_t length, int32_t skip);

/* The same for runs of 4 * `fours` columns, in the order 0, 2, 1, 3, from words; gives where the next columns go. */
uint32_t *hil_gather_fours(uint32_t *to, const int8_t *data, uint32_t rows, uint32_t fours, int32_t skip);

#endif
