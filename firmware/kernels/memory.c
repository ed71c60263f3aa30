/* memcpy and memset instead of newlib's: a third of the size, and still a word at a time where that can be. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A word that may alias anything and lie anywhere: these cores load and store unaligned words. */
typedef uint32_t __attribute__((may_alias, aligned(1))) word_t;

__attribute__((optimize("no-tree-loop-distribute-patterns"))) /* or GCC would make it call itself */
void *memcpy(void *restrict target, const void *restrict source, size_t size)
{
    uint8_t *to = target;
    const uint8_t *from = source;
    for (; size >= sizeof(word_t); size -= sizeof(word_t)) {
        *(word_t *)to = *(const word_t *)from;
        to += sizeof(word_t);
        from += sizeof(word_t);
    }
    while (size-- != 0) {
        *to++ = *from++;
    }
    return target;
}

__attribute__((optimize("no-tree-loop-distribute-patterns")))
void *memset(void *target, int value, size_t size)
{
    uint8_t *to = target;
    const uint8_t byte = (uint8_t)value;
    const uint32_t word = byte * 0x01010101u;
    for (; size >= sizeof(word_t); size -= sizeof(word_t)) {
        *(word_t *)to = word;
        to += sizeof(word_t);
    }
    while (size-- != 0) {
        *to++ = byte;
    }
    return target;
}
