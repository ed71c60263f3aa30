/* Bilinear resizing of int8. */
#include <stdint.h>

typedef int8_t element_t;
typedef int32_t sum_t;

#include "hil_resize.h"

int hil_resize_bilinear(const void *op)
{
    return resize_bilinear(op);
}
