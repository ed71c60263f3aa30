/* Reductions of int8 over any axes. */
#include <stdint.h>

typedef int8_t element_t;

enum { ELEMENT_MIN = INT8_MIN, ELEMENT_MAX = INT8_MAX };

#include "hil_reduce.h"

int hil_sum(const void *op)
{
    return sum(op);
}

int hil_reduce_max(const void *op)
{
    return extreme(op, larger, ELEMENT_MIN);
}

int hil_reduce_min(const void *op)
{
    return extreme(op, smaller, ELEMENT_MAX);
}
