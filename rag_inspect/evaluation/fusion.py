"""Systems that cost no forward pass: fused scores, their weight chosen on one half of the queries, measured on the other.

A weight fitted and measured on the same queries flatters itself, so nothing here is measured where it was fitted. Sums
are convex, of scores scaled to 0..1 per query (Bruch, Gai & Ingber, "An Analysis of Fusion Functions for Hybrid
Retrieval", ACM TOIS 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag_inspect.metrics import NO_PASSAGE, grade_ranking
from rag_inspect.types import Ranking

# Of the second score; the first has 1 - weight.
WEIGHTS = (
    0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5,
    0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0,
)  # fmt: skip
SPLITS = 200
SEED = 20_260_801
LEAST_QUERIES = 20  # distinct ones; fewer make no halves


def scale_rows(scores: np.ndarray) -> np.ndarray:
    """Scale each row to 0..1 by its least and greatest number; NaN stays NaN, and a row of equal numbers becomes 1."""
    there = ~np.isnan(scores)
    low = np.min(scores, axis=1, keepdims=True, initial=np.inf, where=there)
    high = np.max(scores, axis=1, keepdims=True, initial=-np.inf, where=there)
    span = np.where(high > low, high - low, 1.0)
    return np.where(high > low, (scores - low) / span, np.where(there, 1.0, np.nan))


def fuse_rankings(first: Ranking, second: Ranking, top_k: int) -> list[tuple[str, ...]]:
    """Return, for each of WEIGHTS, the `top_k` passage ids of the convex sum of both rankings' scaled scores.

    A passage that a ranking lacks has 0 there. Equal sums keep the first ranking's order, then the second's.
    """
    ids = list(dict.fromkeys([*first.passage_ids, *second.passage_ids]))
    sides = [_scale_ranking(ranking) for ranking in (first, second)]
    scores = np.array([[side.get(passage_id, 0.0) for passage_id in ids] for side in sides])
    weights = np.array(WEIGHTS)
    sums = np.outer(1 - weights, scores[0]) + np.outer(weights, scores[1])
    order = np.argsort(-sums.round(12), axis=1, kind="stable")[:, :top_k]
    return [tuple(ids[at] for at in row) for row in order]


def _scale_ranking(ranking: Ranking) -> Mapping[str, float]:
    scores = np.array([[hit.score for hit in ranking]])
    return dict(zip(ranking.passage_ids, scale_rows(scores)[0].tolist(), strict=True)) if len(ranking) else {}


def order_blends(scores: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return the columns by each blend of a first stage's scores with a reranker's, int (W, n, K), best first.

    Both have the shape (n, K), with NaN past the end of a ranking. Equal sums keep the first stage's order.
    """
    first, second = scale_rows(scores), scale_rows(logits)
    sums = np.stack([(1 - weight) * first + weight * second for weight in WEIGHTS])
    return np.argsort(np.where(np.isnan(sums), np.inf, -sums.round(12)), axis=-1, kind="stable")


def draw_halves(groups: np.ndarray, splits: int = SPLITS, seed: int = SEED) -> np.ndarray:
    """Return which queries are held out in each split, bool (splits, n): about half of the groups, drawn at random.

    `groups` is the group of each query, int (n,) from 0; a group stays together.
    """
    generator, count = np.random.default_rng(seed), int(groups.max()) + 1
    halves = np.zeros((splits, count), dtype=bool)
    for row in halves:
        row[generator.permutation(count)[count // 2 :]] = True
    return halves[:, groups]


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fused system, measured on held-out queries.

    values: float (n, metrics), each query's mean over the splits that held it out. chosen: int (splits,), what was
    chosen in each split, as its place among the W. usual: int (n,), what was most often chosen when the query was
    held out. by_split: float (splits,), the mean of the primary metric over the held-out queries.
    """

    values: np.ndarray
    chosen: np.ndarray
    usual: np.ndarray
    by_split: np.ndarray

    @property
    def weight(self) -> float:
        """The median of the chosen weights, if the W are WEIGHTS."""
        return float(np.median(np.array(WEIGHTS)[self.chosen]))


def tune(values: np.ndarray, primary: int, halves: np.ndarray) -> Tuned:
    """Choose a weight in each split by its mean of the primary metric, and measure it on the queries held out.

    values: float (W, n, metrics), of WEIGHTS or of several systems' WEIGHTS one after the other; primary: the column
    that decides; halves: `draw_halves`. Of equally good weights the one nearest the middle of its WEIGHTS is chosen,
    then the first one.
    """
    fitted = ~halves
    means = (fitted / fitted.sum(axis=1, keepdims=True)) @ values[:, :, primary].T  # (splits, W)
    preference = np.argsort(np.abs(np.arange(len(values)) % len(WEIGHTS) - len(WEIGHTS) // 2), kind="stable")
    chosen = preference[np.argmax(means[:, preference].round(12), axis=1)]
    total, count = np.zeros(values.shape[1:]), np.maximum(halves.sum(axis=0), 1)
    for held_out, weight in zip(halves, chosen, strict=True):
        total[held_out] += values[weight][held_out]
    by_split = np.array([values[w][held, primary].mean() for held, w in zip(halves, chosen, strict=True)])
    votes = np.stack([(halves & (chosen == w)[:, None]).sum(axis=0) for w in range(len(values))])
    return Tuned(total / count[:, None], chosen, votes.argmax(axis=0), by_split)


def average_held_out(values: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Return the mean of a system's values, float (n,), over the held-out queries of each split, float (splits,)."""
    return np.asarray((halves / halves.sum(axis=1, keepdims=True)) @ values)


def count_wins(system: np.ndarray, baseline: np.ndarray) -> int:
    """Count the splits in which the system's held-out mean is above the baseline's; both float (splits,)."""
    return int((system > baseline + 1e-12).sum())


def grade_rankings(
    rankings: Sequence[Sequence[tuple[str, ...]]], grades: Sequence[Mapping[str, int]], depth: int
) -> np.ndarray:
    """Return the grades of fused rankings, float (W, n, depth), as those of a `metrics.Judged`.

    rankings[query][weight] has passage ids, best first.
    """
    found = np.full((len(WEIGHTS), len(rankings), depth), NO_PASSAGE)
    for row, (fused, known) in enumerate(zip(rankings, grades, strict=True)):
        for at, ids in enumerate(fused):
            found[at, row, : len(ids)] = grade_ranking(ids, known)
    return found
