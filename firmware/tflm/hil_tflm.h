/* Between runtime.cc and what is generated for a network, besides hil_model.h: its flatbuffer and its operators. */
#ifndef HIL_TFLM_H
#define HIL_TFLM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The .tflite in little-endian words, aligned to 16. */
extern const uint32_t hil_flatbuffer[];

#ifdef __cplusplus
}

namespace tflite {
class MicroOpResolver;
}

namespace hil {

// The operators that the network uses and no others. nullptr, and a log line from TFLM, when one was refused.
const tflite::MicroOpResolver *make_operators();

// Starts the log on the serial line. Calling it also makes the linker take log.cc before TFLM's own log.
void start_log();

}  // namespace hil
#endif

#endif
