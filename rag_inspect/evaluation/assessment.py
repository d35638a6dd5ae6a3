"""Turn an Outcome into the document that `eval --json` prints and that the page, the report and the exports show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rag_inspect.evaluation.advice import advise
from rag_inspect.evaluation.document import (
    BehindBest,
    CeilingBar,
    Change,
    EvaluationDocument,
    MetricValue,
    Numbers,
    QueryResult,
    SystemResult,
)
from rag_inspect.evaluation.frontier import build_frontier, build_thresholds, count_gold_flow
from rag_inspect.evaluation.notes import take_notes
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.systems import Latency, split_key
from rag_inspect.metrics import Metric, metrics_at, parse
from rag_inspect.pipeline import name_verdict
from rag_inspect.significance import Difference, differences, holm, intervals
from rag_inspect.types import VERDICTS, Verdict

Values = Mapping[str, np.ndarray]
"""system key -> its metrics, float of shape (queries, metrics)"""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A finished evaluation: its outcome, its document, and the id of its saved run ("" if it is not saved)."""

    outcome: Outcome
    document: EvaluationDocument
    run_id: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the stable document of `eval --json` and the API's /eval."""
        return {**self.document.to_json(), "run_id": self.run_id}


def assess(outcome: Outcome, more_metrics: Sequence[str] = ()) -> EvaluationDocument:
    """Compute every number of an evaluation, its advice and its notes."""
    numbers = _compute(outcome, more_metrics)
    notes = (*outcome.notes, *take_notes(numbers, outcome))
    return EvaluationDocument.of(numbers, advise(numbers, outcome), notes)


def _compute(outcome: Outcome, more_metrics: Sequence[str]) -> Numbers:
    primary = parse(f"mrr@{outcome.top_n}")
    metrics = metrics_at(outcome.cutoffs, [str(primary), f"recall@{outcome.top_n}", *more_metrics])
    values = {
        s.key: np.stack([m.values(outcome.judged_by(s.key)) for m in metrics], axis=1)
        for s in outcome.systems
    }
    baseline = _choose_baseline(outcome, values, metrics.index(primary))
    rows = _per_query(outcome, metrics, values)
    return Numbers(
        corpus=outcome.corpus,
        split=outcome.split,
        first_stages=tuple(stage.key for stage in outcome.stages),
        stages=tuple(stage.first_stage for stage in outcome.stages),
        top_k=outcome.top_k,
        top_n=outcome.top_n,
        cutoffs=outcome.cutoffs,
        queries=len(outcome.queries),
        distinct_queries=int(outcome.groups.max()) + 1,
        left_out={name: outcome.counts.get(name, 0) for name in ("unjudged", "without_gold")},
        passages=outcome.passage_count,
        primary=str(primary),
        baseline=baseline,
        systems=_systems(outcome, metrics, values, baseline, metrics.index(primary)),
        ceilings={stage.key: _ceiling(outcome, stage.key, metrics) for stage in outcome.stages},
        ceiling_bars=tuple(_bar(outcome, s.key) for s in outcome.systems),
        verdicts=_verdicts(rows),
        frontier=build_frontier(outcome, primary),
        gold_flow={s.key: count_gold_flow(outcome, s.key) for s in outcome.reranked},
        thresholds={s.key: build_thresholds(outcome, s.key) for s in outcome.reranked},
        per_query=rows,
        scored_pairs=outcome.counts.get("scored_pairs", 0),
        cached_pairs=outcome.counts.get("cached_pairs", 0),
        machine=outcome.machine,
        created=outcome.created,
        versions=dict(outcome.versions),
        tooltips={str(metric): metric.tooltip for metric in metrics},
    )


def _choose_baseline(outcome: Outcome, values: Values, primary: int) -> str:
    """Return the best system without a reranker; of equal ones the first."""
    alone = [system.key for system in outcome.systems if system.kind != "reranked"]
    return max(alone, key=lambda key: float(values[key][:, primary].mean()))


def _systems(
    outcome: Outcome, metrics: Sequence[Metric], values: Values, baseline: str, primary: int
) -> tuple[SystemResult, ...]:
    """Compute each system's results; `primary` is the column of the primary metric."""
    own = {system.key: split_key(system.key)[0] for system in outcome.reranked}
    others = {system.key: baseline for system in outcome.systems if system.key != baseline}
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
            latency=outcome.latency.get(system.key, Latency()),
            versus_first_stage=changes.get(system.key, {}),
            versus_baseline=fair.get(system.key, {}),
            versus_best=behind.get(system.key),
        )
        for system in outcome.systems
    )


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


def _ceiling(outcome: Outcome, first_stage: str, metrics: Sequence[Metric]) -> dict[str, float]:
    """Compute what a perfect reranker would reach with these candidates: recall@top_k, then every metric."""
    best = outcome.judged[first_stage].best_first
    depth = Metric("recall", outcome.top_k)
    return {str(metric): float(metric.values(best).mean()) for metric in dict.fromkeys([depth, *metrics])}


def _bar(outcome: Outcome, key: str) -> CeilingBar:
    """Divide recall@top_n into its parts; see CeilingBar."""
    metric, judged = Metric("recall", outcome.top_n), outcome.judged_by(key)
    gold, achieved, best = judged.gold, metric.values(judged), metric.values(judged.best_first)
    fits = np.minimum(gold, outcome.top_n) / np.maximum(gold, 1)
    parts = {
        "achieved": achieved,
        "recoverable": best - achieved,
        "unreachable": fits - best,
        "does_not_fit": 1 - fits,
    }
    shares = {name: float(part.mean()) for name, part in parts.items()}
    return CeilingBar(system=key, metric=str(metric), **shares)


def _per_query(outcome: Outcome, metrics: Sequence[Metric], values: Values) -> tuple[QueryResult, ...]:
    first_gold = {system.key: outcome.judged_by(system.key).first_gold for system in outcome.systems}
    named = [(at, str(metric)) for at, metric in enumerate(metrics)]
    rows = []
    for row, query in enumerate(outcome.queries):
        grades = outcome.qrels[query.query_id]
        ranks = {key: int(found[row]) or None for key, found in first_gold.items()}
        before = {system.key: ranks[split_key(system.key)[0]] for system in outcome.reranked}
        rows.append(
            QueryResult(
                query_id=query.query_id,
                query=query.text,
                gold=tuple(sorted(pid for pid, grade in grades.items() if grade > 0)),
                ranks=ranks,
                verdicts={key: name_verdict(was, ranks[key], outcome.top_n) for key, was in before.items()},
                metrics={
                    key: {name: round(float(own[row, at]), 6) for at, name in named}
                    for key, own in values.items()
                },
            )
        )
    return tuple(rows)


def _verdicts(rows: Sequence[QueryResult]) -> dict[Verdict, int]:
    """Count the queries with each verdict under the first reranked system."""
    counts = Counter(row.verdict for row in rows)
    return {verdict: counts[verdict] for verdict in VERDICTS}
