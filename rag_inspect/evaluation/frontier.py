"""Quality and latency at every depth, from scores at the full depth; where the gold moved; what a score cutoff does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rag_inspect.evaluation.document import Decision, FrontierPoint, GoldFlow, Thresholds, ThresholdStep
from rag_inspect.evaluation.latency import list_timed_depths
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.systems import Latency, split_key
from rag_inspect.metrics import HEADLINE, Metric, parse
from rag_inspect.significance import intervals

CUTOFFS = 41  # steps of the slider in the threshold lab
BINS = 40  # of each histogram


def build_frontier(outcome: Outcome, baseline: np.ndarray) -> tuple[FrontierPoint, ...]:
    """Return one point for each reranked system and depth, and one, at depth 0, for each first stage.

    `baseline`: its primary metric of each query, float (n,). At depth d a reranker reorders the first d candidates; the others follow in their old order.
    """
    primary, kept = outcome.primary, Metric("recall", outcome.top_n)
    shown = tuple(dict.fromkeys([*map(parse, HEADLINE), primary, kept]))
    grid = [(key, depth, outcome.judged_by(key, depth)) for key, depth in _list_depths(outcome)]
    columns = [np.stack([metric.values(judged) for *_, judged in grid], axis=1) for metric in (primary, kept)]
    own, reranked = intervals(columns[0], groups=outcome.groups).tolist(), [depth > 0 for _, depth, _ in grid]
    best, lifts = _find_best(columns, reranked), columns[0] - baseline[:, None]
    gains = intervals(lifts, -1.0, 1.0, outcome.groups).tolist()
    small = [_bound_losses(values, best, outcome.groups) < outcome.aim.margin for values in columns]
    parameters = {system.key: system.model.parameters or 1 for system in outcome.reranked}
    return tuple(
        FrontierPoint(
            system=key,
            depth=depth,
            latency_ms=_latency_at(outcome.latency.get(key, Latency()), depth),
            metrics={str(metric): float(metric.values(judged).mean()) for metric in shown},
            ci95=(low, high),
            lift=float(lifts[:, at].mean()),
            lift_ci95=(gains[at][0], gains[at][1]),
            equivalent=bool(small[0][at] and small[1][at]),
            work=depth * parameters.get(key, 0),
            interpolated=_is_interpolated(outcome, key, depth),
        )
        for at, ((key, depth, judged), (low, high)) in enumerate(zip(grid, own, strict=True))
    )


def mark_point(points: Sequence[FrontierPoint], decision: Decision) -> tuple[FrontierPoint, ...]:
    """Mark the point that the decision recommends as the cheapest."""
    chosen = decision.use, decision.depth or 0
    return tuple(replace(point, cheapest=(point.system, point.depth) == chosen) for point in points)


def _find_best(columns: Sequence[np.ndarray], reranked: Sequence[bool]) -> int:
    """Return the reranked point with the highest mean of the first metric, then of the second; then the first one."""
    first, second = (np.where(reranked, values.mean(axis=0).round(12), -np.inf) for values in columns)
    return int(np.where(first == first.max(), second, -np.inf).argmax())


def _bound_losses(values: np.ndarray, best: int, groups: np.ndarray) -> np.ndarray:
    """Return, for each column, the upper end of the paired 95 % interval of (best column - this one)."""
    bounds = intervals(values[:, [best]] - values, -1.0, 1.0, groups)[:, 1]
    bounds[best] = 0.0  # it is the best itself: no loss, whatever a rule of three says
    return bounds


def _list_depths(outcome: Outcome) -> list[tuple[str, int]]:
    depths = range(1, outcome.depth + 1)
    return [(s.key, depth) for s in outcome.systems for depth in (depths if s.reranker else (0,))]


def _latency_at(latency: Latency, depth: int) -> float | None:
    return latency.depth_ms[max(depth, 1) - 1] if latency.depth_ms else None


def _is_interpolated(outcome: Outcome, key: str, depth: int) -> bool:
    latency = outcome.latency.get(key, Latency())
    return latency.source == "sample" and depth not in {0, *list_timed_depths(outcome.depth)}


def count_gold_flow(outcome: Outcome, system: str) -> GoldFlow:
    """Count queries by the rank band of their best gold passage before (rows) and after (columns) the reranker."""
    edges = sorted({1, outcome.top_n, min(10, outcome.top_k), outcome.top_k})
    names = [
        f"{low + 1}–{high}" if high > low + 1 else str(high)
        for low, high in zip([0, *edges], edges, strict=False)
    ]
    bands = (*names, "not among the candidates")
    counts = np.zeros((len(bands), len(bands)), dtype=int)
    pair = outcome.judged_by(split_key(system)[0]), outcome.judged_by(system)
    before, after = (_band(judged.first_gold, edges) for judged in pair)
    np.add.at(counts, (before, after), 1)
    return GoldFlow(bands=bands, counts=tuple(map(tuple, counts.tolist())))


def _band(ranks: np.ndarray, edges: list[int]) -> np.ndarray:
    return np.where(ranks > 0, np.searchsorted(edges, ranks), len(edges))


def build_thresholds(outcome: Outcome, system: str) -> Thresholds:
    """Build histograms of a reranker's scores of gold and other candidates, and count what each score cutoff drops.

    A cutoff is valid for this model and corpus only: scores cannot be compared across models or corpora.
    """
    stage, reranker = outcome.find(system)
    logits, gold = stage.logits[reranker or ""], outcome.judged[stage.key].found
    there = ~np.isnan(logits)
    scores = logits[there] if there.any() else np.zeros(1)  # a first stage may find nothing at all
    low, high = float(scores.min()), float(scores.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    histograms = [np.histogram(logits[there & which], edges)[0].tolist() for which in (gold, ~gold)]
    best = np.nanmax(np.where(there, logits, -np.inf), axis=1)
    steps = (
        ThresholdStep(
            cutoff=float(cutoff),
            gold_lost=int((logits[there & gold] < cutoff).sum()),
            junk_dropped=int((logits[there & ~gold] < cutoff).sum()),
            queries_empty=int((best < cutoff).sum()),
        )
        for cutoff in np.quantile(scores, np.linspace(0, 1, CUTOFFS))
    )
    return Thresholds(
        edges=tuple(edges.tolist()),
        gold=tuple(histograms[0]),
        other=tuple(histograms[1]),
        steps=tuple(steps),
        gold_total=int((there & gold).sum()),
        junk_total=int((there & ~gold).sum()),
    )
