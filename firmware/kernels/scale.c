/* One copy of the requantisation for all kernels of ours that are not bound by it. */
#include "hil_scale.h"

#include <arm_nnsupportfunctions.h>

int32_t hil_scaled(int32_t value, int32_t significand, int32_t shift)
{
    return arm_nn_requantize(value, significand, shift);
}
