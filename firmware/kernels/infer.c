/* Runs the table of a generated model.c. */
#include "hil_kernels.h"
#include "hil_model.h"

int hil_model_infer(hil_mark_fn mark)
{
    const uint32_t layers = hil_model.layers;
    for (uint32_t i = 0; i < layers; ++i) {
        if (hil_steps[i].run(hil_steps[i].op) != 0) {
            return (int)i + 1;
        }
        if (mark) {
            mark(i);
        }
    }
    return 0;
}
