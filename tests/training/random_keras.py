"""Random networks as people write them in Keras, converted by TensorFlow's converter: what strangers' files are like.

As a program: makes and compares many (``python -m tests.training.random_keras --count 500 --mutated 200``).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hil.errors import ModelError
from tests.firmware.bench import Bench, Case, case

Layer = Callable[[Any, np.random.Generator], Any]


def _conv(x: Any, rng: np.random.Generator) -> Any:
    from keras import layers

    kernel = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    dilation = int(rng.integers(1, 3)) if rng.random() < 0.2 else 1
    stride = 1 if dilation > 1 else int(rng.integers(1, 3))
    groups = 2 if x.shape[-1] % 2 == 0 and rng.random() < 0.1 else 1
    filters = groups * int(rng.integers(1, 9))
    covers = all(dilation * (side - 1) < size for side, size in zip(kernel, x.shape[1:3], strict=True))
    padding = "valid" if rng.random() >= 0.8 and covers else "same"
    return layers.Conv2D(
        filters, kernel, stride, padding, dilation_rate=dilation, groups=groups, use_bias=bool(rng.random() < 0.8)
    )(x)


def _depthwise(x: Any, rng: np.random.Generator) -> Any:
    from keras import layers

    return layers.DepthwiseConv2D(int(rng.integers(1, 4)), 1, "same", depth_multiplier=int(rng.integers(1, 3)))(x)


def _transposed(x: Any, rng: np.random.Generator) -> Any:
    from keras import layers

    if max(x.shape[1:3]) > 16:
        return x
    return layers.Conv2DTranspose(int(rng.integers(1, 6)), int(rng.integers(1, 4)), int(rng.integers(1, 3)), "same")(x)


def _activation(x: Any, rng: np.random.Generator) -> Any:
    from keras import layers

    names = ("relu", "relu6", "sigmoid", "tanh", "hard_swish", "silu", "leaky_relu")
    name = str(rng.choice(names))
    if name == "leaky_relu":
        return layers.LeakyReLU(negative_slope=float(rng.choice([0.1, 0.3])))(x)
    return layers.PReLU(shared_axes=[1, 2])(x) if rng.random() < 0.1 else layers.Activation(name)(x)


def _norm(x: Any, rng: np.random.Generator) -> Any:
    from keras import layers

    return layers.BatchNormalization(
        moving_mean_initializer=_random_of(rng, 0.5),
        moving_variance_initializer="ones",
        gamma_initializer=_random_of(rng, 0.5, 1.0),
    )(x)


def _random_of(rng: np.random.Generator, spread: float, centre: float = 0.0) -> Any:
    from keras import initializers

    return initializers.RandomUniform(centre - spread, centre + spread, seed=int(rng.integers(1 << 30)))


def _pool(x: Any, rng: np.random.Generator) -> Any:
    from keras import layers

    if min(x.shape[1:3]) < 2:
        return x
    kind = layers.MaxPooling2D if rng.random() < 0.5 else layers.AveragePooling2D
    return kind(int(rng.integers(1, 3)) + 1, 2, "same")(x)


def _up(x: Any, rng: np.random.Generator) -> Any:
    from keras import layers

    if max(x.shape[1:3]) > 12:
        return x
    return layers.UpSampling2D(2, interpolation=str(rng.choice(["nearest", "bilinear"])))(x)


def _edge(x: Any, rng: np.random.Generator) -> Any:
    from keras import layers

    if rng.random() < 0.5 or min(x.shape[1:3]) < 3:
        return layers.ZeroPadding2D(((0, 1), (1, 0)))(x)
    return layers.Cropping2D(((1, 0), (0, 1)))(x)


def _residual(x: Any, rng: np.random.Generator) -> Any:
    from keras import layers

    other = layers.Conv2D(x.shape[-1], 3, padding="same")(x)
    kinds = (layers.Add, layers.Multiply, layers.Subtract, layers.Concatenate, layers.Maximum, layers.Minimum)
    return kinds[int(rng.integers(len(kinds)))]()([x, other])


def _squeeze(x: Any, rng: np.random.Generator) -> Any:
    from keras import layers

    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(y)
    return layers.Multiply()([x, y])


_BODY: tuple[tuple[Layer, float], ...] = (
    (_conv, 6), (_depthwise, 2), (_transposed, 1), (_activation, 4), (_norm, 2), (_pool, 2), (_up, 1), (_edge, 1),
    (_residual, 2), (_squeeze, 1),
)  # fmt: skip


def random_model(seed: int) -> bytes:
    """An int8 .tflite of a random Keras network."""
    import keras
    from keras import layers

    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    shape = (int(rng.integers(5, 20)), int(rng.integers(5, 20)), int(rng.integers(1, 5)))
    entry = keras.Input(shape) if rng.random() < 0.5 else keras.Input(batch_shape=(1, *shape))
    x = entry
    weights = np.array([weight for _, weight in _BODY])
    for _ in range(int(rng.integers(2, 8))):
        x = _BODY[int(rng.choice(len(_BODY), p=weights / weights.sum()))][0](x, rng)
    x = _head(x, rng)
    if rng.random() < 0.7:
        x = layers.Dense(
            int(rng.integers(1, 12)), activation=str(rng.choice(["linear", "relu", "softmax", "sigmoid"]))
        )(x)
    return _converted(keras.Model(entry, x), shape, rng)


def _head(x: Any, rng: np.random.Generator) -> Any:
    from keras import layers

    heads = (layers.Flatten, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
    return heads[int(rng.integers(3))]()(x)


def _converted(model: Any, shape: tuple[int, ...], rng: np.random.Generator) -> bytes:
    import tensorflow as tf

    samples = rng.uniform(-1, 1, (8, 1, *shape)).astype(np.float32)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample] for sample in samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    edge = [tf.int8, tf.uint8, tf.float32][int(rng.integers(3))]
    converter.inference_input_type = converter.inference_output_type = edge
    return bytes(converter.convert())


def mutated(data: bytes, seed: int) -> bytes:
    """The file with scales and zero points of some tensors changed."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    rng = np.random.default_rng(seed)
    file: Any = schema.ModelT.InitFromPackedBuf(data, 0)
    tensors = [
        item
        for item in file.subgraphs[0].tensors
        if item.quantization is not None and item.quantization.scale is not None
    ]
    for tensor in rng.permutation(np.array(tensors, dtype=object))[: int(rng.integers(1, 4))]:
        quantization = tensor.quantization
        factor = np.float32(np.exp(rng.uniform(-3, 3)))
        quantization.scale = np.asarray(quantization.scale, np.float32) * factor
        if rng.random() < 0.3 and len(quantization.scale) == 1:
            quantization.zeroPoint = np.array([int(rng.integers(-128, 128))], np.int64)
    builder = flatbuffers.Builder(len(data) + 1024)
    builder.Finish(file.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def judged(bench: Bench, files: Iterator[tuple[str, bytes]]) -> Counter[str]:
    """How many files are bit-equal ("equal"), differ ("WRONG"), or are refused, by the reason in few words."""
    found: Counter[str] = Counter()
    batch: list[Case] = []
    for label, data in files:
        try:
            item = case(label, data)
            item.expected()
        except ModelError as error:
            found["refused: " + str(error).split("(it makes")[0].split(": ", 1)[-1][:60]] += 1
            continue
        batch.append(item)
        if len(batch) == 8:
            _compare(bench, batch, found)
            batch = []
    if batch:
        _compare(bench, batch, found)
    return found


def _compare(bench: Bench, batch: list[Case], found: Counter[str]) -> None:
    wrong = bench.mismatches(batch)
    for line in wrong:
        print("WRONG", line, file=sys.stderr)
    found["WRONG"] += len(wrong)
    found["equal"] += len(batch) - len(wrong)


def main() -> None:
    """Compare many networks; exit status 1 when one differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--mutated", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.count)
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), "cortex-m4")
        for start in range(0, len(seeds), 20):
            part = seeds[start : start + 20]
            files = [(f"keras {seed}", random_model(seed)) for seed in part]
            changed = [(f"mutated {seed}", mutated(data, seed)) for seed, (_, data) in zip(part, files, strict=True)]
            total += judged(bench, iter(files))
            total += judged(bench, iter(changed if start < options.mutated else []))
            print(start + len(part), dict(total), flush=True)
    sys.exit(1 if total["WRONG"] else 0)


if __name__ == "__main__":
    main()
