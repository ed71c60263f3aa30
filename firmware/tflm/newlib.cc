// What newlib asks of a system that has none. TFLM's builds with assertions call abort(), and it is final here.
extern "C" {
#include "hil_runtime.h"

void abort(void) __attribute__((noreturn));
void __assert_func(const char *, int, const char *, const char *) __attribute__((noreturn));
void _exit(int) __attribute__((noreturn));

[[noreturn]] void abort(void)
{
    hil_error("TFLM gave up: an assertion of it failed");
    __builtin_trap(); // a fault, which the fault handler reports with its place
}

void __assert_func(const char *, int, const char *, const char *)
{
    abort();
}

void _exit(int)
{
    abort();
}
}
