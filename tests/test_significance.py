"""Intervals and p-values against scipy and against what they promise."""

import numpy as np
import pytest
from scipy import stats

from rag_inspect.significance import differences, holm, intervals, randomisation_p, resolvable


def columns(seed, n, shift=0.0):
    generator = np.random.default_rng(seed)
    before = generator.random((n, 3)).round(2)
    return before, np.clip(before + shift + generator.normal(0, 0.2, (n, 3)), 0, 1)


def test_intervals_are_scipys_percentile_bootstrap_within_its_own_chance():
    values, _ = columns(0, 120)
    theirs = stats.bootstrap(
        (values[:, 0],), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(1)
    )
    ours = intervals(values)[0]
    assert ours == pytest.approx([theirs.confidence_interval.low, theirs.confidence_interval.high], abs=0.01)


def test_intervals_hold_the_true_mean_as_often_as_they_say():
    generator = np.random.default_rng(5)
    held = [low <= 0.3 <= high for low, high in intervals((generator.random((80, 300)) < 0.3).astype(float))]
    assert 0.91 <= np.mean(held) <= 0.985


def test_the_same_run_gives_the_same_numbers():
    before, after = columns(2, 50)
    assert differences(before, after) == differences(before, after)


def test_p_is_scipys_permutation_test():
    before, after = columns(3, 200, shift=0.02)
    change = after - before
    theirs = stats.permutation_test(
        (change[:, 0],), np.mean, permutation_type="samples", n_resamples=10_000, rng=np.random.default_rng(0)
    )
    assert randomisation_p(change)[0] == pytest.approx(theirs.pvalue, abs=0.02)


def test_p_is_exact_for_few_queries():
    change = np.array([[1.0], [1.0], [1.0], [1.0]])
    assert randomisation_p(change)[0] == 2 / 16
    assert randomisation_p(np.zeros((6, 1)))[0] == 1


def test_chance_alone_is_called_significant_one_time_in_twenty():
    generator = np.random.default_rng(8)
    p = randomisation_p(generator.normal(0, 1, (60, 400)))
    assert 0.02 <= (p < 0.05).mean() <= 0.08


def test_wins_ties_losses_are_counted_and_the_interval_follows_the_difference():
    before, after = np.array([[0.0], [0.5], [1.0]]), np.array([[1.0], [0.5], [0.0]])
    [change] = differences(before, after)
    assert (change.wins, change.ties, change.losses) == (1, 1, 1) and change.delta == 0
    assert change.ci95[0] <= 0 <= change.ci95[1]
    [better] = differences(*(column[:, :1] for column in columns(4, 300, shift=0.2)))
    assert better.ci95[0] > 0 and better.p_value < 0.001


def test_one_query_tells_nothing():
    [change] = differences(np.array([[0.0]]), np.array([[1.0]]))
    assert change.ci95 == (-1.0, 1.0) and change.resolvable == 1
    assert intervals(np.array([[1.0]])).tolist() == [[0.0, 1.0]]


def test_where_nothing_varies_the_rule_of_three_bounds():
    assert intervals(np.ones((30, 1))).tolist() == [[0.9, 1.0]]


def test_what_n_queries_resolve_shrinks_with_the_root_of_n():
    _, after = columns(6, 100)
    few, many = resolvable(after), resolvable(np.tile(after, (16, 1)))
    assert many == pytest.approx(few / 4, rel=0.02)


def test_copies_of_a_query_tell_no_more_than_the_query():
    before, after = columns(7, 40, shift=0.05)
    [once, *_], groups = differences(before, after), np.repeat(np.arange(40), 25)
    [copied, *_] = differences(before.repeat(25, axis=0), after.repeat(25, axis=0), groups)
    assert copied.delta == pytest.approx(once.delta) and copied.p_value == once.p_value
    assert copied.ci95 == pytest.approx(once.ci95) and copied.resolvable == pytest.approx(once.resolvable)
    assert copied.wins == 25 * once.wins
    [blind] = differences(np.zeros((1000, 1)), np.ones((1000, 1)), np.zeros(1000, dtype=int))
    assert blind.ci95 == (-1.0, 1.0) and blind.p_value == 1 and blind.resolvable == 1
    # Groups that vary within and not from one to the next leave the bootstrap as blind.
    [even] = intervals(np.tile([[0.0], [1.0]], (30, 1)), groups=np.repeat(np.arange(30), 2))
    assert even == pytest.approx([0.4, 0.6])
    [one] = intervals(np.array([[0.0], [1.0]]), groups=np.zeros(2, dtype=int))
    assert one == pytest.approx([0, 1])


def test_groups_of_one_change_nothing_and_unequal_ones_hold_the_mean():
    before, after = columns(9, 60)
    assert differences(before, after) == differences(before, after, np.arange(60))
    groups = np.random.default_rng(0).integers(0, 30, 60)
    _, groups = np.unique(groups, return_inverse=True)
    change = after - before
    theirs = []  # a bootstrap of whole groups, drawn one by one
    generator = np.random.default_rng(1)
    parts = [change[groups == group, 0] for group in range(groups.max() + 1)]
    for _ in range(4000):
        theirs.append(
            np.concatenate([parts[at] for at in generator.integers(0, len(parts), len(parts))]).mean()
        )
    assert intervals(change, -1, 1, groups)[0] == pytest.approx(np.percentile(theirs, [2.5, 97.5]), abs=0.008)


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5]) == [0.5] and holm([]) == []
    assert max(holm([0.9, 0.8, 0.7])) <= 1


def test_many_queries_stay_in_blocks_of_memory():
    import tracemalloc

    values = np.random.default_rng(0).random((30_000, 2))
    tracemalloc.start()
    intervals(values)
    randomisation_p(values - 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
