// Runs a network with TensorFlow Lite Micro behind the same border as a network of generated code: hil_model.h.
#include <cstdint>
#include <cstring>
#include <new>

#include "gauge.h"
#include "hil_log.h"
#include "hil_tflm.h"
#include "tensorflow/lite/micro/compatibility.h"
#include "tensorflow/lite/micro/micro_allocator.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_resource_variable.h"
#include "tensorflow/lite/schema/schema_generated.h"

extern "C" {
#include "hil_runtime.h"
}

extern "C" std::uint8_t _arena_end[];
extern const unsigned char g_model[]; // in model.cc, which is generated
// By being there it makes the linker give the arena all RAM that the budget leaves.
extern "C" const std::uint8_t hil_arena_takes_the_rest;
extern "C" const std::uint8_t hil_arena_takes_the_rest = 1;

namespace {

// Marks the end of every operator of the network that its kernel has run. Those of subgraphs that an operator runs are
// part of it.
class Marks final {
  public:
    void start(hil_mark_fn mark)
    {
        mark_ = mark;
        done_ = 0;
        depth_ = 0;
    }

    std::uint32_t done() const { return done_; }

    void begin() { depth_++; }

    // Found by this name in the image (hil/cycle_model/regions.py): not inlined.
    __attribute__((noinline)) void EndEvent()
    {
        if (--depth_ > 0u) {
            return;
        }
        const std::uint32_t layer = done_++;
        if (mark_ != nullptr) {
            mark_(layer);
        }
    }

  private:
    hil_mark_fn mark_ = nullptr;
    std::uint32_t done_ = 0;
    std::uint32_t depth_ = 0;
};

Marks marks;
std::uint32_t prepared_count; // operators, since TFLM began to prepare the network's; those of subgraphs come behind

// TFLM's own profiler is not in every build; what it calls for an operator is. Its node has the registration behind it.
const hil::Hook *hook_behind(const TfLiteNode *node)
{
    return reinterpret_cast<const hil::Hook *>(
        reinterpret_cast<const tflite::NodeAndRegistration *>(node)->registration);
}

// TFLM's builds without strings do not say which operator it was.
TfLiteStatus prepared(TfLiteContext *context, TfLiteNode *node)
{
    const hil::Hook *hook = hook_behind(node);
    const TfLiteStatus status = hook->prepare == nullptr ? kTfLiteOk : hook->prepare(context, node);
    if (status != kTfLiteOk) {
        hil_error_number("Prepare refused: layer ", prepared_count);
    }
    prepared_count++;
    return status;
}

TfLiteStatus marked(TfLiteContext *context, TfLiteNode *node)
{
    marks.begin();
    const TfLiteStatus status = hook_behind(node)->invoke(context, node);
    if (status == kTfLiteOk) {
        marks.EndEvent();
    }
    return status;
}

// The network's operators with our hooks: kernels, and what they keep in the arena, are as with TFLM's own resolver.
class Resolver final : public tflite::MicroOpResolver {
  public:
    const TFLMRegistration *FindOp(tflite::BuiltinOperator op) const override
    {
        const hil::Hook *hook = hook_of(op);
        return hook == nullptr ? nullptr : &hook->registration;
    }

    const TFLMRegistration *FindOp(const char *) const override { return nullptr; }

    tflite::TfLiteBridgeBuiltinParseFunction GetOpDataParser(tflite::BuiltinOperator op) const override
    {
        const hil::Hook *hook = hook_of(op);
        return hook == nullptr ? nullptr : hook->parse;
    }

  private:
    static const hil::Hook *hook_of(tflite::BuiltinOperator op)
    {
        const auto *hooks = reinterpret_cast<const hil::Hook *>(hil_hooks);
        for (std::uint32_t i = 0; i < hil_operator_count; i++) {
            if (hooks[i].registration.builtin_code == op) {
                return &hooks[i];
            }
        }
        return nullptr;
    }

    TF_LITE_REMOVE_VIRTUAL_DELETE
};

// Made in place: a static object would want a constructor before main and a destructor after it.
template <typename Object> struct alignas(Object) Place {
    unsigned char bytes[sizeof(Object)];
};

Place<Resolver> resolver_place;
Place<tflite::MicroInterpreter> interpreter_place;
tflite::MicroInterpreter *interpreter;

// Inputs or outputs. The host sees one buffer on each side: of several tensors, one behind the other behind the arena.
struct Side {
    std::size_t count;
    TfLiteTensor *(*tensor)(std::size_t index);
    std::uint8_t *buffer; // nullptr for a lone tensor, which is its own
};

Side inputs{0, [](std::size_t index) { return interpreter->input(index); }, nullptr};
Side outputs{0, [](std::size_t index) { return interpreter->output(index); }, nullptr};

bool is_known(const TfLiteTensor *tensor)
{
    return tensor != nullptr &&
           (tensor->type == kTfLiteInt8 || tensor->type == kTfLiteInt16 || tensor->type == kTfLiteFloat32);
}

// Where the host's buffer of `size` bytes for a side is, from the arena's start; -1, and a log line, if its tensors are
// not what the host sees. Several take their place from `spare`.
std::int32_t place(Side &side, std::size_t count, std::uint32_t size, std::uint8_t *&spare, const char *what)
{
    std::uint32_t bytes = 0;
    bool fine = count > 0u;
    for (std::size_t i = 0; i < count; i++) {
        fine = fine && is_known(side.tensor(i));
        bytes += fine ? static_cast<std::uint32_t>(side.tensor(i)->bytes) : 0u;
    }
    if (!fine || bytes != size) {
        hil_error_at("Not the tensors that the host sees: ", what);
        return -1;
    }
    side.count = count;
    if (count == 1u) {
        return static_cast<std::int32_t>(side.tensor(0)->data.int8 - hil_arena);
    }
    if (static_cast<std::uint32_t>(hil_memory.spare_end - spare) < size) {
        hil_error_number("Several tensors need RAM behind the arena, bytes: ", size);
        return -1;
    }
    side.buffer = spare;
    spare += size;
    return static_cast<std::int32_t>(reinterpret_cast<std::int8_t *>(side.buffer) - hil_arena);
}

// Where the network keeps states in resource variables; nullptr where it has none.
tflite::MicroResourceVariables *variables_in(tflite::MicroAllocator *allocator)
{
    return hil_model.variables == 0u
               ? nullptr
               : tflite::MicroResourceVariables::Create(allocator, static_cast<int>(hil_model.variables));
}

// The least arena that the network starts with: it is set up once with all the RAM there is, and what that took counted.
std::uint32_t least_arena(const tflite::Model *model, const Resolver &resolver, std::uint32_t whole)
{
    std::uint32_t least = 0;
    hil::Gauge *gauge = hil::Gauge::make(reinterpret_cast<std::uint8_t *>(hil_arena), whole);
    tflite::MicroAllocator *allocator = gauge == nullptr ? nullptr : gauge->allocator();
    if (allocator == nullptr) {
        hil_error("Too little RAM for TFLM's arena");
        return 0;
    }
    auto *trial = new (interpreter_place.bytes)
        tflite::MicroInterpreter(model, resolver, allocator, variables_in(allocator));
    prepared_count = 0;
    if (trial->AllocateTensors() == kTfLiteOk) {
        least = gauge->required();
        hil_model.arena_kept = gauge->persistent();
    }
    return least;
}

}  // namespace

int hil::take(TfLiteStatus added, const tflite::MicroOpResolver &resolver, tflite::BuiltinOperator op, Hook *hook)
{
    const TFLMRegistration *found = resolver.FindOp(op);
    if (added != kTfLiteOk || found == nullptr) {
        return 1;
    }
    *hook = {*found, found->prepare, found->invoke, resolver.GetOpDataParser(op)};
    hook->registration.prepare = prepared;
    hook->registration.invoke = marked;
    return 0;
}

extern "C" int hil_model_setup(void)
{
    hil::start_log();
    const tflite::Model *model = tflite::GetModel(g_model);
    if (model->version() != TFLITE_SCHEMA_VERSION) {
        hil_error_number("TFLM does not read schema version ", model->version());
        return 1;
    }
    for (std::uint32_t i = 0; i < hil_operator_count; i++) {
        if (hil_operators[i](reinterpret_cast<hil::Hook *>(&hil_hooks[i])) != 0) {
            hil_error_number("TFLM refused operator ", i);
            return 1;
        }
    }
    const auto *resolver = new (resolver_place.bytes) Resolver;
    const std::uint32_t whole = static_cast<std::uint32_t>(_arena_end - reinterpret_cast<std::uint8_t *>(hil_arena));
    const std::uint32_t size = least_arena(model, *resolver, whole & ~15u);
    if (size == 0u) {
        hil_error_number("TFLM cannot set the network up; bytes for its arena: ", whole);
        return 1;
    }
    // As a product sets it up, with an arena of that size.
    tflite::MicroAllocator *allocator =
        tflite::MicroAllocator::Create(reinterpret_cast<std::uint8_t *>(hil_arena), size);
    auto *made = new (interpreter_place.bytes)
        tflite::MicroInterpreter(model, *resolver, allocator, variables_in(allocator));
    if (made->AllocateTensors() != kTfLiteOk) {
        hil_error_number("BUG: TFLM does not start with the arena that it took before: ", size);
        return 1;
    }
    interpreter = made;
    std::uint8_t *spare = reinterpret_cast<std::uint8_t *>(hil_arena) + size;
    const std::int32_t input = place(inputs, made->inputs_size(), hil_model.input_size, spare, "input");
    const std::int32_t output = place(outputs, made->outputs_size(), hil_model.output_size, spare, "output");
    if (input < 0 || output < 0) {
        interpreter = nullptr;
        return 1;
    }
    hil_model.arena_size = size;
    hil_model.input_offset = static_cast<std::uint32_t>(input);
    hil_model.output_offset = static_cast<std::uint32_t>(output);
    hil_memory.spare_start = spare;
    return 0;
}

extern "C" void hil_model_reset(void)
{
    if (interpreter != nullptr) {
        (void)interpreter->Reset();
    }
}

extern "C" void hil_model_take_input(void)
{
    const std::uint8_t *from = inputs.buffer;
    for (std::size_t i = 0; from != nullptr && i < inputs.count; i++) {
        std::memcpy(inputs.tensor(i)->data.raw, from, inputs.tensor(i)->bytes);
        from += inputs.tensor(i)->bytes;
    }
}

extern "C" void hil_model_give_output(void)
{
    std::uint8_t *to = outputs.buffer;
    for (std::size_t i = 0; to != nullptr && i < outputs.count; i++) {
        std::memcpy(to, outputs.tensor(i)->data.raw, outputs.tensor(i)->bytes);
        to += outputs.tensor(i)->bytes;
    }
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
    marks.start(mark);
    if (interpreter->Invoke() != kTfLiteOk || marks.done() != hil_model.layers) {
        return 1 + static_cast<int>(marks.done());
    }
    return 0;
}
