"""What executes a network in the firmware: the seam between generated code and an interpreter.

The firmware sees hil_model.h only; the host sees a `Runtime`. Both implementations pass tests/contract/test_runtime.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from hil.build.sources import Library, Project
from hil.codegen.plan import Port
from hil.codegen.render import Options
from hil.model.network import Model
from hil.model.reference import Int8Array
from munas.cost.kernels import KernelVariant, Work
from munas.cost.optimise import GivenUp


class Step(Protocol):
    """One layer that the device marks, in execution order; `name` is for reports only."""

    @property
    def index(self) -> int:
        """Place in execution order, from 0."""
        ...

    @property
    def kind(self) -> str:
        """The operator, by the schema's name."""
        ...

    @property
    def name(self) -> str:
        """For people only: it need not be unique."""
        ...

    @property
    def work(self) -> Work:
        """What it executes, for the latency model."""
        ...

    @property
    def what(self) -> str:
        """Operator, and types or kernel: for messages."""
        ...


class Deployment(Protocol):
    """A network as a runtime will execute it. Byte counts of flash leave out code."""

    @property
    def imported(self) -> Model:
        """The model as it was imported from the file: whoever has a deployment need not parse it again."""
        ...

    @property
    def model_name(self) -> str:
        """The model's name in reports and in the identity."""
        ...

    @property
    def arena_bytes(self) -> int:
        """Bytes of RAM for activations and scratch."""
        ...

    @property
    def lower_bound_bytes(self) -> int:
        """No order of layers takes fewer bytes of activations."""
        ...

    @property
    def weights_bytes(self) -> int:
        """Bytes of weights in flash."""
        ...

    @property
    def table_bytes(self) -> int:
        """Bytes of all other constants in flash: scales, biases, tables of layers."""
        ...

    @property
    def constant_channels(self) -> int:
        """How many channels of convolutions were left out, as they are constant."""
        ...

    @property
    def given_up(self) -> Sequence[GivenUp]:
        """Faster kernels that gave way to smaller ones, for the size of the code."""
        ...

    @property
    def input(self) -> Port:
        """All inputs as the device takes them: one buffer of int8."""
        ...

    @property
    def output(self) -> Port:
        """All outputs as the device gives them: one buffer of int8."""
        ...

    @property
    def inputs(self) -> Sequence[Port]:
        """The model's inputs, each at its place in `input`."""
        ...

    @property
    def outputs(self) -> Sequence[Port]:
        """The model's outputs, each at its place in `output`."""
        ...

    @property
    def steps(self) -> Sequence[Step]:
        """The layers that the device marks, in execution order."""
        ...


@dataclass(frozen=True, slots=True)
class OperatorSet:
    """Operators by the schema's names, whose code is linked together; `wide`: with kernels for more types than int8."""

    kinds: frozenset[str]
    wide: bool = False


class Expected(Protocol):
    """What the device must answer: outputs of the int8 core for inputs of the int8 core."""

    def run(self, inputs: Sequence[Int8Array]) -> list[Int8Array]:
        """One array for each output."""
        ...


@dataclass(frozen=True, slots=True)
class OneBuffer:
    """A network of several inputs or outputs, seen as the device has it: one buffer of bytes on each side."""

    expected: Expected
    input: Port
    inputs: tuple[Port, ...]

    def run(self, inputs: Sequence[Int8Array]) -> list[Int8Array]:
        """The outputs one after the other, for all inputs at their places in one array."""
        (values,) = inputs
        flat = values.reshape(-1)
        starts = [port.offset - self.input.offset for port in self.inputs]
        parts = [flat[start : start + port.size] for start, port in zip(starts, self.inputs, strict=True)]
        return [np.concatenate([output.reshape(-1).view(np.int8) for output in self.expected.run(parts)])]


def as_one_buffer(expected: Expected, deployment: Deployment) -> Expected:
    """`expected` with inputs and outputs as the device takes and gives them."""
    if len(deployment.inputs) == len(deployment.outputs) == 1:
        return expected
    return OneBuffer(expected, deployment.input, tuple(deployment.inputs))


class Runtime(Protocol):
    """One way to execute networks on one board. Making one raises ToolMissing when something it needs is absent."""

    @property
    def name(self) -> str:
        """As `--runtime` takes it."""
        ...

    @property
    def kernels(self) -> str:
        """Kernels with their version: part of a measurement's identity."""
        ...

    @property
    def library(self) -> Library:
        """What every firmware of this runtime is linked with. Raises ToolMissing or BuildError."""
        ...

    @property
    def kernel_symbols(self) -> Mapping[KernelVariant, str]:
        """The function that each kernel path enters; empty when the linker cannot tell the paths' code apart."""
        ...

    @property
    def kernel_entry_bytes(self) -> int:
        """Bytes of flash that a kernel's row in a table takes besides its functions."""
        ...

    def deploy(self, data: bytes, name: str, *, keep_constant_channels: bool = False) -> Deployment:
        """Import and plan the .tflite `data`, without its constant channels unless they are kept. Raises ModelError."""
        ...

    def render(self, deployment: Deployment, folder: Path, options: Options) -> Project:
        """Write the project of a deployment that this runtime made. Raises InfrastructureError."""
        ...

    def operator_set(self, deployment: Deployment) -> OperatorSet | None:
        """What decides which code is linked for a deployment; None where each network is linked by itself."""
        ...

    def render_set(self, wanted: OperatorSet, folder: Path, options: Options) -> Project | None:
        """Write the project of an image that any network of exactly these operators is put into; None where each
        network is linked by itself. Raises ModelError for an operator that the runtime does not have."""
        ...

    def reference(self, deployment: Deployment) -> Expected | None:
        """What the runtime's kernels must compute where they round otherwise than LiteRT's; None when they do not."""
        ...
