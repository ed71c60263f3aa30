"""Fits on times made of known loop costs: the costs come back, and errors are what they should be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hil.calibration.fit import (
    Observation,
    fit_latency,
    fit_once,
    folds_of,
    metrics,
    path_errors,
    relative_nnls,
    spearman,
)
from hil.calibration.fit_memory import Image, fit_memory
from hil.errors import UsageError
from hil.measure.measurement import Memory
from munas.arch.graph import build_graph
from munas.arch.space import random_cnn
from munas.cost.estimate import works_of
from munas.cost.gathers import CONV_TRIPS, DW_TRIPS, PLANE_TRIPS, Window
from munas.cost.interpreted import INTERPRETED
from munas.cost.kernels import (
    KernelVariant,
    Work,
    conv,
    dense,
    depthwise,
    depthwise_clamped,
    depthwise_plain,
    pool,
)
from munas.cost.variants import loop_counts, loop_names, same_cost

NOISE = 0.002


def cost(path: KernelVariant) -> np.ndarray:
    """Invented instructions for each loop of a path; the same in every run."""
    rng = np.random.default_rng(sorted(KernelVariant).index(min(same_cost(path))))
    return 3.0 + 20.0 * rng.random(len(loop_names(path)))


def observe(index: int, rng: np.random.Generator, noise: float = 0.0) -> Observation:
    """A random network on a device that costs exactly `cost` (and some noise), 90 for each step, 500 in all."""
    shape = [(28, 28, 1), (32, 32, 3), (49, 40, 1)][index % 3]
    works = works_of(build_graph(random_cnn(rng), shape, 10), dense_per_channel=bool(index % 2))
    times = [float(cost(work.variant) @ loop_counts(work)) * (1 + noise * rng.standard_normal()) for work in works]
    return Observation(index, works, tuple(times), 500.0 + 90.0 * len(works) + sum(times))


@pytest.fixture(scope="module")
def observations() -> list[Observation]:
    rng = np.random.default_rng(11)
    return [observe(index, rng, NOISE) for index in range(150)]


def test_known_costs_come_back() -> None:
    rng = np.random.default_rng(4)
    latency = fit_once([observe(index, rng) for index in range(120)], "instructions")
    assert latency.fixed == pytest.approx(500, rel=1e-3)
    assert latency.per_step == pytest.approx(90, rel=1e-3)
    unseen = [observe(index, rng) for index in range(40)]
    for network in unseen:
        prediction = latency.predict(network.works)
        if not prediction.uncalibrated:
            assert prediction.latency == pytest.approx(network.total, rel=0.01)
            assert prediction.layers == pytest.approx(network.times, rel=0.05)


@pytest.mark.slow
def test_validation_is_by_network_and_tells_the_fits_apart(observations: list[Observation]) -> None:
    fit = fit_latency(observations, "instructions", seed=1)
    assert fit.per_operator.mape < 0.01
    assert fit.per_operator.within_10pct == 1.0
    assert fit.per_operator.r2 > 0.999
    assert fit.mac_only.mape > 5 * fit.per_operator.mape
    assert fit.mac_only.spearman < fit.per_operator.spearman
    assert 0.9 <= fit.coverage <= 1.0
    assert len(fit.held) == len(observations)
    assert {held.fold for held in fit.held} == set(range(10))
    assert fit.latency.low < 0 < fit.latency.high
    assert fit_latency(observations, "instructions", seed=1) == fit
    assert fit_latency(observations, "instructions", seed=2).held != fit.held


def test_a_held_out_network_does_not_influence_its_own_prediction(observations: list[Observation]) -> None:
    fit = fit_latency(observations, "instructions", seed=1)
    victim = observations[7]
    spoilt = [replace(item, total=item.total * 5, times=tuple(5 * t for t in item.times)) if item is victim else item
              for item in observations]  # fmt: skip
    again = fit_latency(spoilt, "instructions", seed=1)
    assert again.held[7].per_operator == fit.held[7].per_operator
    assert again.held[7].mac_only == fit.held[7].mac_only


def test_the_interval_covers_what_it_says() -> None:
    rng = np.random.default_rng(8)
    everything = [observe(index, rng, 0.05) for index in range(260)]
    latency = fit_latency(everything[:200], "instructions", seed=1).latency
    inside = []
    for network in everything[200:]:
        prediction = latency.predict(network.works)
        inside.append(prediction.low <= network.total <= prediction.high)
    assert np.mean(inside) >= 0.85


def test_path_errors_add_up(observations: list[Observation]) -> None:
    fit = fit_latency(observations, "instructions", seed=1)
    errors = path_errors(observations, fit.held)
    assert sum(error.time_share for error in errors) == pytest.approx(1.0)
    assert sum(error.layers for error in errors) == sum(len(item.works) for item in observations)
    assert [error.time_share for error in errors] == sorted((error.time_share for error in errors), reverse=True)


def test_coefficients_are_never_negative_and_errors_are_relative() -> None:
    rng = np.random.default_rng(0)
    counts = rng.random((400, 5)) * [1, 10, 1e3, 1e5, 1e6]
    times = counts @ np.array([2.0, 0.0, 3.0, 1.0, 0.5]) * (1 + 0.01 * rng.standard_normal(400))
    found = relative_nnls(counts, times)
    assert (found >= 0).all()
    assert np.abs(counts @ found / times - 1).mean() < 0.012
    huge = times.copy()
    huge[0] *= 1.5  # one outlier among large times must not bend the small ones
    assert np.median(np.abs(counts @ relative_nnls(counts, huge) / times - 1)) < 0.02
    assert (relative_nnls(np.zeros((3, 2)), np.ones(3)) == 0).all()


def test_metrics_by_hand() -> None:
    measured = np.array([100.0, 200.0, 400.0, 1000.0])
    predicted = np.array([105.0, 180.0, 404.0, 700.0])
    found = metrics(measured, predicted)
    assert found.mape == pytest.approx((0.05 + 0.1 + 0.01 + 0.3) / 4)
    assert found.max_ape == pytest.approx(0.3)
    assert found.within_10pct == 0.75
    assert found.spearman == 1.0
    assert found.r2 == pytest.approx(1 - (25 + 400 + 16 + 90000) / ((measured - 425) ** 2).sum())


def test_spearman_shares_ranks_between_ties() -> None:
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([9.0, 5.0, 1.0])) == -1.0
    assert spearman(np.array([1.0, 1.0, 2.0]), np.array([1.0, 1.0, 7.0])) == pytest.approx(1.0)
    assert spearman(np.array([1.0, 2.0]), np.array([4.0, 4.0])) == 0.0
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 20, 200).astype(float), rng.integers(0, 20, 200).astype(float)
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)


def test_too_few_networks_is_a_usage_error(observations: list[Observation]) -> None:
    with pytest.raises(UsageError, match="19 networks"):
        fit_latency(observations[:19], "instructions", seed=1)


def test_folds_are_even() -> None:
    sizes = np.bincount(folds_of(103, 5))
    assert len(sizes) == 10
    assert sizes.max() - sizes.min() <= 1


# -- memory --

CODE = {
    KernelVariant.CONV_IM2COL: 900,
    KernelVariant.CONV_1X1: 700,
    KernelVariant.DW_3X3: 1300,
    KernelVariant.FC: 400,
    KernelVariant.MAX_POOL: 500,
    KernelVariant.ADD: 300,
}


def image(paths: set[KernelVariant], extra: int = 0) -> Image:
    functions = {"runtime": 4000, **{f"kernel_{path}": CODE[path] for path in paths}}
    if paths & {KernelVariant.CONV_IM2COL, KernelVariant.CONV_1X1}:
        functions["shared"] = 248
    code = 1000 + sum(functions.values()) + extra
    memory = Memory(100, 100, 300, 1024, 200, 1324 + extra, 1000, code, 1000 + code)
    return Image(frozenset(paths), 1000, memory, functions)


def combinations(seed: int, count: int) -> list[Image]:
    rng = np.random.default_rng(seed)
    everything = sorted(CODE)
    return [
        image({path for path in everything if rng.random() < 0.6} | {KernelVariant.FC}, int(rng.integers(0, 3)) * 4)
        for _ in range(count)
    ]


def test_code_is_never_undershot_and_hardly_overshot() -> None:
    seen, unseen = combinations(1, 80), combinations(2, 200)
    model = fit_memory(seen)
    for item in seen:
        assert 0 <= model.code(item.paths) - item.code <= 64
    assert max(model.code(item.paths) - item.code for item in unseen) <= 128
    assert model.static_ram == 208  # with alignment
    assert model.ram(5000) == 5000 + model.static_ram + 1024


def test_a_kernel_that_was_never_linked_is_unknown() -> None:
    model = fit_memory([image({KernelVariant.FC}), image({KernelVariant.FC, KernelVariant.ADD})])
    assert model.unknown([KernelVariant.FC, KernelVariant.SOFTMAX, KernelVariant.ADD]) == (KernelVariant.SOFTMAX,)
    assert model.unknown([KernelVariant.FC]) == ()


def test_a_kernel_whose_code_cannot_be_told_apart_is_still_known() -> None:
    model = fit_memory([image({KernelVariant.FC, KernelVariant.ADD}), image({KernelVariant.FC, KernelVariant.ADD})])
    assert model.unknown([KernelVariant.FC, KernelVariant.ADD]) == ()
    assert model.code([KernelVariant.FC, KernelVariant.ADD]) >= image({KernelVariant.FC, KernelVariant.ADD}).code


def test_an_unseen_combination_of_seen_kernels_is_exact() -> None:
    """Every kernel alone and two of them together say all there is to say about any combination."""
    model = fit_memory([image({path}) for path in CODE] + [image({KernelVariant.FC, KernelVariant.ADD})])
    for item in combinations(3, 50):
        assert model.code(item.paths) == image(set(item.paths)).code


def test_a_kernel_that_was_never_seen_alone_is_not_undershot() -> None:
    model = fit_memory([image({KernelVariant.FC}), image({KernelVariant.FC, KernelVariant.ADD, KernelVariant.DW_3X3})])
    for unseen in ({KernelVariant.FC, KernelVariant.ADD}, {KernelVariant.FC, KernelVariant.DW_3X3}):
        assert model.code(unseen) >= image(unseen).code


def test_what_a_kernel_brings_beside_its_functions_is_charged_to_it_alone() -> None:
    """Alignment, or assembly without a size: networks without the kernel are exact, those with it never undershot."""
    plain = [image({path}) for path in CODE if path is not KernelVariant.MAX_POOL]
    odd = [image({KernelVariant.MAX_POOL, path}, 8) for path in (KernelVariant.FC, KernelVariant.ADD)]
    model = fit_memory([*plain, *odd])
    for item in plain:
        assert model.code(item.paths) == item.code
    for item in odd:
        assert 0 <= model.code(item.paths) - item.code <= 4


def test_no_image_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no network"):
        fit_memory([])


TRIPS = {
    KernelVariant.DW_GENERIC: (9, 0, 0),
    KernelVariant.DW_MULT4: (9, 0, 0),
    **{path: (9,) * len(DW_TRIPS) for path in (KernelVariant.DW, KernelVariant.DW_ANY)},
    KernelVariant.DW_3X3: (9,) * len(DW_TRIPS + PLANE_TRIPS),
    **{path: (9,) * len(CONV_TRIPS) for path in KernelVariant if path.value.startswith("conv-")},
    **{path: (9,) * len(names) for path, (_, names) in INTERPRETED.items()},
}


def used(work: Work) -> dict[str, int]:
    """The loops that have trips, by name."""
    named = zip(loop_names(work.variant), loop_counts(work), strict=True)
    return {name: count for name, count in named if count}


def test_loop_counts_of_a_convolution_by_hand() -> None:
    # 5 pixels in 3 pairs, 7 rows (a four, a two, a one), 18 columns (3x3x2, runs of 6: a four and a pair).
    assert used(conv((3, 7, 2), (1, 5, 7), Window((3, 3)))) == {
        "calls": 1, "output_rows": 1, "pixels": 5, "runs": 5, "run_rows": 15, "run_entered": 15, "run_fours": 15,
        "run_pairs": 15,
        "single_pixels": 1, "packed_quad_runs": 3, "packed_quads": 3, "packed_quad_pairs": 27, "packed_quad_trips": 9,
        "rest_runs": 3, "twos": 3, "two_pairs": 27, "ones": 3, "one_quads": 12, "one_pairs": 3,
    }  # fmt: skip


def test_window_rows_that_begin_within_a_pair_of_columns() -> None:
    # 3x3x3: runs of 9 from columns 0, 9 and 18 on; the second begins with a single column, the others end with one.
    counts = used(conv((3, 3, 3), (1, 1, 4), Window((3, 3))))
    assert (counts["runs"], counts["run_rows"], counts["odd_ends"], counts.get("clipped_pixels")) == (1, 3, 1, None)
    assert (counts["run_fours"], counts["run_shifts"], counts["run_lasts"]) == (6, 1, 2)
    # Padded: a row of 9, then 3 columns from 9 and from 18 on, and runs of 6 behind them, from 12 and 21 on.
    counts = used(conv((2, 2, 3), (1, 1, 4), Window((3, 3), (1, 1), (1, 0, 1, 0))))
    assert (counts["runs"], counts["run_fours"], counts["run_pairs"], counts["run_shifts"]) == (2, 2, 1, 1)
    assert (counts["fills"], counts["fill_pairs"], counts["fill_shifts"], counts["fill_entered"]) == (3, 6, 1, 3)
    assert (counts["rows_above"], counts["clips_above"], counts["clips_left"]) == (1, 1, 1)
    assert (counts["clipped_pixels"], counts["clipped_rows"]) == (1, 3)


def test_a_dilated_row_is_gathered_tap_by_tap() -> None:
    # 1x3 taps of 2 channels, 1 apart: each of 3 pixels has a call for its row, of three runs of a pair of columns.
    counts = used(conv((1, 7, 2), (1, 3, 4), Window((1, 3), dilation=(1, 2))))
    assert (counts["clipped_pixels"], counts["runs"], counts["run_rows"], counts["run_pairs"]) == (3, 3, 9, 9)


def test_more_columns_than_a_packed_sum_has_room_for_are_taken_in_goes() -> None:
    for columns, goes in ((511, 0), (512, 1), (1015, 1), (1016, 2)):
        assert used(conv((1, 2, columns), (1, 2, 4), Window((1, 1)))).get("quad_goes", 0) == goes
    for columns, goes in ((3, 0), (511, 1), (512, 2), (1007, 2), (1008, 3)):
        assert used(dense(columns, 4)).get("goes", 0) == goes


def test_channels_in_fours_are_widened_sixteen_columns_at_a_time() -> None:
    # 3x1x12: one run of 36 columns for each of 2 pixels; of a single pixel of 23 columns by 1x1, a sixteen and a four.
    counts = used(conv((1, 4, 12), (1, 2, 4), Window((1, 3))))
    assert (counts["fours_sixteens"], counts["fours_singles"], counts["fours_rows"]) == (4, 2, 2)
    counts = used(conv((1, 1, 23), (1, 1, 4), Window((1, 1))))
    assert [counts[name] for name in ("sixteens", "single_fours", "rests", "rest_pairs", "rest_lasts")] == [1] * 5
    # Padded on all sides, 2x2x4: each of 4 pixels has 2 rows inside, with 2 columns filled, and one outside.
    counts = used(conv((2, 2, 4), (2, 2, 4), Window((3, 3), (1, 1), (1, 1, 1, 1))))
    assert (counts["clipped_pixels_in_fours"], counts["clipped_rows_in_fours"]) == (4, 12)
    assert (counts["fours_runs"], counts["fours_singles"]) == (8, 16)
    assert (counts["fours_fills"], counts["fours_filled"]) == (12, 20)


def test_loop_counts_of_a_depthwise_convolution_by_hand() -> None:
    # 6 channels in 2 groups; 2 rows of 3 pixels, windows of 3x3, two apart: read where they are.
    plain = used(depthwise((5, 7, 6), (2, 3, 6), Window((3, 3), (2, 2))))
    assert plain == {
        "calls": 1, "output_rows": 2, "groups": 4, "direct_runs": 4,
        "plain_runs": 4, "plain_quads": 12, "plain_quad_rows": 36, "plain_quad_taps": 108,
    }  # fmt: skip
    # With padding on all sides rows are narrow, so all are gathered: 6 rows of 9 words, 4 of 5 from the input.
    counts = used(depthwise((4, 5, 6), (4, 5, 6), Window((3, 5), (1, 1), (1, 1, 2, 2))))
    assert counts == {
        "calls": 1, "output_rows": 1, "groups": 2, "gathers": 2, "gathered_rows": 12, "rows_outside": 4,
        "copied_fours": 8, "copied_rests": 8, "filled": 2 * (54 - 20), "gathered_runs": 8,
        "plain_runs": 8, "plain_quads": 40, "plain_quad_rows": 120, "plain_quad_taps": 600,
    }  # fmt: skip
    # Less than four channels are gathered even so; 5x1 windows take the kernel of any size.
    counts = used(depthwise((6, 5, 3), (2, 5, 3), Window((5, 1))))
    assert (counts["few_pixels"], counts["few_channels"], counts["few_outputs"]) == (30, 90, 30)
    assert (counts["plain_runs"], counts["plain_quads"], counts["plain_quad_rows"]) == (2, 10, 50)


def test_loop_counts_of_planes_by_hand() -> None:
    # 2 rows of 3 pixels are 3 pairs one below the other: a tile of 2 columns of 5 words for each of 2 groups.
    assert used(depthwise((4, 5, 6), (2, 3, 6), Window((3, 3)))) == {
        "calls": 1, "bands": 1, "tiles": 1, "tile_groups": 2, "tile_rests": 1, "columns": 4, "columns_inside": 4,
        "spread": 20, "planes": 6, "plane_rows": 18, "pairs": 18,
    }  # fmt: skip
    # 5 rows of 15, padded: side by side 14 and 1 of them, in bands of 4 rows and 1.
    counts = used(depthwise((5, 15, 4), (5, 15, 4), Window((3, 3), (1, 1), (1, 1, 1, 1))))
    assert counts == {
        "calls": 1, "bands": 2, "tiles": 4, "tile_groups": 4, "columns": 20, "columns_above": 10, "columns_inside": 20,
        "columns_below": 10, "spread": 70, "spread_padding": 20, "planes": 16, "plane_rows": 40, "odd_rows": 20,
        "rows_of_one": 20, "pairs": 160,
    }  # fmt: skip
    assert used(depthwise_clamped(depthwise((4, 5, 6), (2, 3, 6), Window((3, 3)))))["clamped_fours"] == 9
    assert loop_counts(depthwise_plain(depthwise((4, 5, 6), (2, 3, 6), Window((3, 3)))))[:5] == (1, 2, 4, 4, 0)


@pytest.mark.parametrize("path", list(KernelVariant))
def test_every_path_has_a_name_for_every_count(path: KernelVariant) -> None:
    work = Work(path, macs=36, outputs=36, inputs=36, pixels=9, rows=4, columns=9, im2col_bytes=72, copies=9, blocks=36,
                setup_loops=18, trips=TRIPS.get(path, ()))  # fmt: skip
    assert len(loop_counts(work)) == len(loop_names(path))
    assert len(set(loop_names(path))) == len(loop_names(path))
    assert min(loop_counts(work)) >= 0


@pytest.mark.parametrize(("rows", "columns", "pixels"), [(4, 16, 6), (5, 3, 7), (1, 9, 1), (1, 130, 2)])
def test_products_of_all_loops_make_up_the_macs_of_a_convolution(rows: int, columns: int, pixels: int) -> None:
    work = conv((1, pixels, columns), (1, pixels, rows), Window((1, 1)))
    counts = dict(zip(loop_names(work.variant), loop_counts(work), strict=True))
    done = 16 * counts["quad_pairs"] + 8 * counts["quad_odd_columns"]  # two pixels by four rows
    done += 8 * counts["two_pairs"] + 4 * counts["two_odd_columns"]
    done += 8 * counts["one_quads"] + 4 * counts["one_pairs"] + 2 * counts["one_odd_columns"]
    assert done == rows * 2 * -(-pixels // 2) * columns
    assert done >= work.macs


def test_loops_of_a_max_pool_by_hand() -> None:
    # 6 channels, 2 x 3 outputs, windows of 2 x 2: one word of four channels and two single ones a pixel.
    work = pool((4, 6, 6), (2, 3, 6), Window((2, 2), (2, 2)), "max")
    assert dict(zip(loop_names(work.variant), loop_counts(work), strict=True)) == {
        "calls": 1, "pixels": 6,
        "quads": 6, "quad_rows": 12, "quad_positions": 24,
        "rests": 12, "rest_rows": 24, "rest_positions": 48,
    }  # fmt: skip


def test_kernels_of_one_family_are_fitted_together(observations: list[Observation]) -> None:
    only_plain = [item for item in observations if all(work.variant != KernelVariant.FC for work in item.works)]
    both = fit_once(observations, "instructions")
    assert both.paths[KernelVariant.FC] == both.paths[KernelVariant.FC_PER_CHANNEL]
    # What a scale for each row costs cannot be told from the rest of it, where all rows have one.
    assert KernelVariant.FC not in fit_once(only_plain, "instructions").paths
