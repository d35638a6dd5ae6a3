"""Measure every system of an outcome, name the baseline, and decide: what all other numbers of a document stand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from rag_inspect.evaluation.decision import count_queries, decide
from rag_inspect.evaluation.document import (
    BehindBest,
    Change,
    Decision,
    FrontierPoint,
    MetricValue,
    SystemResult,
)
from rag_inspect.evaluation.fair import Fused, count_split_wins, fuse_systems
from rag_inspect.evaluation.frontier import build_frontier
from rag_inspect.evaluation.fusion import SPLITS
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.systems import Latency, System, join_key, split_key
from rag_inspect.metrics import Judged, Metric
from rag_inspect.significance import Difference, differences, holm, intervals

Values = Mapping[str, np.ndarray]
"""system key -> its metrics, float of shape (queries, metrics)"""


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """The systems of an outcome. judged: by system key, the grades of its rankings; of a fused one at its usual weights."""

    metrics: tuple[Metric, ...]
    judged: Mapping[str, Judged]
    values: Values
    baseline: str
    splits: int
    results: tuple[SystemResult, ...]
    points: tuple[FrontierPoint, ...]
    decision: Decision


def measure(outcome: Outcome, metrics: Sequence[Metric]) -> Measured:
    """Measure every system by these metrics, which must have the primary one, and decide."""
    column = metrics.index(outcome.primary)
    fused = fuse_systems(outcome, metrics, column)
    judged = {s.key: outcome.judged_by(s.key) for s in outcome.systems}
    judged |= {each.system.key: each.judged for each in fused}
    values = {s.key: np.stack([m.values(judged[s.key]) for m in metrics], axis=1) for s in outcome.systems}
    values |= {each.system.key: each.tuned.values for each in fused}
    systems = (*outcome.systems, *(each.system for each in fused))
    baseline = _choose_baseline(systems, values, column)
    results = _systems(outcome, systems, metrics, values, baseline, fused)
    points = _list_points(outcome, results, baseline, values[baseline][:, column])
    return Measured(
        metrics=tuple(metrics),
        judged=judged,
        values=values,
        baseline=baseline,
        splits=SPLITS if fused else 0,
        results=results,
        points=points,
        decision=_decide(outcome, results, judged, baseline, points),
    )


def _choose_baseline(systems: Sequence[System], values: Values, primary: int) -> str:
    """Return the best system without a reranker; of equal ones the first."""
    alone = [system.key for system in systems if not system.reranker]
    return max(alone, key=lambda key: float(values[key][:, primary].mean()))


def _list_points(
    outcome: Outcome, results: Sequence[SystemResult], baseline: str, values: np.ndarray
) -> tuple[FrontierPoint, ...]:
    """Return the frontier, with a point for the baseline if it is a fused system."""
    points = build_frontier(outcome, values)
    if any(point.system == baseline for point in points):
        return points
    [found] = [result for result in results if result.key == baseline]
    value = found.metrics[str(outcome.primary)]
    shown = points[0].metrics
    metrics = {name: found.metrics[name].value for name in shown if name in found.metrics}
    extra = FrontierPoint(
        system=baseline,
        depth=0,
        latency_ms=found.latency.p50,
        metrics=metrics,
        ci95=value.ci95,
        lift=0.0,
        lift_ci95=(0.0, 0.0),
        equivalent=False,
    )
    return (*points, extra)


def _decide(
    outcome: Outcome,
    results: Sequence[SystemResult],
    judged: Mapping[str, Judged],
    baseline: str,
    points: Sequence[FrontierPoint],
) -> Decision:
    primary = str(outcome.primary)
    reranked = [result for result in results if result.kind == "reranked"]
    best = max(reranked, key=lambda result: result.metrics[primary].value)
    return decide(
        system=best.key,
        baseline=baseline,
        change=best.versus_baseline[primary],
        count=lambda key, depth: count_queries(
            judged[baseline], outcome.judged_by(key, depth), outcome.top_n
        ),
        distinct=int(outcome.groups.max()) + 1,
        points=points,
        aim=outcome.aim,
        primary=primary,
        top_n=outcome.top_n,
    )


def _systems(
    outcome: Outcome,
    systems: Sequence[System],
    metrics: Sequence[Metric],
    values: Values,
    baseline: str,
    fused: Sequence[Fused],
) -> tuple[SystemResult, ...]:
    """Compute each system's results."""
    primary = metrics.index(outcome.primary)
    own = {system.key: split_key(system.key)[0] for system in outcome.reranked}
    others = {system.key: baseline for system in systems if system.key != baseline}
    wins = count_split_wins(outcome, {key: own[:, primary] for key, own in values.items()}, fused, baseline)
    weights = {each.system.key: each.weight for each in fused}
    compared = {
        (key, other): differences(values[other], values[key], outcome.groups)
        for key, other in dict.fromkeys([*own.items(), *others.items()])
    }
    changes, fair = (_correct(pairs, compared, metrics) for pairs in (own, others))
    behind = _behind_best(outcome, values, primary)
    return tuple(
        SystemResult(
            system=system,
            metrics=_means(values[system.key], metrics, outcome.groups),
            latency=outcome.latency.get(_name_timed(system), Latency()),
            versus_first_stage=changes.get(system.key, {}),
            versus_baseline=fair.get(system.key, {}),
            versus_best=behind.get(system.key),
            split_wins=wins.get(system.key),
            weight=weights.get(system.key, ""),
        )
        for system in systems
    )


def _name_timed(system: System) -> str:
    """Return the system whose latency this one has: a blend takes what reranking takes."""
    if system.kind == "fused" and system.reranker:
        return join_key(system.first_stage.key, system.reranker.key)
    return system.key


def _means(values: np.ndarray, metrics: Sequence[Metric], groups: np.ndarray) -> dict[str, MetricValue]:
    means, bounds = values.mean(axis=0).tolist(), intervals(values, groups=groups).tolist()
    return {
        str(metric): MetricValue(value=mean, ci95=(low, high))
        for metric, mean, (low, high) in zip(metrics, means, bounds, strict=True)
    }


def _correct(
    pairs: Mapping[str, str],
    compared: Mapping[tuple[str, str], Sequence[Difference]],
    metrics: Sequence[Metric],
) -> dict[str, dict[str, Change]]:
    """Return each key's difference from its value in `pairs`; for each metric, p is Holm-corrected over the pairs."""
    found = [compared[pair] for pair in pairs.items()]
    corrected = [holm([change.p_value for change in column]) for column in zip(*found, strict=True)]
    return {
        key: {
            str(metric): Change(**asdict(change), p_holm=adjusted[at])
            for metric, change, adjusted in zip(metrics, found[at], corrected, strict=True)
        }
        for at, key in enumerate(pairs)
    }


def _behind_best(outcome: Outcome, values: Values, primary: int) -> dict[str, BehindBest]:
    """Compare every other reranked system with the best one."""
    keys = [system.key for system in outcome.reranked]
    best = max(keys, key=lambda key: float(values[key][:, primary].mean()))
    pairs = {key: (values[best][:, [primary]], values[key][:, [primary]]) for key in keys if key != best}
    return {
        key: BehindBest(**asdict(differences(*both, outcome.groups)[0]), system=best)
        for key, both in pairs.items()
    }
