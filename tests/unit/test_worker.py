"""LiteRT in a process of its own: whatever a network does to it is an error that names the network, and no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hil.codegen.plan import make_plan
from hil.errors import InfrastructureError, ModelError, ReferenceDied
from hil.measure.answers import reference_answers
from hil.measure.measurement import Outputs
from hil.model.litert import ADDRESS_SPACE_BYTES
from hil.model.load import parse_model
from hil.model.reference import Reference
from hil.model.worker import Died, Worker
from hil.patterns import PatternKind
from munas.tflite.file import Code, TfliteFile, softmax_options
from tests.tflite_samples import every_operator

ROOT = Path(__file__).resolve().parents[2]


def softmax(classes: int, scale: float = 0.05) -> bytes:
    """One softmax. LiteRT's kernel aborts when the exponentials add up to 2^9 or more, as those of equal logits do."""
    file = TfliteFile()
    x, y = file.activation("x", (1, classes), scale), file.activation("y", (1, classes), 1 / 256, -128)
    file.operator(Code.SOFTMAX, [x], y, softmax_options())
    return file.finish([x], [y])


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[object]:
    """``stand_in(code)``: a worker whose process runs that Python code after the limits of the real one are set."""
    made = []

    def make(code: str) -> Worker:
        script = tmp_path / f"{len(made)}.py"
        script.write_text(
            f"import hil.model.litert as litert\ndef serve(*_):\n {code}\nlitert._serve = serve\nlitert.main()\n"
        )
        made.append(Worker((sys.executable, str(script))))
        return made[-1]

    yield make
    for item in made:
        item.close()


@pytest.mark.parametrize("classes", [512, 600, 4096])
def test_an_abort_is_an_error_that_names_the_model_and_the_next_one_runs(worker: Worker, classes: int) -> None:
    data = softmax(classes)
    reference = Reference(data, parse_model(data, "many classes"), worker)
    with pytest.raises(ReferenceDied, match=r"^many classes: LiteRT's reference kernels cannot run .*SIGABRT"):
        reference.run([np.zeros((1, classes), np.int8)])
    other = every_operator()
    Reference(other, parse_model(other, "x"), worker).run([np.zeros((1, 12, 10, 2), np.int8)])
    spread = np.full((1, classes), -128, np.int8)
    spread[0, 3] = 127
    assert reference.run([spread])[0].argmax() == 3  # loaded again


def test_references_take_turns(worker: Worker) -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for classes in (4, 7):
        data = softmax(classes)
        pairs.append((Reference(data, parse_model(data, "x"), worker), classes))
    for reference, classes in [*pairs, *pairs]:
        assert reference.run([rng.integers(-128, 128, (1, classes), np.int8)])[0].shape == (1, classes)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(7)", "exit status 7"),
        ("import os; os.abort()", "SIGABRT"),
        ("import os; os.write(2, b'F0000 check failed'); os.abort()", r"SIGABRT.*check failed"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("bytearray(3 << 30)", "more than 2 GiB"),
        ("print('[]', flush=True); input()", "senseless|exit status"),
        ("print('{\"read\": [[\"O\", [9]]]}', flush=True)", "senseless|exit status"),
        pytest.param("import sys; sys.stdout.write('x' * 10**6)", "exit status 0|senseless", marks=pytest.mark.slow),
        ("import signal\n signal.setitimer(signal.ITIMER_PROF, 0.1)\n while True: pass", "processor time"),
        ("import signal, time\n signal.setitimer(signal.ITIMER_REAL, 0.1)\n time.sleep(60)", "600 s"),
    ],
)  # fmt: skip
def test_whatever_ends_the_process_is_said(stand_in, code: str, reason: str) -> None:  # type: ignore[no-untyped-def]
    worker = stand_in(code)
    with pytest.raises(Died, match=reason):
        worker.run(object(), b"model", [], [0])


def test_a_hang_ends_by_the_limit_of_the_request() -> None:
    """The limits are those of each request, and the process sets them itself: it may be an orphan by then."""
    code = (
        "import hil.model.litert as litert, time; litert.CPU_LIMIT_S = 0.2\n"
        "class Endless:\n def __init__(self, data):\n  while True: pass\n"
        "litert.LiteRt = Endless; litert.main()"
    )
    worker = Worker((sys.executable, "-c", code))
    started = time.monotonic()
    with pytest.raises(Died, match="processor time"):
        worker.load(object(), b"model")
    assert time.monotonic() - started < 30
    worker.close()


def test_a_process_that_cannot_start_is_infrastructure() -> None:
    with pytest.raises(InfrastructureError, match="cannot be started"):
        Worker(("/nonexistent/python",)).load(object(), b"")


def test_the_process_ends_with_its_owner() -> None:
    code = (
        "import os; from hil.model.worker import SHARED; process, _ = SHARED._started();"
        "print(process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 120
    while Path(f"/proc/{int(done.stdout)}").exists() and time.monotonic() < deadline:
        os.sched_yield()
    assert not Path(f"/proc/{int(done.stdout)}").exists()


def test_extreme_inputs_without_an_answer_are_replaced() -> None:
    data = softmax(513)
    model = parse_model(data, "many")
    plan = make_plan(model)
    found = reference_answers(Reference(data, model), None, plan.input, 8, 3)
    assert found.undefined == ("min", "max", "zero point")
    assert [pattern.kind for pattern in found.patterns].count(PatternKind.RANDOM) == 7
    assert len(set(found.patterns)) == 8
    assert found.compared(found.litert, plan.outputs) == Outputs(8, 0, 0, found.undefined)
    assert found.compared([b"", *found.litert[1:]], plan.outputs).mismatched == 1


def test_random_inputs_without_an_answer_are_a_refusal() -> None:
    data = softmax(4000, 1e-6)
    model = parse_model(data, "flat")
    with pytest.raises(ModelError, match=r"^flat: LiteRT.*random input"):
        reference_answers(Reference(data, model), None, make_plan(model).input, 8, 0)


def test_the_reference_starts_where_memory_is_limited_to_less_than_its_own_bound() -> None:
    """A hard limit cannot be raised: to try it ended the process, and the model had the blame."""
    kilobytes = (ADDRESS_SPACE_BYTES >> 10) // 2
    program = f"ulimit -v {kilobytes} -f 512; exec {sys.executable} -m hil.model.litert"
    done = subprocess.run(["bash", "-c", program], input=b"", capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_inputs_of_one_byte_are_all_different() -> None:
    data = softmax(1)
    model = parse_model(data, "one")
    port = make_plan(model).input
    found = reference_answers(Reference(data, model), None, port, 8, 1)
    assert len({pattern.data(port.size, port.zero_point) for pattern in found.patterns}) == 8
