"""Statistics of the difference between two systems: intervals, p-values, wins and losses, detectable change.

All tests are paired by query and have a fixed seed: the same run always gives the same numbers. Queries with the same
text form a group that is resampled as one: a thousand copies of a query count as one query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SEED = 20_240_229
RESAMPLES = 2000
FLIPS = 10_000
EXACT_QUERIES = 12  # up to this number, all 2^n sign patterns are tried
_CELLS = 2_000_000  # numbers in one block of resamples: 16 MB, whatever the number of queries
_EPSILON = 1e-12
POWER = 1.96 + 0.8416  # 95 % confidence and 80 % power, in standard errors


def intervals(
    values: np.ndarray, low: float = 0.0, high: float = 1.0, groups: np.ndarray | None = None
) -> np.ndarray:
    """Compute 95 % percentile-bootstrap intervals of the means; values (n, columns) -> (columns, 2).

    `groups`: the group of each query, int of shape (n,) from 0; None puts each query in its own group. All columns
    share the resamples. If a column has the same mean in every group, the bootstrap would give an empty interval, so
    the rule of three bounds the mean (3/n; Hanley & Lippman-Hand 1983). Never outside [low, high].
    """
    sums, sizes = _sum_groups(values, groups)
    n, means = len(sizes), values.mean(axis=0)
    sampled = np.concatenate([(drawn @ sums) / (drawn @ sizes)[:, None] for drawn in _draw_resamples(n)])
    bounds = np.percentile(sampled, [2.5, 97.5], axis=0).T
    still = np.ptp(sums / sizes[:, None], axis=0) < _EPSILON
    bounds[still] = np.stack([means[still] - 3 / n, means[still] + 3 / n], axis=1)
    bounds = np.stack([np.minimum(bounds[:, 0], means), np.maximum(bounds[:, 1], means)], axis=1)
    return np.clip(bounds, low, high)


def group_by_text(texts: Sequence[str]) -> np.ndarray:
    """Return the group of each text, int of shape (n,): texts equal up to white space at the ends share a group."""
    places: dict[str, int] = {}
    return np.array([places.setdefault(text.strip(), len(places)) for text in texts], dtype=int)


def _sum_groups(values: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return (sums of shape (groups, columns), the number of queries in each group as float)."""
    if groups is None:
        return values, np.ones(len(values))
    sizes = np.bincount(groups).astype(float)
    sums = np.zeros((len(sizes), values.shape[1]))
    np.add.at(sums, groups, values)
    return sums, sizes


def _draw_resamples(n: int) -> Iterator[np.ndarray]:
    """Yield how often each group was drawn, float of shape (block, n); RESAMPLES rows in all."""
    generator = np.random.default_rng(SEED)
    block = max(1, _CELLS // n)
    for start in range(0, RESAMPLES, block):
        rows = min(block, RESAMPLES - start)
        drawn = generator.integers(0, n, (rows, n)) + np.arange(rows)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)


def randomisation_p(differences: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Compute the two-sided p of a paired randomisation test on the mean; differences (n, columns) -> (columns,).

    Under the null hypothesis each query's difference may equally well have the other sign (Smucker, Allan & Carterette 2007).
    Exact up to EXACT_QUERIES groups; above, FLIPS random sign patterns, and p = (1 + extreme) / (1 + FLIPS).
    """
    sums, sizes = _sum_groups(differences, groups)
    observed = np.abs(sums.sum(axis=0)) - _EPSILON * max(len(differences), 1)
    extreme = sum((np.abs(signs @ sums) >= observed).sum(axis=0) for signs in _draw_signs(len(sizes)))
    if len(sizes) <= EXACT_QUERIES:
        return np.asarray(extreme / 2 ** len(sizes))
    return np.asarray((1 + extreme) / (1 + FLIPS))


def _draw_signs(n: int) -> Iterator[np.ndarray]:
    """Yield rows of +1 and -1, shape (block, n): all 2^n of them, or FLIPS random ones."""
    if n <= EXACT_QUERIES:
        yield ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) * 2.0 - 1
        return
    generator = np.random.default_rng(SEED)
    block = max(1, _CELLS // n)
    for start in range(0, FLIPS, block):
        yield generator.integers(0, 2, (min(block, FLIPS - start), n), dtype=np.int8) * 2.0 - 1


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values by Holm's step-down method (1979), in input order: controls the chance of any false claim."""
    adjusted, worst = [0.0] * len(p_values), 0.0
    for step, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - step) * p_values[at]))
        adjusted[at] = worst
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Correct p-values by Benjamini & Hochberg (1995), in input order: controls the share of false claims among all."""
    adjusted, least, n = [0.0] * len(p_values), 1.0, len(p_values)
    for step, at in enumerate(sorted(range(n), key=p_values.__getitem__, reverse=True)):
        least = min(least, p_values[at] * n / (n - step))
        adjusted[at] = least
    return adjusted


def resolvable(differences: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Compute the smallest true mean difference that n such queries detect with 80 % power; (n, columns) -> (columns,).

    It is (1.96 + 0.84) standard errors of the paired difference, or 3/n if no query differs.
    """
    sums, sizes = _sum_groups(differences, groups)
    n = len(sizes)
    apart = sums - differences.mean(axis=0) * sizes[:, None]
    error = np.sqrt((apart**2).sum(axis=0) * n / max(n - 1, 1)) / len(differences)
    return np.minimum(1.0, np.where(error < _EPSILON, 3 / n, POWER * error))


@dataclass(frozen=True)
class Difference:
    """The difference of one metric between two systems, over the same queries."""

    delta: float
    ci95: tuple[float, float]
    p_value: float
    wins: int
    ties: int
    losses: int
    resolvable: float

    @property
    def is_zero(self) -> bool:
        """Whether no query differs."""
        return not (self.wins or self.losses)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ci95": list(self.ci95)}


def differences(before: np.ndarray, after: np.ndarray, groups: np.ndarray | None = None) -> list[Difference]:
    """Compute a Difference for each column, `after` minus `before`; both (n, columns), rows paired by query."""
    change = after - before
    bounds = intervals(change, -1.0, 1.0, groups)
    p_values, resolves = randomisation_p(change, groups), resolvable(change, groups)
    return [
        Difference(
            delta=float(change[:, column].mean()),
            ci95=(float(bounds[column, 0]), float(bounds[column, 1])),
            p_value=float(p_values[column]),
            wins=int((change[:, column] > _EPSILON).sum()),
            ties=int((np.abs(change[:, column]) <= _EPSILON).sum()),
            losses=int((change[:, column] < -_EPSILON).sum()),
            resolvable=float(resolves[column]),
        )
        for column in range(change.shape[1])
    ]
