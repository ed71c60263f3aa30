"""Output sizes and padding of windows, as tensorflow/lite/kernels/padding.h computes them."""

from __future__ import annotations

from hil.model.network import Padding
from hil.model.tflite import limits, schema
from hil.model.tflite.container import RawOperator


def positive_pair(operator: RawOperator, height: int, width: int, what: str) -> tuple[int, int]:
    """A pair of the options. Raises ModelError unless both are 1 or more and fit 16 bits."""
    if not (0 < height <= limits.MAX_DIMENSION and 0 < width <= limits.MAX_DIMENSION):
        raise operator.refuse(f"{what} {height}x{width} is not supported; supported: 1 to {limits.MAX_DIMENSION}")
    return height, width


def resolve_padding(
    operator: RawOperator,
    scheme: int,
    sizes: tuple[int, int],
    window: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[tuple[int, int], Padding]:
    """((output height, output width), explicit padding) of a sliding window. Raises ModelError when nothing is left."""
    if scheme not in (schema.PADDING_SAME, schema.PADDING_VALID):
        raise operator.refuse(f"padding scheme {scheme} is not supported; supported: SAME, VALID")
    outputs, pads = [], []
    for size, taps, step, spread in zip(sizes, window, stride, dilation, strict=True):
        extent = (taps - 1) * spread + 1
        if extent > limits.MAX_DIMENSION:
            raise operator.refuse(f"a dilated window of {extent} elements is not supported")
        output = -(-size // step) if scheme == schema.PADDING_SAME else (size - extent + step) // step
        if output < 1:
            raise operator.refuse(f"a window of {extent} does not fit {size} elements")
        total = max((output - 1) * step + extent - size, 0)
        outputs.append(output)
        pads.append((total // 2, total - total // 2))
    (top, bottom), (left, right) = pads
    return (outputs[0], outputs[1]), Padding(top, bottom, left, right)
