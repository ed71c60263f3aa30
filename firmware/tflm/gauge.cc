#include "gauge.h"

#include <new>

namespace {

// Not in the gauge, which has to be as large as the allocator whose place it takes.
struct {
    std::size_t whole;    // the arena
    std::size_t least;    // free, at the moment when it was least
    std::size_t planning; // in use while the planner has the rest
    tflite::GreedyMemoryPlanner *planner;
} seen;

std::size_t up(std::size_t size)
{
    return (size + 15u) & ~static_cast<std::size_t>(15u);
}

}  // namespace

namespace hil {

static_assert(sizeof(Gauge) == sizeof(tflite::SingleArenaBufferAllocator), "it takes that one's place");

Gauge *Gauge::make(std::uint8_t *arena, std::size_t size)
{
    tflite::SingleArenaBufferAllocator first(arena, size);
    std::uint8_t *place = size < sizeof(Gauge) ? nullptr : first.AllocatePersistentBuffer(sizeof(Gauge), alignof(Gauge));
    if (place == nullptr) {
        return nullptr;
    }
    seen = {size, size, 0, nullptr};
    auto *gauge = new (place) Gauge(first);
    gauge->count();
    return gauge;
}

tflite::MicroAllocator *Gauge::allocator()
{
    std::uint8_t *place =
        AllocatePersistentBuffer(sizeof(tflite::GreedyMemoryPlanner), alignof(tflite::GreedyMemoryPlanner));
    if (place == nullptr || GetAvailableMemory(1) < sizeof(tflite::MicroAllocator) + alignof(tflite::MicroAllocator)) {
        return nullptr;
    }
    seen.planner = new (place) tflite::GreedyMemoryPlanner();
    return tflite::MicroAllocator::Create(this, seen.planner);
}

std::uint32_t Gauge::required() const
{
    const std::size_t buffers = static_cast<std::size_t>(seen.planner->GetBufferCount());
    const std::size_t planned = seen.planning + buffers * tflite::GreedyMemoryPlanner::per_buffer_size();
    const std::size_t taken = seen.whole - seen.least;
    return static_cast<std::uint32_t>(up(planned > taken ? planned : taken));
}

std::uint32_t Gauge::persistent() const
{
    return required() - static_cast<std::uint32_t>(GetNonPersistentUsedBytes());
}

TfLiteStatus Gauge::ResizeBuffer(std::uint8_t *buffer, std::size_t size, std::size_t alignment)
{
    const TfLiteStatus status = SingleArenaBufferAllocator::ResizeBuffer(buffer, size, alignment);
    count();
    return status;
}

std::uint8_t *Gauge::AllocatePersistentBuffer(std::size_t size, std::size_t alignment)
{
    std::uint8_t *found = SingleArenaBufferAllocator::AllocatePersistentBuffer(size, alignment);
    count();
    return found;
}

// TFLM lends its planner all that is left, whatever that is. What the planner uses of it is known by its buffers.
std::uint8_t *Gauge::AllocateTemp(std::size_t size, std::size_t alignment)
{
    const bool takes_the_rest = size > 0u && size == GetAvailableMemory(alignment);
    std::uint8_t *found = SingleArenaBufferAllocator::AllocateTemp(size, alignment);
    if (takes_the_rest) {
        seen.planning = seen.whole - size;
    } else {
        count();
    }
    return found;
}

void Gauge::count()
{
    const std::size_t free = GetAvailableMemory(1);
    if (free < seen.least) {
        seen.least = free;
    }
}

}  // namespace hil
