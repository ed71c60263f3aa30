"""The head of a search's report: the winner, what was searched, and where every figure comes from."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from hil.measure.measurement import Identity
from hil.report.charts import numbers
from hil.report.headline import Fact, Tile, via_name
from hil.report.search.series import latency_text, latency_unit
from hil.report.search.tables import measured_value, predicted_value, value_text
from hil.search.result import Finalist, SearchResult
from hil.timers import words_of

STOPS = {
    "trials": "all trials asked for were made",
    "time": "its time was used up",
    "running": "it is running",
    "interrupted": "it was interrupted and can be resumed",
}
SETTING_NAMES = {
    "mode": "Graph of the proxies", "effort": "Effort", "halving": "Halving", "sparsity": "Sparsity",
    "inherit": "Inherited weights", "pool": "Proposals for a trial",
    "surrogate_rank": "Surrogate's rank correlation", "recipe_kind": "Recipe",
    "population": "Population", "sample": "Sample", "trials": "Trials",
    "expected_trials": "Trials expected", "final_effort": "Final effort", "final_seeds": "Final seeds",
    "mlp": "MLP space", "time_limit_s": "Time limit", "memory_limit_bytes": "Worker's memory",
}  # fmt: skip
Z95 = 1.96


def place_name(identity: Identity) -> str:
    """Where measured figures come from, in three words: it stands under every figure."""
    where = f"simulated by {via_name(identity.via)}" if identity.simulated else "measured on the board"
    return f"{where}, {identity.timer}"


def sentence(result: SearchResult) -> str:
    """The finding in a sentence."""
    best = result.best()
    tried = numbers.plural(len(result.points), "trial")
    if best is None:
        within = sum(item.feasible for item in result.points)
        if not result.points:
            return "No trial was finished. There is nothing to show."
        if within == 0:
            return f"None of {tried} meets every bound. The figures show how near they came."
        return f"{within} of {tried} meet every bound, but no network was re-trained and exported."
    return f"Out of {tried}, the winner {_accuracy_words(result, best)}{_cost_words(result, best)}"


def _accuracy_words(result: SearchResult, best: Finalist) -> str:
    if best.test_accuracy is None:
        return f"has a validation error of {numbers.percent(best.mean_error)}, not tested,"
    examples = f"{result.test_examples:,} " if result.test_examples else ""
    return (
        f"gets {numbers.percent(best.test_accuracy)} of the {examples}test examples of {result.dataset} right as an "
        "int8 network,"
    )


def _cost_words(result: SearchResult, best: Finalist) -> str:
    found = best.measured
    if found is None:
        costs = best.predicted
        return (
            f" in {numbers.size(costs.ram)} of RAM and {numbers.size(costs.flash)} of flash as predicted; it was not "
            "measured."
        )
    return (
        f" in {numbers.size(found.ram)} of RAM and {numbers.size(found.flash)} of flash, all included. "
        f"One inference takes {latency_text(result, found.latency)}."
    )


def provenance(result: SearchResult) -> str:
    """Where times come from: nobody should take a simulated figure for a real one."""
    identity = result.identity
    timer = words_of(identity.timer)
    if not identity.simulated:
        return f"Accuracy is LiteRT's on the host, whose outputs the board repeated bit for bit; times are {timer}."
    worth = "" if result.milliseconds_per_unit is not None else " They say nothing about milliseconds."
    return (
        f"No board was involved. {via_name(identity.via)} ran the firmware for {identity.board}; times are {timer}."
        f"{worth} Accuracy is the host's, with outputs that the emulated device repeated bit for bit."
    )


def tiles(result: SearchResult) -> tuple[Tile, ...]:
    """The key figures: the winner's, each against its bound, then the search's."""
    best = result.best()
    search = (
        Tile("Trials finished", numbers.count(len(result.points)),
             f"{result.failed} failed, {stopped(result)} stopped early, {result.rejected:,} rejected untrained"),
        Tile("Trials a minute", numbers.fixed(rate(result), 1),
             f"{numbers.plural(result.workers, 'worker')}, {numbers.seconds(result.seconds)} of searching"),
    )  # fmt: skip
    if best is None:
        return search
    accuracy = numbers.MISSING if best.test_accuracy is None else numbers.percent(best.test_accuracy)
    return (
        Tile("Test accuracy, int8", accuracy, _accuracy_note(result, best)),
        Tile("Validation error, int8", numbers.percent(best.mean_error),
             _over_seeds(best), *_against(result, best, "error")),
        *(_cost_tile(result, best, key, name) for key, name in
          (("ram", "RAM"), ("flash", "Flash"), ("latency", "Latency"))),
        Tile("MACs", numbers.significant(best.predicted.macs),
             f"{numbers.plural(best.predicted.model_size, 'weight')} and biases", *_against(result, best, "macs")),
        *search,
    )  # fmt: skip


def _accuracy_note(result: SearchResult, best: Finalist) -> str:
    if best.test_accuracy is None or not 0 <= best.test_accuracy <= 1 or not result.test_examples:
        return "test set touched once, at the end"
    low, high = _wilson(best.test_accuracy, result.test_examples)
    span = f"{low * 100:.1f} to {high * 100:.1f}{numbers.NBSP}%"
    return f"95{numbers.NBSP}% interval {span} by the size of the test set; seed {best.chosen_seed}"


def _wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a probability of which `share` was found in `count` trials (Wilson 1927): it is no point
    where all of few were right."""
    spread = Z95**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def _over_seeds(best: Finalist) -> str:
    seeds = f"mean of {numbers.plural(len(best.seed_errors), 'seed')}"
    return seeds if best.spread is None else f"{seeds}, sd {best.spread * 100:.2f}{numbers.NBSP}%"


def _cost_tile(result: SearchResult, best: Finalist, key: str, name: str) -> Tile:
    measured = measured_value(best, key)
    value = predicted_value(best, key) if measured is None else measured
    how = "predicted, not measured" if measured is None else place_name(result.identity)
    if key == "flash" and measured is not None and best.measured is not None:
        how = f"{numbers.size(best.measured.flash_weights)} of it weights and tables; linked"
    if key == "ram" and measured is not None and best.measured is not None:
        how = f"{numbers.size(best.measured.arena)} of it arena; linked and scanned"
    text = value_text(result, key, value)
    if key == "latency" and result.milliseconds_per_unit is None and value is not None:
        how = how.replace(f", {result.identity.timer}", "")  # its name says the unit again
        text, how = numbers.significant(value), f"{latency_unit(result)}; {how}"
    return Tile(name, text, how, *_against(result, best, key))


def _against(result: SearchResult, best: Finalist, key: str) -> tuple[str, bool | None]:
    bound = result.bounds.get(key)
    if bound is None:
        return "", None
    value = measured_value(best, key)
    value = predicted_value(best, key) if value is None else value
    return f"bound {value_text(result, key, bound)}", None if value is None else value <= bound


def stopped(result: SearchResult) -> int:
    """Trials that halving ended early."""
    return sum(item.stopped for item in result.points)


def rate(result: SearchResult) -> float:
    """Trials a minute."""
    return len(result.points) * 60 / result.seconds if result.seconds > 0 else math.nan


def facts(result: SearchResult) -> tuple[Fact, ...]:
    """What was searched, with what: all that a repetition needs."""
    identity, preset = result.identity, result.preset
    examples = (f"{result.train_examples:,} train,", f"{result.validation_examples:,} validation,",
                f"{result.test_examples:,} test")  # fmt: skip
    speed = math.nan if result.images_per_second is None else result.images_per_second
    return (
        Fact("Data set", (result.dataset,)), Fact("Examples", examples if result.train_examples else ("not recorded",)),
        Fact("Input", (numbers.shape(result.input_shape),)), Fact("Classes", (str(result.num_classes),)),
        Fact("Board", (identity.board,)), Fact("Via", (via_name(identity.via),)),
        Fact("Simulated", ("yes, no board was involved" if identity.simulated else "no",)),
        Fact("Timer", (identity.timer,), code=True), Fact("Runtime", (identity.runtime,)),
        Fact("Kernels", tuple(identity.kernels.split())), Fact("Optimised for", (identity.optimise,)),
        Fact("Strategy", (result.strategy,)), Fact("Seed", (str(result.seed),)),
        *([Fact("Preset", (preset,))] if preset else []),
        *(Fact(name, (_setting(key, result.settings[key]),)) for key, name in SETTING_NAMES.items()
          if key in result.settings),
        Fact("Training speed", (f"{numbers.significant(speed)} examples/s a worker",)),
        Fact("Started", (_utc(result.started),)), Fact("Finished", (_utc(result.finished),)),
        Fact("Ended because", (STOPS.get(result.stop_reason, result.stop_reason),)),
        Fact("Data SHA-256", (result.dataset_sha256,), code=True, wide=True),
        Fact("Compiler", tuple(identity.compiler.split()), wide=True),
        Fact("Firmware sources", (identity.firmware,), code=True, wide=True),
    )  # fmt: skip


def _utc(moment: str) -> str:
    """``2026-11-22 09:46:57 UTC`` of an ISO 8601 moment; anything else as it is."""
    try:
        found = datetime.fromisoformat(moment).astimezone(UTC)
    except ValueError:
        return moment
    return f"{found:%Y-%m-%d %H:%M:%S} UTC"


def _setting(key: str, value: object) -> str:
    if value is None:
        return {"sparsity": "off", "trials": "as time allows"}.get(key, "none")
    if isinstance(value, bool):
        return "on" if value else "off"
    if key == "memory_limit_bytes" and isinstance(value, int):
        return numbers.size(value)
    if key.endswith("_s") and isinstance(value, int | float):
        return numbers.seconds(float(value))
    if isinstance(value, list | tuple):
        return " to ".join(f"{item:g}" if isinstance(item, int | float) else str(item) for item in value)
    return f"{value:,}" if isinstance(value, int | float) else numbers.shorten(str(value), 80)


def methods(result: SearchResult) -> tuple[tuple[str, str], ...]:
    """Notes on method: (what, how)."""
    return (
        ("Error", "Of the full-int8 network on the validation set, that no weight was fitted to: a tenth of the "
         "training examples, stratified, where the data set has none of its own. Networks stopped early keep the error "
         "that they had, which cannot be compared with that of networks trained to the end. The test set was used "
         "once, for the finalists, after the winner was named by the mean error over its seeds."),
        ("RAM, flash", "As the runtime uses them: arena, stack and static data; weights, multipliers, tables and code. "
         "Of the trials they are predicted from the architecture, of the finalists they are measured from the "
         "linked image and from what the device found overwritten. 1 KB is 1024 bytes."),
        ("Latency", _latency_note(result)),
        ("Front", "A network is on the front of the search when none is better in one of error, RAM, flash and latency "
         "(MACs without a calibration) and as good in the others. The line in a figure is the front of its two axes "
         "alone, over networks trained to the end."),
        ("Pruning", "Whole channels are removed during training, aligned across everything that meets in an addition; "
         "sizes after pruning are those of the network that was emitted and deployed."),
        ("Outside", "A measured RAM or flash above its prediction, or a latency outside the calibration's interval. "
         "Memory never may be; latencies have drifted, and ask for a new calibration, when more are outside than "
         "chance explains, or one by more than its interval is wide."),
        ("Repeatable", "With one worker, the same seed and software give the same search. With several, trials "
         "come back in another order, and parents are drawn from other populations."),
    )  # fmt: skip


def _latency_note(result: SearchResult) -> str:
    if not result.calibrated:
        return "No calibration was given: latency was not predicted, MACs stand for it, memory has a cautious margin."
    again = " The finalists' measurements went into a new calibration." if result.recalibrated else ""
    return (
        f"Predicted per operator by a calibration of the identity above, in {latency_unit(result)}; of the finalists "
        f"the median of several inferences, {place_name(result.identity)}.{again}"
    )
