"""Fused systems: by hand, never measured where they were fitted, and recomputed with a few lines of numpy."""

import numpy as np
import pytest

from rag_inspect.evaluation.fusion import (
    WEIGHTS,
    average_held_out,
    count_wins,
    draw_halves,
    fuse_rankings,
    grade_rankings,
    order_blends,
    scale_rows,
    tune,
)
from rag_inspect.metrics import NO_PASSAGE
from rag_inspect.types import Ranking

NAN = float("nan")


def test_rows_are_scaled_by_their_own_ends():
    scaled = scale_rows(np.array([[4.0, 2.0, 3.0, NAN], [5.0, 5.0, NAN, NAN], [NAN, NAN, NAN, NAN]]))
    assert scaled == pytest.approx(
        np.array([[1, 0, 0.5, NAN], [1, 1, NAN, NAN], [NAN, NAN, NAN, NAN]]), nan_ok=True
    )


def test_a_fused_ranking_by_hand():
    first = Ranking.of([("a", 0.9), ("b", 0.8), ("c", 0.5)])  # scaled: 1, 0.75, 0
    second = Ranking.of([("d", 10.0), ("b", 6.0), ("a", 2.0)])  # scaled: 1, 0.5, 0
    fused = dict(zip(WEIGHTS, fuse_rankings(first, second, 3), strict=True))
    assert fused[0.0] == ("a", "b", "c")  # c and d are equal at 0: the first ranking's order
    assert fused[1.0] == ("d", "b", "a")
    assert fused[0.5] == ("b", "a", "d")  # 0.625, 0.5, 0.5


def test_a_part_that_found_nothing_leaves_the_other():
    found = Ranking.of([("a", 2.0), ("b", 1.0)])
    assert set(fuse_rankings(found, Ranking(()), 5)) == {("a", "b")}
    assert fuse_rankings(Ranking(()), Ranking(()), 5) == [()] * len(WEIGHTS)


def test_blends_run_from_the_first_stage_to_the_reranker():
    scores, logits = np.array([[0.9, 0.5, 0.1, NAN]]), np.array([[-1.0, 3.0, 1.0, NAN]])
    order = order_blends(scores, logits)
    assert order[0].tolist() == [[0, 1, 2, 3]] and order[-1].tolist() == [[1, 2, 0, 3]]
    assert order[len(WEIGHTS) // 2].tolist() == [[1, 0, 2, 3]]  # 0.75, 0.5, 0.25


def test_halves_keep_queries_of_one_text_together_and_are_the_same_every_time():
    groups = np.array([0, 1, 0, 2, 3, 1, 4, 5, 6])
    halves = draw_halves(groups)
    assert halves.shape == (200, 9) and (halves == draw_halves(groups)).all()
    assert (halves[:, 0] == halves[:, 2]).all() and (halves[:, 1] == halves[:, 5]).all()
    assert set(halves[:, [0, 1, 3, 4, 6, 7, 8]].sum(axis=1)) == {4}  # of 7 groups
    assert halves.mean(axis=0).min() > 0.3 and halves.mean(axis=0).max() < 0.8


@pytest.fixture
def noisy():
    chance = np.random.default_rng(5)
    return chance.random((len(WEIGHTS), 60, 3)), draw_halves(np.arange(60))


def test_the_held_out_figures_recomputed(noisy):
    values, halves = noisy
    tuned = tune(values, 1, halves)
    sums, counts = np.zeros((60, 3)), np.zeros(60)
    for number, held_out in enumerate(halves):
        fits = [values[w, ~held_out, 1].mean() for w in range(len(WEIGHTS))]
        best = int(np.argmax(fits))
        assert best == tuned.chosen[number]
        assert values[best, held_out, 1].mean() == pytest.approx(tuned.by_split[number])
        sums[held_out] += values[best, held_out]
        counts[held_out] += 1
    assert tuned.values == pytest.approx(sums / counts[:, None])


def test_a_weight_fitted_to_noise_gains_nothing_where_it_is_measured(noisy):
    values, halves = noisy
    fitted = values[:, :, 1].mean(axis=1).max()
    assert tune(values, 1, halves).values[:, 1].mean() < fitted - 0.02


def test_a_weight_that_is_better_is_found_and_wins_its_splits():
    values = np.zeros((len(WEIGHTS), 40, 1))
    values[15] = 0.8
    halves = draw_halves(np.arange(40))
    tuned = tune(values, 0, halves)
    baseline = average_held_out(np.full(40, 0.5), halves)
    assert tuned.weight == pytest.approx(WEIGHTS[15]) and tuned.values[:, 0] == pytest.approx(
        np.full(40, 0.8)
    )
    assert count_wins(tuned.by_split, baseline) == 200 and count_wins(baseline, baseline) == 0


def test_of_equally_good_weights_the_middle_one_is_chosen():
    halves = draw_halves(np.arange(20))
    assert tune(np.ones((len(WEIGHTS), 20, 1)), 0, halves).weight == pytest.approx(0.5)


def test_the_grades_of_fused_rankings():
    found = grade_rankings(
        [[("a", "b")] * len(WEIGHTS), [()] * len(WEIGHTS)], [{"b": 2, "a": -1}, {"c": 1}], 3
    )
    assert found.shape == (len(WEIGHTS), 2, 3) and found[0].tolist() == [[0, 2, NO_PASSAGE], [NO_PASSAGE] * 3]
