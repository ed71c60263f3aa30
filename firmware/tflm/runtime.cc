// Runs a network with TensorFlow Lite Micro behind the same border as a network of generated code: hil_model.h.
#include <cstdint>
#include <new>

#include "hil_tflm.h"
#include "tensorflow/lite/micro/compatibility.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/micro_profiler_interface.h"
#include "tensorflow/lite/schema/schema_generated.h"

extern "C" {
#include "hil_model.h"
}

namespace {

// TFLM announces the begin and the end of every operator; the end is our mark.
class Marks final : public tflite::MicroProfilerInterface {
  public:
    void start(hil_mark_fn mark)
    {
        mark_ = mark;
        done_ = 0;
    }

    std::uint32_t done() const { return done_; }

    std::uint32_t BeginEvent(const char *) override { return 0; }

    void EndEvent(std::uint32_t) override
    {
        const std::uint32_t layer = done_++;
        if (mark_ != nullptr) {
            mark_(layer);
        }
    }

  private:
    hil_mark_fn mark_ = nullptr;
    std::uint32_t done_ = 0;

    TF_LITE_REMOVE_VIRTUAL_DELETE
};

// Made in place: a static object would want a constructor before main and a destructor after it.
template <typename Object> struct alignas(Object) Place {
    unsigned char bytes[sizeof(Object)];
};

Place<Marks> marks_place;
Place<tflite::MicroInterpreter> interpreter_place;
Marks *marks;
tflite::MicroInterpreter *interpreter;

// That a tensor lies where the host planned it: input and output are exchanged at those offsets.
bool is_at(const TfLiteTensor *tensor, std::uint32_t offset, std::uint32_t size, const char *what)
{
    if (tensor == nullptr || tensor->type != kTfLiteInt8 || tensor->bytes != size) {
        MicroPrintf("The %s is not the int8 tensor of %d bytes that the host sees", what, static_cast<int>(size));
        return false;
    }
    const int found = static_cast<int>(tensor->data.int8 - hil_arena);
    if (found != static_cast<int>(offset)) {
        MicroPrintf("The %s lies at %d in the arena, planned was %d", what, found, static_cast<int>(offset));
        return false;
    }
    return true;
}

}  // namespace

extern "C" int hil_model_setup(void)
{
    hil::start_log();
    const tflite::Model *model = tflite::GetModel(hil_flatbuffer);
    const tflite::MicroOpResolver *operators = hil::make_operators();
    if (operators == nullptr) {
        return 1;
    }
    marks = new (marks_place.bytes) Marks;
    interpreter = new (interpreter_place.bytes)
        tflite::MicroInterpreter(model, *operators, reinterpret_cast<std::uint8_t *>(hil_arena), hil_model.arena_size,
                                 nullptr, marks);
    const bool ready = interpreter->AllocateTensors() == kTfLiteOk &&
                       is_at(interpreter->input(0), hil_model.input_offset, hil_model.input_size, "input") &&
                       is_at(interpreter->output(0), hil_model.output_offset, hil_model.output_size, "output");
    if (!ready) {
        interpreter = nullptr;
    }
    return ready ? 0 : 1;
}

extern "C" std::uint32_t hil_model_arena_used(void)
{
    return interpreter == nullptr ? 0u : static_cast<std::uint32_t>(interpreter->arena_used_bytes());
}

extern "C" int hil_model_infer(hil_mark_fn mark)
{
    if (interpreter == nullptr) {
        return 1;
    }
    marks->start(mark);
    if (interpreter->Invoke() != kTfLiteOk) {
        return 1 + static_cast<int>(marks->done());
    }
    if (mark != nullptr && marks->done() != hil_model.layers) {
        MicroPrintf("TFLM announced %d of %d operators: build it with its log and profiler",
                    static_cast<int>(marks->done()), static_cast<int>(hil_model.layers));
        return 1 + static_cast<int>(marks->done());
    }
    return 0;
}
