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
import pickle
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from munas.closing import Closing
from munas.errors import JobsError, PlaceUnfit
from munas.jobs.base import Finished, Job, Jobs, Needs, Work, Workers
from munas.jobs.connection import Lifeline, connected
from munas.jobs.frames import sendable
from munas.jobs.place import Answer, Place, Versions, versions
from munas.jobs.words import text_of

ATTEMPTS = 3  # at a job whose place was lost: it may be what kills its node
PATIENCE_S = 60.0  # for a place, when no node has one; a node that restarts takes that long
POLL_S = 1.0
_log = logging.getLogger("munas.jobs")


@dataclass(frozen=True, slots=True)
class RayBackend:
    """The cluster at `address`: ``auto`` (one that this machine is part of), ``HOST:PORT``, or ``ray://HOST:PORT``."""

    address: str = "auto"

    def open(self, workers: Workers) -> Jobs:
        """See `munas.jobs.base.JobBackend`."""
        return RayJobs(self.address, workers)

    def capacity(self, needs: Needs) -> int:
        """How many jobs of such needs the cluster has room for, when nobody else uses it. Raises JobsError."""
        with connected(self.address) as ray, _answering(ray):
            return _room(ray, needs)


def _wanted(needs: Needs) -> dict[str, float]:
    """What one job occupies, in Ray's words."""
    wanted = {"CPU": needs.cpus, "GPU": needs.gpus, "memory": float(needs.memory_bytes)}
    if needs.board:
        wanted[board_resource(needs.board)] = 1.0
    return {name: amount for name, amount in wanted.items() if amount}


def board_resource(board: str) -> str:
    """The name of a board among a node's resources."""
    return f"board:{board}"


def _room(ray: Any, needs: Needs) -> int:
    """How many jobs all nodes have room for: one job has one node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = _wanted(needs).items()
    return sum(min(math.floor(there.get(name, 0.0) / amount) for name, amount in wanted) for there in nodes)


@contextlib.contextmanager
def _answering(ray: Any) -> Iterator[None]:
    """What Ray raises when it cannot do what it is asked to, as JobsError."""
    try:
        yield
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise JobsError(f"the cluster failed: {_first_line(error)}; run the same command again") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A job, and what its place is told: the reference of its work, its argument pickled."""

    job: Job
    work: Any
    argument: bytes


@dataclass(slots=True)
class _Slot:
    """A place: `reference` is what it was asked for last. It has no job before it has said who it is."""

    actor: Any
    reference: Any
    node: str = ""
    job: _Waiting | None = None
    work: Any = None  # that it has: it would look for it again each time

    @property
    def is_free(self) -> bool:
        return bool(self.node) and self.job is None


class RayJobs(Closing):
    """See `munas.jobs.base.Jobs`."""

    def __init__(self, address: str, workers: Workers) -> None:
        self._connection = contextlib.ExitStack()
        self._ray, self._workers = self._connection.enter_context(connected(address)), workers
        self._count = workers.count
        self._queue: deque[_Waiting] = deque()
        self._slots: list[_Slot] = []
        self._works: dict[int, tuple[Work, Any]] = {}  # by id: the work itself, its reference
        self._losses: Counter[str] = Counter()  # by job
        self._lacking_since = math.inf
        try:
            with _answering(self._ray):
                self._lifeline = Lifeline.of(self._ray)
                if not _room(self._ray, workers.needs):
                    raise JobsError(f"no node of the cluster has {_text(workers.needs)}{_advice(workers.needs)}")
        except BaseException:
            self._connection.close()
            raise

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
        with _answering(self._ray):
            self._queue.append(_Waiting(job, self._reference(job), sendable(job.name, job.argument)))
            self._assign()

    def wait(self, timeout_s: float = math.inf) -> list[Finished]:
        """See `munas.jobs.base.Jobs`."""
        with _answering(self._ray):
            return self._waited(timeout_s)

    def _waited(self, timeout_s: float) -> list[Finished]:
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
            self._lifeline.require()
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
        self._connection.close()

    # -- places --

    def _assign(self) -> None:
        """Give waiting jobs to free places; ask for more places while there are jobs for them."""
        for slot in self._slots:
            if slot.is_free and self._queue:
                slot.job = item = self._queue.popleft()
                job = item.job
                work = None if slot.work is item.work else item.work
                slot.reference = slot.actor.do.remote(work, job.name, item.argument, job.limits)
                slot.work = item.work
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

    def _reference(self, job: Job) -> Any:
        """Of a job's work, which is put into the object store once."""
        known = self._works.get(id(job.work))
        if known is None:
            known = self._works[id(job.work)] = job.work, self._ray.put(sendable(job.name, job.work))
        return known[1]

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
                raise type(cause)(f"node {slot.node}: {cause}") from error
            raise JobsError(_failed(cause)) from error
        except self._ray.exceptions.RayError as error:
            if getattr(error, "actor_init_failed", False):  # asking for another place would go on for ever
                raise JobsError(_failed(error)) from error
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
            _log.warning("munas-hil: going on without a place at node %s: %s", slot.node, finished.message)
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
        _log.warning("munas-hil: a place%s was lost: %s", slot.node and f" at node {slot.node}", _first_line(error))
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
        if not waits or _room(self._ray, needs):
            self._lacking_since = math.inf
            return
        self._lacking_since = min(self._lacking_since, time.monotonic())
        if time.monotonic() - self._lacking_since > PATIENCE_S:
            raise JobsError(f"no node of the cluster has {_text(needs)} any more{_advice(needs)}")


def _failed(error: BaseException) -> str:
    """Of a place where nothing can be done, in one line: Ray's text ends with that of the node's own error."""
    text = (str(error).strip() or type(error).__name__).splitlines()[-1]
    advice = "; install munas-hil, and the same version of it, on all nodes" if "No module named" in text else ""
    return f"a node of the cluster cannot do jobs: {text}{advice}"


def _text(needs: Needs) -> str:
    """In words; of memory, in MiB."""
    wanted = _wanted(needs)
    memory = [f"{wanted.pop('memory') / 2**20:.0f} MiB of memory"] if "memory" in wanted else []
    return ", ".join([*(f"{amount:g} {name}" for name, amount in wanted.items()), *memory])


def _advice(needs: Needs) -> str:
    return f"; on the host that has it: munas-hil worker --board {needs.board} --cluster ..." if needs.board else ""
