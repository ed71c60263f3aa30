/* Convolution of CMSIS-NN: two columns of the input at a time are gathered into scratch. Its dispatcher is left out, so
 * that only the kernels a network uses are linked. */
#include "hil_kernels.h"

#include <arm_nnfunctions.h>

int hil_conv_im2col(const void *data)
{
    const hil_conv_t *const op = data;
    const cmsis_nn_context context = {.buf = op->scratch, .size = 0}; /* the kernels do not look at the size */
    const cmsis_nn_conv_params params = {
        .input_offset = -op->input_zero_point,
        .output_offset = op->output_zero_point,
        .stride = {.w = op->stride_w, .h = op->stride_h},
        .padding = {.w = op->pad_left, .h = op->pad_top},
        .dilation = {.w = op->dilation_w, .h = op->dilation_h},
        .activation = {.min = op->act_min, .max = op->act_max},
    };
    const int32_t *const channels = op->channels;
    const cmsis_nn_per_channel_quant_params quant = {
        .multiplier = (int32_t *)(uintptr_t)(channels + op->out_c), /* only read, though not declared so */
        .shift = (int32_t *)(uintptr_t)(channels + 2 * op->out_c),
    };
    const cmsis_nn_dims input = {.n = 1, .h = op->in_h, .w = op->in_w, .c = op->in_c};
    const cmsis_nn_dims filter = {.n = op->out_c, .h = op->kernel_h, .w = op->kernel_w, .c = op->in_c};
    const cmsis_nn_dims output = {.n = 1, .h = op->out_h, .w = op->out_w, .c = op->out_c};
    return arm_convolve_s8(&context, &params, &quant, &input, op->input, &filter, op->weights, &output, channels, &output,
                  op->output);
}
