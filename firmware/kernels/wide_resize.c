/* Bilinear resizing of int16. */
#include <stdint.h>

typedef int16_t element_t;
typedef int64_t sum_t;

#include "hil_resize.h"

int hil_wide_resize_bilinear(const void *op)
{
    return resize_bilinear(op);
}
