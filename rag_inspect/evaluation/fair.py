"""The fused systems of an evaluation, measured where they were not fitted; and who wins on the held-out halves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag_inspect.evaluation.fusion import (
    LEAST_QUERIES,
    WEIGHTS,
    Tuned,
    average_held_out,
    count_wins,
    draw_halves,
    order_blends,
    tune,
)
from rag_inspect.evaluation.outcome import FusedOutcome, Outcome
from rag_inspect.evaluation.systems import FirstStageSystem, System
from rag_inspect.metrics import Judged, Metric

BLEND = "blend"


@dataclass(frozen=True, eq=False)
class Fused:
    """A fused system: its values on held-out queries, and the grades of each query's ranking at its usual weight.

    `weight` is the median weight of the second score, in words beside what it is the weight of.
    """

    system: System
    tuned: Tuned
    judged: Judged
    weight: str


def fuse_systems(outcome: Outcome, metrics: Sequence[Metric], primary: int) -> tuple[Fused, ...]:
    """Return the tuned fusion of first stages, if there is one, and the blend of a first stage and a reranker.

    Empty under LEAST_QUERIES distinct queries: they make no halves.
    """
    if int(outcome.groups.max()) + 1 < LEAST_QUERIES:
        return ()
    halves = draw_halves(outcome.groups)
    found = [_tune_fusion(outcome, outcome.fused, metrics, primary, halves)] if outcome.fused else []
    return (*found, _tune_blend(outcome, metrics, primary, halves))


def _tune_fusion(
    outcome: Outcome, fused: FusedOutcome, metrics: Sequence[Metric], primary: int, halves: np.ndarray
) -> Fused:
    rankings = [outcome.judge(grades) for grades in fused.grades]
    tuned = tune(_measure(rankings, metrics), primary, halves)
    stage = FirstStageSystem(key=fused.key, kind="hybrid", score_name="weighted sum", embedder=fused.embedder)
    words = f"{tuned.weight:.2f} of it bm25"
    return Fused(System(stage, fused_key=fused.key), tuned, _pick(outcome, rankings, tuned), words)


def _tune_blend(outcome: Outcome, metrics: Sequence[Metric], primary: int, halves: np.ndarray) -> Fused:
    """Tune one blend: the system and the weight are chosen together on each half."""
    rankings = [
        outcome.judged[stage.key].reordered(order)
        for stage, reranker in map(lambda system: outcome.find(system.key), outcome.reranked)
        for order in order_blends(stage.scores, stage.logits[reranker or ""])
    ]
    tuned = tune(_measure(rankings, metrics), primary, halves)
    usual = int(np.bincount(tuned.chosen // len(WEIGHTS)).argmax())
    system = outcome.reranked[usual]
    weights = np.array(WEIGHTS)[tuned.chosen[tuned.chosen // len(WEIGHTS) == usual] % len(WEIGHTS)]
    words = f"{system.key}, {float(np.median(weights)):.2f} of it the reranker"
    named = System(system.first_stage, system.reranker, fused_key=BLEND)
    return Fused(named, tuned, _pick(outcome, rankings, tuned), words)


def _measure(rankings: Sequence[Judged], metrics: Sequence[Metric]) -> np.ndarray:
    """Return every metric of every ranking, float (W, n, metrics)."""
    return np.stack([np.stack([metric.values(judged) for metric in metrics], axis=1) for judged in rankings])


def _pick(outcome: Outcome, rankings: Sequence[Judged], tuned: Tuned) -> Judged:
    """Return each query's grades at the weight most often chosen when it was held out."""
    grades = np.stack([judged.grades for judged in rankings])
    return outcome.judge(grades[tuned.usual, np.arange(grades.shape[1])])


def count_split_wins(
    outcome: Outcome, values: Mapping[str, np.ndarray], fused: Sequence[Fused], baseline: str
) -> dict[str, int]:
    """Count, for each system but the baseline, the splits whose held-out half it wins; empty without halves.

    values: system key -> the primary metric of each query, float (n,).
    """
    if not fused:
        return {}
    halves, tuned = draw_halves(outcome.groups), {each.system.key: each.tuned.by_split for each in fused}
    means = {
        key: tuned[key] if key in tuned else average_held_out(own, halves) for key, own in values.items()
    }
    return {key: count_wins(means[key], means[baseline]) for key in values if key != baseline}
