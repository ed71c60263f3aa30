// Between the measuring runtime (runtime.cc) and the operators of a network (entries.cc, which is generated).
#ifndef HIL_TFLM_H
#define HIL_TFLM_H

#include "hil_operators.h"
#include "tensorflow/lite/micro/micro_op_resolver.h"
#include "tensorflow/lite/micro/tflite_bridge/flatbuffer_conversions_bridge.h"

// An operator's registration with our functions around its kernel's.
struct hil_hook {
    TFLMRegistration registration;  // first: TFLM has its address
    TfLiteStatus (*prepare)(TfLiteContext *, TfLiteNode *); // nullptr where the kernel has none
    TfLiteStatus (*invoke)(TfLiteContext *, TfLiteNode *);
    tflite::TfLiteBridgeBuiltinParseFunction parse;
};

static_assert(sizeof(hil_hook) == sizeof(hil_hook_space_t), "hil_operators.h says otherwise");

namespace hil {

using Hook = ::hil_hook;

// Fills in `hook` with what TFLM's own resolver has of the operator. 0 when it took it (`added`).
int take(TfLiteStatus added, const tflite::MicroOpResolver &resolver, tflite::BuiltinOperator op, Hook *hook);

}  // namespace hil

#endif
