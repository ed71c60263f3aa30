"""Harnesses in worker processes: what is sent there to make one, here or on a node of a cluster."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from hil.boards.board import Board
from hil.jobs.places import backend_of, usual_workers
from hil.jobs.supervise import Execution
from hil.measure.harness import Harness, Measured, Options
from hil.targets.clock import ClockReading
from hil.targets.detect import Connected, connected_devices, matching
from munas.errors import PlaceUnfit
from munas.jobs.base import ONE_CORE, Needs


@dataclass(frozen=True, slots=True)
class HarnessFactory:
    """Makes a harness's `measure` inside a worker process."""

    board: Board
    options: Options = field(default_factory=Options)

    def __call__(self) -> Callable[[bytes, str], Measured]:
        return self.harness().measure

    def harness(self) -> Harness:
        """The harness itself."""
        return Harness(self.board, self.options)

    def without(self, device: str) -> HarnessFactory | None:
        """For the other devices, which do not include serial number `device`; None when there are none."""
        others = tuple(item for item in self.options.devices if item.serial_number != device)
        return replace(self, options=replace(self.options, devices=others)) if others else None


@dataclass(frozen=True, slots=True)
class NodeHarnessFactory:
    """Makes a harness's `measure` on a node of a cluster, with the boards that are connected there.

    `clocks` reads the clocks of those boards there, and leaves out the boards whose clock is wrong (it must pickle).
    """

    board: Board
    options: Options
    lost: tuple[str, ...] = ()
    clocks: Callable[[Board, Sequence[Connected]], Sequence[ClockReading]] | None = None

    def __call__(self) -> Callable[[bytes, str], Measured]:
        return self.harness().measure

    def harness(self) -> Harness:
        """The harness itself. Raises PlaceUnfit where no such board is connected."""
        devices = tuple(
            item for item in matching(self.board.name, connected_devices()) if item.serial_number not in self.lost
        )
        if not devices:
            raise PlaceUnfit(f"no {self.board.name} is connected to {platform.node()} any more")
        readings = tuple(self.clocks(self.board, devices)) if self.clocks is not None else ()
        if self.clocks is not None:
            devices = tuple(item for item in devices if item.serial_number in {found.device for found in readings})
        return Harness(self.board, replace(self.options, devices=devices, clocks=readings))

    def without(self, device: str) -> NodeHarnessFactory:
        """For all boards but the one of serial number `device`; another node may have more."""
        return replace(self, lost=(*self.lost, device))


def workers_of(
    board: Board, options: Options, cluster: str | None, count: int | None
) -> tuple[HarnessFactory | NodeHarnessFactory, Execution]:
    """What measures, and who does it: `count` at a time, or as many as there is room for, here or on a Ray cluster.

    Raises InfrastructureError when the cluster cannot be used.
    """
    at_boards = cluster is not None and options.via == "hardware"
    needs = Needs(board=board.name) if at_boards else ONE_CORE
    count = count or len(options.devices) or usual_workers(cluster, needs)
    factory = NodeHarnessFactory(board, options) if at_boards else HarnessFactory(board, options)
    return factory, Execution(count, backend_of(cluster), (__name__,), needs=needs)
