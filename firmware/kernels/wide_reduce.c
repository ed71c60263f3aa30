/* Reductions of int16 over any axes. */
#include <stdint.h>

typedef int16_t element_t;

enum { ELEMENT_MIN = INT16_MIN, ELEMENT_MAX = INT16_MAX };

#include "hil_reduce.h"

int hil_wide_sum(const void *op)
{
    return sum(op);
}

int hil_wide_reduce_max(const void *op)
{
    return extreme(op, larger, ELEMENT_MIN);
}

int hil_wide_reduce_min(const void *op)
{
    return extreme(op, smaller, ELEMENT_MAX);
}
