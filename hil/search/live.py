"""A running search as a result: its trials so far, its front, what is in training. Read from the store."""

from __future__ import annotations

from dataclasses import replace

from hil.errors import UsageError
from hil.measure.measurement import Identity
from hil.search.errors import mapped
from hil.search.export import Export
from hil.search.finals import FinalsPlan
from hil.search.front import front_of
from hil.search.request import STORE_FILE, Request
from hil.search.result import SearchResult
from hil.search.summary import summarise
from munas.search.store import SearchStore
from munas.search.study import Outcome
from munas.search.study_summary import Tally


def so_far(request: Request, identity: Identity) -> SearchResult:
    """What the store of a running search has, as a result without finalists; `notes` say what is in training.

    Raises UsageError before there is a store, StoreError for one that cannot be read.
    """
    path = request.folder / STORE_FILE
    if not path.is_file():
        raise UsageError("the search has not begun yet")
    with mapped(), SearchStore(path) as store:
        trials, pending, state = list(store.results()), store.pending(), store.state()
        tally = Tally(request.limits.bounds)
        for trial in trials:
            tally.tell(trial)
        elapsed_s = max((item.finished_s for item in trials), default=0.0)
        outcome = Outcome(tally.summary(0 if state is None else state.rejected, elapsed_s), "time")
        bounds, hard = request.limits.bounds, request.limits.hard
        front = front_of(trials, bounds, hard, request.export.front, request.assessor.num_classes)
        training = ", ".join(f"#{task.trial.index} ({task.trial.change})" for task in pending) or "nothing"
        notes = (f"The search is running. In training: {training}.",)
        plan = FinalsPlan((), (), request.export.effort)
        export = Export(front, plan, (), None, False, notes, 0.0)
        return replace(summarise(request, identity, store, trials, outcome, export), stop_reason="running")
