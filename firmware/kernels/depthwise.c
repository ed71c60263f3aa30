/* Depthwise convolutions of CMSIS-NN. */
#include "hil_kernels.h"

#include <arm_nnfunctions.h>

typedef arm_cmsis_nn_status (*depthwise_fn)(const cmsis_nn_context *, const cmsis_nn_dw_conv_params *,
                                            const cmsis_nn_per_channel_quant_params *, const cmsis_nn_dims *,
                                            const int8_t *, const cmsis_nn_dims *, const int8_t *,
                                            const cmsis_nn_dims *, const int32_t *, const cmsis_nn_dims *, int8_t *);

static int depthwise(const hil_conv_t *op, depthwise_fn kernel)
{
    const cmsis_nn_context context = {.buf = op->scratch, .size = 0}; /* the kernels do not look at the size */
    const cmsis_nn_dw_conv_params params = {
        .input_offset = -op->input_zero_point,
        .output_offset = op->output_zero_point,
        .ch_mult = op->out_c / op->in_c,
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
    const cmsis_nn_dims filter = {.n = 1, .h = op->kernel_h, .w = op->kernel_w, .c = op->out_c};
    const cmsis_nn_dims output = {.n = 1, .h = op->out_h, .w = op->out_w, .c = op->out_c};
    return kernel(&context, &params, &quant, &input, op->input, &filter, op->weights, &output, channels, &output,
                  op->output);
}

int hil_dw_3x3(const void *op)
{
    return depthwise(op, arm_depthwise_conv_3x3_s8);
}

int hil_dw_im2col(const void *op)
{
    return depthwise(op, arm_depthwise_conv_s8_opt);
}

int hil_dw_generic(const void *op)
{
    return depthwise(op, arm_depthwise_conv_s8);
}
