"""Jobs on a Ray cluster that is there already. Nothing of Ray is imported until a cluster is opened.

Each place for a job is an actor, to which Ray gives the processors, GPUs, memory and board that a job needs, on
whichever node has them. It does its jobs in processes of its own there (`munas.jobs.place`), so that a crash, a hang
and too much memory are dealt with as on one machine. The work goes through the object store, once to each node. A
node that is lost, or an actor, costs no job: what it was on is done again elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from munas.closing import Closing
from munas.errors import JobsError, PlaceUnfit
from munas.jobs.base import Finished, Job, Jobs, Needs, Work, Workers
from munas.jobs.frames import dumps
from munas.jobs.place import Answer, Place, Versions, versions
from munas.jobs.words import text_of

ATTEMPTS = 3  # at a job whose place was lost: it may be what kills its node
PATIENCE_S = 60.0  # for a place, when no node has one; a node that restarts takes that long
POLL_S = 1.0
_connected: list[str] = []  # the address of the cluster that this process is connected to
_INSTALL = "install it with: pip install 'munas-hil[ray]'"


@dataclass(frozen=True, slots=True)
class RayBackend:
    """The cluster at `address`: ``auto`` (one that this machine is part of), ``HOST:PORT``, or ``ray://HOST:PORT``."""

    address: str = "auto"

    def open(self, workers: Workers) -> Jobs:
        """See `munas.jobs.base.JobBackend`."""
        return RayJobs(connect(self.address), workers)

    def capacity(self, needs: Needs) -> int:
        """How many jobs of such needs the cluster has room for, when nobody else uses it. Raises JobsError."""
        return _capacity(connect(self.address).cluster_resources(), needs)


def connect(address: str) -> Any:
    """The module `ray`, connected. Raises JobsError when it is not installed, or the cluster cannot be used."""
    if address.rpartition(":")[0] in ("127.0.0.1", "localhost"):  # or Ray takes another address of this host for it
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise JobsError(f"--cluster needs Ray ({error}); {_INSTALL}") from error
    if ray.is_initialized():
        if _connected == [address]:
            return ray
        ray.shutdown()
    with _own_signals():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="munas-hil")
        except Exception as error:  # any: what a cluster is not like shows in many ways
            text = " ".join(str(error).split())
            if "mismatch" in text.lower():
                text += "; install the same versions of Ray and Python here and on every node"
            else:
                text += f"; is a cluster running at {address}? Start one with: ray start --head"
            raise JobsError(f"cannot use the cluster {address}: {text}") from error
    _connected[:] = [address]
    return ray


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; whoever had it gets it back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wanted(needs: Needs) -> dict[str, float]:
    """What one job occupies, in Ray's words."""
    wanted = {"CPU": needs.cpus, "GPU": needs.gpus, "memory": float(needs.memory_bytes)}
    if needs.board:
        wanted[board_resource(needs.board)] = 1.0
    return {name: amount for name, amount in wanted.items() if amount}


def board_resource(board: str) -> str:
    """The name of a board among a node's resources."""
    return f"board:{board}"


def _capacity(there: dict[str, float], needs: Needs) -> int:
    return min(math.floor(there.get(name, 0.0) / amount) for name, amount in _wanted(needs).items())


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A job, and what its place is told: key and reference of its work, its argument pickled."""

    job: Job
    key: int
    work: Any
    argument: bytes


@dataclass(slots=True)
class _Slot:
    """A place: `reference` is what it was asked for last. It has no job before it has said who it is."""

    actor: Any
    reference: Any
    node: str = ""
    job: _Waiting | None = None

    @property
    def is_free(self) -> bool:
        return bool(self.node) and self.job is None


class RayJobs(Closing):
    """See `munas.jobs.base.Jobs`."""

    def __init__(self, ray: Any, workers: Workers) -> None:
        self._ray, self._workers = ray, workers
        self._count = workers.count
        self._queue: deque[_Waiting] = deque()
        self._slots: list[_Slot] = []
        self._works: dict[int, tuple[Work, int, Any]] = {}  # by id: the work itself, its key, its reference
        self._losses: Counter[str] = Counter()  # by job
        self._lacking_since = math.inf
        if not _capacity(ray.cluster_resources(), workers.needs):
            raise JobsError(f"no node of the cluster has {_text(workers.needs)}{_advice(workers.needs)}")

    @property
    def busy(self) -> int:
        """Jobs under way."""
        return len(self._queue) + sum(slot.job is not None for slot in self._slots)

    @property
    def idle(self) -> int:
        """Jobs that can be begun now."""
        return self._count - self.busy

    def submit(self, job: Job) -> None:
        """See `munas.jobs.base.Jobs`. Until a node has room for it, the job waits."""
        assert self.idle > 0, "more jobs than workers"
        key, work = self._reference(job)
        self._queue.append(_Waiting(job, key, work, self._pickled(job, job.argument)))
        self._assign()

    def wait(self, timeout_s: float = math.inf) -> list[Finished]:
        """See `munas.jobs.base.Jobs`."""
        deadline = time.monotonic() + timeout_s
        finished: list[Finished] = []
        while self.busy and not finished:
            self._assign()
            remaining = max(0.0, min(deadline - time.monotonic(), POLL_S))
            by_reference = {slot.reference: slot for slot in self._slots if not slot.is_free}
            ready: list[Any] = []
            if by_reference:
                ready, _ = self._ray.wait(list(by_reference), num_returns=1, timeout=remaining)
            else:
                time.sleep(remaining)  # no place was asked for anything yet: there is no reference to wait for
            for reference in ready:
                finished += self._taken(by_reference[reference])
            self._require_room()
            if time.monotonic() >= deadline:
                break
        return finished

    def close(self) -> None:
        """End all places: Ray kills the actors, and their workers notice."""
        for slot in self._slots:
            self._leave(slot)
        self._slots.clear()
        self._queue.clear()
        self._works.clear()

    # -- places --

    def _assign(self) -> None:
        """Give waiting jobs to free places; ask for more places while there are jobs for them."""
        for slot in self._slots:
            if slot.is_free and self._queue:
                slot.job = item = self._queue.popleft()
                job = item.job
                slot.reference = slot.actor.do.remote(item.key, item.work, job.name, item.argument, job.limits)
        coming = sum(not slot.node for slot in self._slots)
        while len(self._slots) < self._count and coming < len(self._queue):
            self._slots.append(self._asked_for())
            coming += 1

    def _asked_for(self) -> _Slot:
        needs = self._workers.needs
        resources = {board_resource(needs.board): 1.0} if needs.board else {}
        actor = self._ray.remote(Place).options(
            num_cpus=needs.cpus, num_gpus=needs.gpus, memory=needs.memory_bytes or None, resources=resources,
            max_restarts=0, scheduling_strategy="SPREAD",
        )  # fmt: skip
        place = actor.remote(self._workers)
        return _Slot(place, place.about.remote())

    def _reference(self, job: Job) -> tuple[int, Any]:
        """Key and reference of a job's work, which is put into the object store once."""
        known = self._works.get(id(job.work))
        if known is None:
            data = self._ray.put(self._pickled(job, job.work))
            known = self._works[id(job.work)] = job.work, len(self._works), data
        return known[1], known[2]

    def _pickled(self, job: Job, value: object) -> bytes:
        try:
            return dumps(value)
        except Exception as error:  # any: parts pickle as they like
            raise JobsError(f"{job.name} cannot be sent to a worker: {type(error).__name__}: {error}") from error

    def _leave(self, slot: _Slot) -> None:
        with contextlib.suppress(Exception):  # it may be gone, and its node with it
            self._ray.kill(slot.actor, no_restart=True)

    # -- what comes back --

    def _taken(self, slot: _Slot) -> list[Finished]:
        """What a place has to say. Raises JobsError for a place where no job can be done."""
        try:
            answer = self._ray.get(slot.reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, JobsError):
                raise type(cause)(str(cause)) from error
            raise JobsError(f"a place of the cluster failed: {cause}") from error
        except self._ray.exceptions.RayError as error:
            return self._lost(slot, error)
        if not isinstance(answer, Answer):
            self._greet(slot, *answer)
            return []
        item, slot.job = slot.job, None
        assert item is not None
        finished = self._finished(item.job, answer)
        if isinstance(finished.error, PlaceUnfit) and self._count > 1:
            self._count -= 1
            self._slots.remove(slot)
            self._leave(slot)
            self._queue.appendleft(item)
            return []
        self._losses.pop(item.job.name, None)
        return [finished]

    def _greet(self, slot: _Slot, theirs: Versions, node: str) -> None:
        if difference := versions().difference(theirs):
            raise JobsError(f"node {node} has {difference}; install the same versions on all nodes")
        slot.node = node

    def _finished(self, job: Job, answer: Answer) -> Finished:
        if answer.log and self._workers.logs is not None:
            self._workers.logs.mkdir(parents=True, exist_ok=True)
            (self._workers.logs / f"{job.name}.log").write_bytes(answer.log)
        trouble, message, value, error = answer.trouble, answer.message, None, None
        try:
            value = None if answer.value is None else pickle.loads(answer.value)
            error = None if answer.error is None else pickle.loads(answer.error)
        except Exception as poison:  # any: a value unpickles as it likes
            trouble, message, value, error = "raised", text_of(poison), None, poison
        return Finished(job, value, trouble, message, error, answer.seconds)

    def _lost(self, slot: _Slot, error: Exception) -> list[Finished]:
        """A place is gone: its job is done elsewhere, unless it was at several places that were lost."""
        self._slots.remove(slot)
        self._leave(slot)
        if slot.job is None:
            return []
        job = slot.job.job
        self._losses[job.name] += 1
        if self._losses[job.name] < ATTEMPTS:
            self._queue.appendleft(slot.job)
            return []
        del self._losses[job.name]
        text = f"the worker died: its node or its place there was lost {ATTEMPTS} times; the last time: {error}"
        return [Finished(job, None, "died", " ".join(text.split()))]

    def _require_room(self) -> None:
        """Raise JobsError when jobs wait, and no node could do one for a while."""
        needs = self._workers.needs
        waits = bool(self._queue) and not any(slot.node for slot in self._slots)
        if not waits or _capacity(self._ray.cluster_resources(), needs):
            self._lacking_since = math.inf
            return
        self._lacking_since = min(self._lacking_since, time.monotonic())
        if time.monotonic() - self._lacking_since > PATIENCE_S:
            raise JobsError(f"no node of the cluster has {_text(needs)} any more{_advice(needs)}")


def _text(needs: Needs) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in _wanted(needs).items())


def _advice(needs: Needs) -> str:
    return f"; on the host that has it: munas-hil worker --board {needs.board} --cluster ..." if needs.board else ""
