// TFLM's arena allocator, which also counts the least arena that all allocations so far would have fitted into.
#ifndef HIL_TFLM_GAUGE_H
#define HIL_TFLM_GAUGE_H

#include <cstddef>
#include <cstdint>

#include "tensorflow/lite/micro/arena_allocator/single_arena_buffer_allocator.h"
#include "tensorflow/lite/micro/memory_planner/greedy_memory_planner.h"
#include "tensorflow/lite/micro/micro_allocator.h"

namespace hil {

// Takes from the arena what TFLM's own allocator, planner and interpreter take, in the same order.
class Gauge final : public tflite::SingleArenaBufferAllocator {
  public:
    // In the arena of `size` bytes at `arena`, both multiples of 16; nullptr when it does not fit.
    static Gauge *make(std::uint8_t *arena, std::size_t size);

    // What MicroAllocator::Create makes of an arena; nullptr when it does not fit.
    tflite::MicroAllocator *allocator();

    // Bytes, a multiple of 16.
    std::uint32_t required() const;

    // Bytes at the arena's end, and whatever is free in one of `required` bytes: all but activations and scratch.
    std::uint32_t persistent() const;

    TfLiteStatus ResizeBuffer(std::uint8_t *buffer, std::size_t size, std::size_t alignment) override;
    std::uint8_t *AllocatePersistentBuffer(std::size_t size, std::size_t alignment) override;
    std::uint8_t *AllocateTemp(std::size_t size, std::size_t alignment) override;

  private:
    explicit Gauge(const tflite::SingleArenaBufferAllocator &base) : SingleArenaBufferAllocator(base) {}

    void count();

    TF_LITE_REMOVE_VIRTUAL_DELETE
};

}  // namespace hil

#endif
