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
from rag_inspect.evaluation.outcome import Latency, Outcome
from rag_inspect.metrics import Metric, metrics_at, parse
from rag_inspect.pipeline import name_verdict
from rag_inspect.significance import differences, holm, intervals
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
        s.key: np.stack([m.values(outcome.judged_by(outcome.reranker_of(s.key))) for m in metrics], axis=1)
        for s in outcome.systems
    }
    rows = _per_query(outcome, metrics, values)
    return Numbers(
        corpus=outcome.corpus,
        split=outcome.split,
        embedder=outcome.first_stage.key,
        embedder_revision=outcome.systems[0].revision,
        top_k=outcome.top_k,
        top_n=outcome.top_n,
        cutoffs=outcome.cutoffs,
        queries=len(outcome.queries),
        distinct_queries=int(outcome.groups.max()) + 1,
        left_out={name: outcome.counts.get(name, 0) for name in ("unjudged", "without_gold")},
        passages=outcome.passage_count,
        primary=str(primary),
        systems=_systems(outcome, metrics, values, metrics.index(primary)),
        ceiling=_ceiling(outcome, metrics),
        ceiling_bars=tuple(_bar(outcome, s.key) for s in outcome.systems),
        verdicts=_verdicts(rows),
        frontier=build_frontier(outcome, primary),
        gold_flow={s.key: count_gold_flow(outcome, s.key) for s in outcome.rerankers},
        thresholds={s.key: build_thresholds(outcome, s.key) for s in outcome.rerankers},
        per_query=rows,
        scored_pairs=outcome.counts.get("scored_pairs", 0),
        cached_pairs=outcome.counts.get("cached_pairs", 0),
        created=outcome.created,
        versions=dict(outcome.versions),
        tooltips={str(metric): metric.tooltip for metric in metrics},
    )


def _systems(
    outcome: Outcome, metrics: Sequence[Metric], values: Values, primary: int
) -> tuple[SystemResult, ...]:
    """Compute each system's results; `primary` is the column of the primary metric."""
    changes, behind = _changes(outcome, metrics, values), _behind_best(outcome, values, primary)
    return tuple(
        SystemResult(
            system=system,
            metrics=_means(values[system.key], metrics, outcome.groups),
            latency=outcome.latency.get(system.key, Latency()),
            versus_first_stage=changes.get(system.key, {}),
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


def _changes(outcome: Outcome, metrics: Sequence[Metric], values: Values) -> dict[str, dict[str, Change]]:
    """Compare each reranker with the first stage; for each metric, p is Holm-corrected over the rerankers."""
    first = values[outcome.first_stage.key]
    keys = [system.key for system in outcome.rerankers]
    found = [differences(first, values[key], outcome.groups) for key in keys]
    corrected = [holm([change.p_value for change in column]) for column in zip(*found, strict=True)]
    return {
        key: {
            str(metric): Change(**asdict(change), p_holm=adjusted[at])
            for metric, change, adjusted in zip(metrics, found[at], corrected, strict=True)
        }
        for at, key in enumerate(keys)
    }


def _behind_best(outcome: Outcome, values: Values, primary: int) -> dict[str, BehindBest]:
    """Compare every other reranker with the best one."""
    keys = [system.key for system in outcome.rerankers]
    best = max(keys, key=lambda key: float(values[key][:, primary].mean()))
    pairs = {key: (values[best][:, [primary]], values[key][:, [primary]]) for key in keys if key != best}
    return {
        key: BehindBest(**asdict(differences(*both, outcome.groups)[0]), system=best)
        for key, both in pairs.items()
    }


def _ceiling(outcome: Outcome, metrics: Sequence[Metric]) -> dict[str, float]:
    """Compute what a perfect reranker would reach with these candidates: recall@top_k, then every metric."""
    best = outcome.judged.best_first
    depth = Metric("recall", outcome.top_k)
    return {str(metric): float(metric.values(best).mean()) for metric in dict.fromkeys([depth, *metrics])}


def _bar(outcome: Outcome, key: str) -> CeilingBar:
    """Divide recall@top_n into its parts; see CeilingBar."""
    metric, gold = Metric("recall", outcome.top_n), outcome.judged.gold
    achieved, best = (
        metric.values(outcome.judged_by(outcome.reranker_of(key))),
        metric.values(outcome.judged.best_first),
    )
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
    before = outcome.judged.first_gold
    after = {system.key: outcome.judged_by(system.key).first_gold for system in outcome.rerankers}
    named = [(at, str(metric)) for at, metric in enumerate(metrics)]
    rows = []
    for row, query in enumerate(outcome.queries):
        grades = outcome.qrels[query.query_id]
        rank = int(before[row]) or None
        ranks = {key: int(found[row]) or None for key, found in after.items()}
        rows.append(
            QueryResult(
                query_id=query.query_id,
                query=query.text,
                gold=tuple(sorted(pid for pid, grade in grades.items() if grade > 0)),
                rank_before=rank,
                ranks=ranks,
                verdicts={key: name_verdict(rank, now, outcome.top_n) for key, now in ranks.items()},
                metrics={
                    key: {name: round(float(own[row, at]), 6) for at, name in named}
                    for key, own in values.items()
                },
            )
        )
    return tuple(rows)


def _verdicts(rows: Sequence[QueryResult]) -> dict[Verdict, int]:
    """Count the queries with each verdict under the first reranker."""
    counts = Counter(row.verdict for row in rows)
    return {verdict: counts[verdict] for verdict in VERDICTS}
