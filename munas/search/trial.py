"""What the search, its workers and its store say to each other about one network.

All of it is immutable and pickles; none of it imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from munas.arch.space import AnyArchitecture

if TYPE_CHECKING:
    from munas.cost.resources import Resources

Status: TypeAlias = Literal["ok", "failed"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One network to try.

    `index` counts the trials of a search from 0 in the order in which they were drawn. `sparsity` is the share of
    channels that pruning removes by the end of training, 0 for none. `seed` decides weights, batches and augmentation.
    `parent` is the index of the trial that it is a morph of and `change` says which morph; without a parent,
    `change` is ``random``.
    """

    index: int
    architecture: AnyArchitecture
    sparsity: float
    seed: int
    parent: int | None
    change: str


@dataclass(frozen=True, slots=True)
class Rung:
    """Training stops after `epoch` epochs (1 = the first) when the float validation error is above `worst_error`."""

    epoch: int
    worst_error: float


@dataclass(frozen=True, slots=True)
class Inherited:
    """A parent's network as it was emitted: its architecture, and its weights as `Trained` has them."""

    architecture: AnyArchitecture
    weights: bytes


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is asked to do. `effort` in (0, 1] scales the work; `rungs` are by ascending epoch. What is
    `inherited` is where training starts; without it, the trial's seed decides."""

    trial: Trial
    rungs: tuple[Rung, ...]
    effort: float
    inherited: Inherited | None = None


@dataclass(frozen=True, slots=True)
class Epoch:
    """State after one epoch: mean training loss, float validation error (0..1), share of prunable channels kept."""

    loss: float
    error: float
    kept: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network as it would be deployed.

    `architecture` is what was emitted: pruned channels are gone. `error` is the int8 network's and `float_error` the
    float emitted network's, both on the validation set as fractions 0..1. `stopped` says that a rung ended training
    before the schedule did; the errors are then on a part of the validation set. `tflite` is the full-int8 model,
    `weights` an .npz of the emitted network's float32 arrays (see `munas.training.network`). `int8_cause` says which
    layer is behind a large loss by the int8 conversion.
    """

    architecture: AnyArchitecture
    error: float
    float_error: float
    epochs: int
    stopped: bool
    history: tuple[Epoch, ...]
    tflite: bytes
    weights: bytes
    images_per_second: float
    int8_cause: str = ""

    def without_blobs(self) -> Trained:
        """The same figures without `tflite` and `weights`, which the store keeps."""
        return replace(self, tflite=b"", weights=b"")


class Trainer(Protocol):
    """Trains one trial, inside a worker. Anything it raises makes the trial a failed one."""

    def __call__(self, task: Task) -> Trained: ...


TrainerFactory: TypeAlias = Callable[[], Trainer]
"""Makes the trainer inside a worker. It must pickle: a frozen dataclass at the top of a module."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A finished trial.

    `resources` are those of the emitted network, or of the trial as drawn when it failed (None when even they are
    not known). `message` says why it failed. `seconds` is the wall time of the trial, `finished_s` the time the
    search had run when it ended, both in seconds.
    """

    trial: Trial
    status: Status
    trained: Trained | None
    resources: Resources | None
    message: str
    seconds: float
    finished_s: float
