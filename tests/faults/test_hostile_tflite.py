"""Files that mean harm, or are broken: ModelError and nothing else, soon, and without eating memory.

The same mutations run by the hundred thousand before a release: `MUNAS_HIL_FUZZ=200000 pytest tests/faults/...`.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.codegen.plan import make_plan
from hil.errors import ModelError
from hil.model.load import parse_model
from munas.arch.graph import build_graph
from munas.arch.space import random_cnn
from munas.tflite.file import Code, Element, TfliteFile, dense_options
from munas.tflite.flatbuffer import write_tflite
from tests.tflite_samples import UNIT, every_operator

ROOT = Path(__file__).resolve().parents[2]
MUTATIONS = int(os.environ.get("MUNAS_HIL_FUZZ", "1000"))
SECONDS_EACH = 2.0  # of processor time: far above the 2 ms of a real file
TELLING = (0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 0x7FC00000, 0x7F800000)


def is_refused(data: bytes) -> bool:
    """Whether the importer raises ModelError. Any other exception, or taking long, fails the test.

    What is imported is planned as well, where ModelError is the only exception too.
    """
    message, started, model = None, time.process_time(), None
    try:
        model = parse_model(data, "hostile")
    except ModelError as error:
        message = str(error)
    assert time.process_time() - started < SECONDS_EACH
    if model is not None:
        with contextlib.suppress(ModelError):
            make_plan(model)
    assert message is None or (message.isascii() and message.isprintable())
    return message is not None


def mutations(original: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies with a few bits, bytes, words or stretches changed, most often where the tables are."""
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(original)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            near_an_end = rng.random() < 0.6
            place = rng.randrange(min(len(data), 2000) if near_an_end else len(data))
            place = len(data) - 1 - place if near_an_end and rng.random() < 0.6 else place
            mutate(data, place, rng)
        yield bytes(data)


def mutate(data: bytearray, place: int, rng: random.Random) -> None:
    way, word = rng.random(), place & ~3
    if way < 0.4:
        data[place] ^= 1 << rng.randrange(8)
    elif way < 0.55:
        data[place] = rng.randrange(256)
    elif way < 0.9 and word + 4 <= len(data):
        (old,) = struct.unpack_from("<I", data, word)
        near = (old + rng.choice((-8, -4, -1, 1, 4, 8))) & 0xFFFFFFFF
        struct.pack_into("<I", data, word, rng.choice((rng.choice(TELLING), near)))
    else:
        other = rng.randrange(len(data)) & ~3
        length = min(rng.choice((4, 8, 16, 64)), len(data) - max(word, other))
        data[word : word + length] = data[other : other + length]


def written_network() -> bytes:
    rng = np.random.default_rng(5)
    graphs = (build_graph(random_cnn(rng), (16, 16, 3), 10) for _ in iter(int, 1))
    return write_tflite(next(graph for graph in graphs if graph.model_size < 5000 and len(graph.operators) > 12), 1)


@pytest.fixture(scope="module")
def originals() -> dict[str, bytes]:
    edges = {edge.name: every_operator(edge) for edge in (Element.INT8, Element.FLOAT32, Element.UINT8)}
    return {**edges, "written": written_network()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["INT8", "FLOAT32", "UINT8", "written"])
def test_mutations_of_our_own_files(originals: dict[str, bytes], name: str) -> None:
    verdicts = [is_refused(data) for data in mutations(originals[name], MUTATIONS, seed=1)]
    assert 0 < sum(verdicts) < len(verdicts)  # both kinds were met, or the mutations are no good


@pytest.mark.parametrize(
    "name", ["hello_world_int8", "micro_speech_quantized", "kws_ref_model", "pretrainedResnet_quant"]
)
def test_mutations_of_shared_models(shared: Path, name: str) -> None:
    data = (shared / "models" / f"{name}.tflite").read_bytes()
    verdicts = [is_refused(changed) for changed in mutations(data, MUTATIONS // 5, seed=2)]
    assert 0 < sum(verdicts) < len(verdicts)


def test_every_truncation(originals: dict[str, bytes]) -> None:
    data = originals["INT8"]
    for length in (*range(600), *range(600, len(data), 7)):
        assert is_refused(data[:length])


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None, database=None, derandomize=True)
def test_random_bytes(data: bytes) -> None:
    assert is_refused(data)


@given(st.binary(max_size=600))
@settings(max_examples=300, deadline=None, database=None, derandomize=True)
def test_random_bytes_behind_the_identifier(tail: bytes) -> None:
    assert is_refused(struct.pack("<I", 8) + b"TFL3" + tail)


@given(st.lists(st.tuples(st.integers(0, 2**16), st.sampled_from(TELLING)), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None, database=None, derandomize=True)
def test_telling_words(changes: list[tuple[int, int]]) -> None:
    data = bytearray(every_operator())
    for place, word in changes:
        struct.pack_into("<I", data, place * 4 % (len(data) - 3), word)
    is_refused(bytes(data))


# --- small files that ask for much --------------------------------------------------------------------------------


def table(builder: flatbuffers.Builder, slots: int, **offsets: int) -> int:
    """A table whose fields are offsets, `slot_N=offset`."""
    builder.StartObject(slots)
    for name, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(int(name.removeprefix("slot_")), offset, 0)
    return builder.EndObject()


def references(builder: flatbuffers.Builder, target: int, count: int) -> int:
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(target)
    return builder.EndVector()


def file_of(builder: flatbuffers.Builder, subgraph: int, buffers: int) -> bytes:
    builder.StartObject(5)
    builder.PrependUint32Slot(0, 3, 0)
    builder.PrependUOffsetTRelativeSlot(2, subgraph, 0)
    builder.PrependUOffsetTRelativeSlot(4, buffers, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
    return bytes(builder.Output())


def one_tensor_thousands_of_times() -> bytes:
    """8000 tensors that are one and the same table, with a megabyte of scales."""
    builder = flatbuffers.Builder(4_000_000)
    scales = builder.CreateNumpyVector(np.ones(250_000, np.float32))
    quantisation = table(builder, 7, slot_2=scales)
    shape = builder.CreateNumpyVector(np.array([1, 4], np.int32))
    tensor = table(builder, 9, slot_0=shape, slot_4=quantisation)
    subgraph = table(builder, 5, slot_0=references(builder, tensor, 8000))
    buffers = references(builder, table(builder, 3), 1)
    return file_of(builder, references(builder, subgraph, 1), buffers)


def subgraph_of_itself() -> bytes:
    """Vectors of tables that all lead to one table, in every role at once."""
    builder = flatbuffers.Builder(1000)
    empty = table(builder, 3)
    everything = references(builder, empty, 40)
    subgraph = table(builder, 5, slot_0=everything, slot_1=everything, slot_2=everything, slot_3=everything)
    return file_of(builder, references(builder, subgraph, 1), everything)


def weights_over_and_over() -> bytes:
    """2000 dense layers that share one megabyte of weights."""
    file = TfliteFile()
    weights = file.constant("w", np.ones((1000, 1000), np.int8), [0.001])
    source = entry = file.activation("x", (1, 1000), UNIT)
    for _ in range(2000):
        result = file.activation("y", (1, 1000), UNIT)
        file.operator(Code.FULLY_CONNECTED, [source, weights], result, dense_options())
        source = result
    return file.finish([entry], [source])


def many_large_activations() -> bytes:
    """100 activations of 15 MB each in a file of a few kilobytes."""
    file = TfliteFile()
    source = entry = file.activation("x", (1, 400, 600, 64), UNIT)
    for _ in range(100):
        result = file.activation("y", (1, 400, 600, 64), UNIT)
        file.operator(Code.RELU, [source], result)
        source = result
    return file.finish([entry], [source])


BOMBS = (one_tensor_thousands_of_times, subgraph_of_itself, weights_over_and_over, many_large_activations)

CHILD = """
import resource, sys, time
from pathlib import Path
import numpy
from hil.errors import ModelError
from hil.model.load import parse_model
data = Path(sys.argv[1]).read_bytes()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.process_time()
try:
    parse_model(data, "bomb")
except ModelError as error:
    print(time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_bombs(bomb: object, tmp_path: Path) -> None:
    assert callable(bomb)
    path = tmp_path / "bomb.tflite"
    path.write_bytes(bomb())
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    seconds, kilobytes, *message = done.stdout.split()
    assert message
    assert float(seconds) < 3
    assert int(kilobytes) < 150_000


# --- what the importer takes must not bring LiteRT down -------------------------------------------------------------

LITERT_CHILD = """
import sys
from pathlib import Path
import numpy as np
from hil.errors import ModelError
from hil.model.load import parse_model
from hil.model.reference import Reference
ran = 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, flush=True)
    data = path.read_bytes()
    model = parse_model(data, "mutant")
    try:
        reference = Reference(data, model)
        for value in (-128, 127):
            outputs = reference.run([np.full(model.tensors[i].shape, value, np.int8) for i in model.inputs])
            assert [o.shape for o in outputs] == [model.tensors[i].shape for i in model.outputs]
            assert all(o.dtype == np.int8 for o in outputs)
        ran += 1
    except ModelError:
        pass
print(ran)
"""


@pytest.mark.slow
def test_litert_survives_what_is_imported(originals: dict[str, bytes], tmp_path: Path) -> None:
    accepted = 0
    for name, original in originals.items():
        for number, data in enumerate(mutations(original, max(MUTATIONS // 4, 600), seed=9)):
            if not is_refused(data):
                (tmp_path / f"{name}_{number}").write_bytes(data)
                accepted += 1
    done = subprocess.run(
        [sys.executable, "-c", LITERT_CHILD, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"last file {done.stdout.split()[-1]}: {done.stderr[-500:]}"
    assert int(done.stdout.split()[-1]) > accepted // 3 > 50
