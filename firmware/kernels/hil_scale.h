#ifndef HIL_SCALE_H
#define HIL_SCALE_H

#include <stdint.h>

/* value * significand / 2^31 * 2^shift in fixed point, rounded twice as the reference kernels do. */
int32_t hil_scaled(int32_t value, int32_t significand, int32_t shift);

static inline int8_t hil_clamped(int32_t value, int32_t min, int32_t max)
{
    return (int8_t)(value < min ? min : value > max ? max : value);
}

#endif
