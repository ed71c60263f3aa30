/* Fixed point of 16 bits, as the reference kernels of TensorFlow Lite compute an LSTM's functions. Qm.n has m integer bits
 * besides the sign, and n = 15 - m bits behind the point. */
#ifndef HIL_FIXED16_H
#define HIL_FIXED16_H

#include <stdint.h>

/* tanh of a Qm.n with `integer_bits` of 0 ... 6, as Q0.15. */
int16_t hil_tanh_q(int16_t value, uint32_t integer_bits);

/* 1 / (1 + exp(-value)) of a Q3.12, as Q0.15. */
int16_t hil_logistic_q3(int16_t value);

#endif
