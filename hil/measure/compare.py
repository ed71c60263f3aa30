"""Two runs side by side: what got larger or slower, and whether a policy allows it.

Runs are comparable when their identities are equal but for the fields that the policy (or the caller) declares to be
what is compared. Kinds of time are never compared with each other, whatever a policy says. Networks are paired by their
.tflite's hash, or by name when the networks themselves are declared to differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hil.errors import CalibrationMismatch, UsageError
from hil.files import FOREIGN, read_json, read_toml
from hil.jobs.store import Result, Store
from hil.measure.measurement import Identity, Measurement, Memory, measurement_from_json
from hil.measure.result import RESULT_FILE, is_measurement_document, measurement_result
from hil.timers import unit_of

MODEL = "model"  # declared when the networks themselves are what differs
NEVER = ("timer", "simulated", "cycle_model")
DECLARABLE = (MODEL, *(item.name for item in fields(Identity) if item.name not in NEVER))
METRICS = ("latency", *(item.name for item in fields(Memory)))
DEFAULT_LIMITS = {"latency": "1%", "ram_total": 0, "flash_total": "1%"}


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a figure may grow: by `fraction` of what it was, and by `absolute` (bytes, or the unit of time)."""

    fraction: float = 0.0
    absolute: float = 0.0

    def allows(self, before: float, after: float) -> bool:
        """Whether growing from `before` to `after` is within the limit."""
        return after <= before * (1.0 + self.fraction) + self.absolute

    def __str__(self) -> str:
        return f"{100 * self.fraction:g} %" if self.fraction else f"{self.absolute:g}"


def parse_limit(value: Any, where: str) -> Limit:
    """From ``"2%"`` (of what it was) or a number (bytes, or the unit of time). Raises UsageError."""
    try:
        if isinstance(value, str) and value.endswith("%"):
            limit = Limit(fraction=float(value[:-1]) / 100)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            limit = Limit(absolute=float(value))
        else:
            raise ValueError("neither a number nor a percentage")
        if not 0 <= limit.fraction + limit.absolute < float("inf"):
            raise ValueError("negative or not finite")
    except ValueError as error:
        raise UsageError(f'{where}: {value!r} is not a limit such as "2%" or 64 ({error})') from error
    return limit


def _defaults() -> dict[str, Limit]:
    return {name: parse_limit(value, name) for name, value in DEFAULT_LIMITS.items()}


@dataclass(frozen=True, slots=True)
class Policy:
    """`differing`: what may differ between the runs. Limits by metric, for each network and for the sum of all.

    `allow_missing`: networks of the first run that the second lacks are no regression.
    """

    differing: tuple[str, ...] = ()
    model: Mapping[str, Limit] = field(default_factory=_defaults)
    total: Mapping[str, Limit] = field(default_factory=dict)
    allow_missing: bool = False


def load_policy(path: Path) -> Policy:
    """Read a policy: keys ``differing``, ``allow_missing``, tables ``[model]`` and ``[total]``. Raises UsageError."""
    document = read_toml(path, "policy")
    _known(document, ("differing", "allow_missing", "model", "total"), str(path))
    differing, missing = document.get("differing", []), document.get("allow_missing", False)
    if not isinstance(differing, list) or not isinstance(missing, bool):
        raise UsageError(f"{path}: differing is a list of names, allow_missing is true or false")
    limits = {name: _limits(document[name], f"{path}: [{name}]") for name in ("model", "total") if name in document}
    return Policy(declared(differing), limits.get("model", {}), limits.get("total", {}), missing)


def _limits(table: Any, where: str) -> dict[str, Limit]:
    if not isinstance(table, dict):
        raise UsageError(f"{where} is not a table")
    _known(table, METRICS, where)
    return {name: parse_limit(value, f"{where}, {name}") for name, value in table.items()}


def _known(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    unknown = [name for name in table if name not in known]
    if unknown:
        raise UsageError(f"{where}: unknown key {unknown[0]!r} (known: {', '.join(known)})")


def declared(names: Sequence[Any]) -> tuple[str, ...]:
    """Checked names of what may differ. Raises UsageError."""
    for name in names:
        if name in NEVER:
            raise UsageError(f"{name!r} may never differ: figures of different kinds of time say nothing of each other")
        if name not in DECLARABLE:
            raise UsageError(f"{name!r} cannot be declared to differ (known: {', '.join(DECLARABLE)})")
    return tuple(dict.fromkeys(names))


# --- runs -------------------------------------------------------------------------------------------------------


def read_run(path: Path) -> list[Measurement]:
    """Measurements that one command left, all of one identity. Raises UsageError, StoreError.

    `path` is a `measure --json` file, a folder of `measure -o` (or the result.json in it), or a campaign's run folder.
    """
    try:
        found = [_checked(item) for item in (_of_folder(path) if path.is_dir() else _of_file(path))]
    except FOREIGN as error:
        what = f"{type(error).__name__}: {error}"[:200]
        raise UsageError(f"{path} is not what `munas-hil measure` writes ({what})") from error
    if not found:
        raise UsageError(f"{path} holds no measurement")
    for item in found[1:]:
        found[0].identity.require_same(item.identity, f"{item.model} in {path}")
    return found


def _of_file(path: Path) -> list[Measurement]:
    document = read_json(path)
    if is_measurement_document(document):
        return [item.measurement for item in measurement_result(document, path).networks]
    if not isinstance(document, list):
        raise UsageError(
            f"{path} is neither a list of measurements, as `munas-hil measure --json` prints, nor what"
            " `munas-hil measure -o` leaves"
        )
    return [measurement_from_json(item) for item in document]


def _of_folder(folder: Path) -> list[Measurement]:
    """What `measure -o` left in `folder`; else what a campaign stored there (its result.json is no measurement's)."""
    store, result = folder / "store.sqlite", folder / RESULT_FILE
    if not store.is_file():
        if not result.is_file():
            raise UsageError(
                f"{folder} is no run folder: it has neither {RESULT_FILE} of `measure -o` nor store.sqlite"
            )
        return _of_file(result)
    return [measurement_from_json(item) for item in _stored(store)]


def _stored(path: Path) -> list[Any]:
    """Measurements of the newest run in a campaign's store that has any."""
    with Store(path) as store:
        for run_id in sorted(store.runs(), reverse=True):
            if found := [_measured(result) for result in store.results(run_id) if result.status == "ok"]:
                return found
    return []


def _measured(result: Result) -> Any:
    """The measurement of a result that has one. Raises UsageError where the record is something else."""
    if not isinstance(result.record, dict) or "measurement" not in result.record:
        raise UsageError(f"sample {result.sample} of that run has no measurement; the run of verify, perhaps?")
    return result.record["measurement"]


def _checked(item: Measurement) -> Measurement:
    """That figures are figures: JSON holds anything. Raises ValueError or TypeError."""
    figures = [*item.latency.samples, *(getattr(item.memory, name.name) for name in fields(Memory))]
    figures += [item.outputs.checked, item.outputs.mismatched]
    if not item.latency.samples or any(type(value) is not int or value < 0 for value in figures):
        raise ValueError(f"a figure of {item.model!r} is not a whole number")
    if unit_of(item.identity.timer) != item.latency.unit:
        raise ValueError(f"{item.identity.timer!r} does not count {item.latency.unit!r}")
    return item


# --- comparing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and after; `limit` is None where the policy has none."""

    before: float
    after: float
    limit: Limit | None = None

    @property
    def worse(self) -> bool:
        """Whether it grew beyond its limit."""
        return self.limit is not None and not self.limit.allows(self.before, self.after)

    @property
    def percent(self) -> float | None:
        """Growth in per cent; None from nothing to something."""
        if self.before == 0:
            return 0.0 if self.after == 0 else None
        return 100.0 * (self.after - self.before) / self.before

    def to_json(self) -> dict[str, Any]:
        """As `compare --json` prints it."""
        return {"before": self.before, "after": self.after, "percent": self.percent, "worse": self.worse}


@dataclass(frozen=True, slots=True)
class Pair:
    """One network in both runs: changes by metric, and outputs that are wrong in the second."""

    model: str
    sha256: tuple[str, str]
    changes: Mapping[str, Change]
    mismatched: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """`differing` maps the declared identity fields that do differ to both values. Each regression is a sentence."""

    unit: str
    differing: Mapping[str, tuple[Any, Any]]
    pairs: tuple[Pair, ...]
    total: Mapping[str, Change]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    regressions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `compare --json`."""
        return {
            "unit": self.unit, "differing": {name: list(both) for name, both in self.differing.items()},
            "models": [
                {"model": pair.model, "sha256": pair.sha256[1], "outputs_mismatched": pair.mismatched,
                 "metrics": _changes_json(pair.changes)}
                for pair in self.pairs
            ],
            "total": _changes_json(self.total), "missing": list(self.missing), "added": list(self.added),
            "regressions": list(self.regressions),
        }  # fmt: skip


def _changes_json(changes: Mapping[str, Change]) -> dict[str, Any]:
    return {name: change.to_json() for name, change in changes.items()}


def compare(before: Sequence[Measurement], after: Sequence[Measurement], policy: Policy = Policy()) -> Comparison:
    """Compare two runs. Raises CalibrationMismatch when they cannot be, UsageError without a common network."""
    differing = _differing(before[0].identity, after[0].identity, policy)
    first, second = (_keyed(run, MODEL in policy.differing) for run in (before, after))
    common = [key for key in first if key in second]
    if not common:
        raise UsageError("the runs have no network in common (to pair them by name: --differing model)")
    pairs = tuple(_pair(first[key], second[key], policy) for key in common)
    total = {
        name: Change(
            sum(pair.changes[name].before for pair in pairs), sum(pair.changes[name].after for pair in pairs),
            policy.total.get(name),
        )
        for name in METRICS
    }  # fmt: skip
    missing = tuple(first[key].model for key in first if key not in second)
    regressions = [text for pair in pairs for text in _worse(pair.model, pair.changes)]
    regressions += [f"{pair.model}: {pair.mismatched} wrong outputs" for pair in pairs if pair.mismatched]
    regressions += _worse("total", total)
    if not policy.allow_missing:
        regressions += [f"{name}: missing in the second run" for name in missing]
    added = tuple(second[key].model for key in second if key not in first)
    return Comparison(after[0].latency.unit, differing, pairs, total, missing, added, tuple(regressions))


def _differing(before: Identity, after: Identity, policy: Policy) -> dict[str, tuple[Any, Any]]:
    allowed = [name for name in policy.differing if name != MODEL]
    levelled = replace(after, **{name: getattr(before, name) for name in allowed})
    try:
        before.require_same(levelled, "the second run")
    except CalibrationMismatch as error:
        raise CalibrationMismatch(f"not comparable: {error} (say what is compared with --differing NAME)") from error
    both = {name: (getattr(before, name), getattr(after, name)) for name in allowed}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def _keyed(run: Sequence[Measurement], by_name: bool) -> dict[str, Measurement]:
    keyed = {item.model if by_name else item.sha256: item for item in run}
    if by_name and len(keyed) != len(run):
        raise UsageError("a run has several networks of one name; they cannot be paired by name")
    return keyed


def _figures(item: Measurement) -> dict[str, float]:
    return {name: item.latency.median if name == "latency" else getattr(item.memory, name) for name in METRICS}


def _pair(before: Measurement, after: Measurement, policy: Policy) -> Pair:
    was, now = _figures(before), _figures(after)
    changes = {name: Change(was[name], now[name], policy.model.get(name)) for name in METRICS}
    return Pair(after.model, (before.sha256, after.sha256), changes, after.outputs.mismatched)


def _worse(what: str, changes: Mapping[str, Change]) -> list[str]:
    return [
        f"{what}: {name} went from {change.before:,.10g} to {change.after:,.10g}; allowed is {change.limit} more"
        for name, change in changes.items()
        if change.worse
    ]
