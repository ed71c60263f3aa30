// TFLM's log on the serial line.
#ifndef HIL_TFLM_LOG_H
#define HIL_TFLM_LOG_H

namespace hil {

// Starts the log. Calling it also makes the linker take log.cc before TFLM's own log.
void start_log();

}  // namespace hil

#endif
