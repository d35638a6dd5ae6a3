"""Turn an Outcome into the document that `eval --json` prints and that the page, the report and the exports show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag_inspect.evaluation.advice import advise
from rag_inspect.evaluation.document import (
    CeilingBar,
    EvaluationDocument,
    Numbers,
    QueryResult,
    Slice,
)
from rag_inspect.evaluation.frontier import build_thresholds, count_gold_flow, mark_point
from rag_inspect.evaluation.levers import weigh_levers
from rag_inspect.evaluation.measuring import Measured, measure
from rag_inspect.evaluation.notes import take_notes
from rag_inspect.evaluation.outcome import Outcome
from rag_inspect.evaluation.slices import slice_queries
from rag_inspect.evaluation.systems import split_key
from rag_inspect.metrics import Metric, metrics_at
from rag_inspect.pipeline import name_verdict
from rag_inspect.types import VERDICTS, Verdict


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
    always = [f"{name}@{outcome.top_n}" for name in ("mrr", "recall", "judged")]
    found = measure(outcome, metrics_at(outcome.cutoffs, [*always, *more_metrics]))
    metrics, decision, rows = found.metrics, found.decision, _per_query(outcome, found)
    return Numbers(
        corpus=outcome.corpus,
        split=outcome.split,
        first_stages=tuple(stage.key for stage in outcome.stages),
        stages=tuple(stage.first_stage for stage in outcome.stages),
        top_k=outcome.top_k,
        top_n=outcome.top_n,
        cutoffs=outcome.cutoffs,
        gold_grade=outcome.gold_grade,
        queries=len(outcome.queries),
        distinct_queries=int(outcome.groups.max()) + 1,
        left_out={name: outcome.counts.get(name, 0) for name in ("unjudged", "without_gold")},
        passages=outcome.passage_count,
        primary=str(outcome.primary),
        aim=outcome.aim,
        decision=decision,
        levers=weigh_levers(outcome),
        baseline=found.baseline,
        splits=found.splits,
        systems=found.results,
        ceilings={stage.key: _ceiling(outcome, stage.key, metrics) for stage in outcome.stages},
        ceiling_bars=tuple(_bar(outcome, s.key) for s in outcome.systems),
        verdicts=_verdicts(rows),
        frontier=mark_point(found.points, decision),
        gold_flow={s.key: count_gold_flow(outcome, s.key) for s in outcome.reranked},
        thresholds={s.key: build_thresholds(outcome, s.key) for s in outcome.reranked},
        slices=_slice(outcome, found),
        per_query=rows,
        scored_pairs=outcome.counts.get("scored_pairs", 0),
        cached_pairs=outcome.counts.get("cached_pairs", 0),
        machine=outcome.machine,
        created=outcome.created,
        versions=dict(outcome.versions),
        tooltips={str(metric): metric.tooltip for metric in metrics},
    )


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


def _per_query(outcome: Outcome, found: Measured) -> tuple[QueryResult, ...]:
    first_gold = {key: rankings.first_gold for key, rankings in found.judged.items()}
    named = [(at, str(metric)) for at, metric in enumerate(found.metrics)]
    rows = []
    for row, query in enumerate(outcome.queries):
        grades = outcome.qrels[query.query_id]
        ranks = {key: int(found[row]) or None for key, found in first_gold.items()}
        before = {system.key: ranks[split_key(system.key)[0]] for system in outcome.reranked}
        rows.append(
            QueryResult(
                query_id=query.query_id,
                query=query.text,
                gold=tuple(sorted(pid for pid, grade in grades.items() if grade >= outcome.gold_grade)),
                ranks=ranks,
                verdicts={key: name_verdict(was, ranks[key], outcome.top_n) for key, was in before.items()},
                metrics={
                    key: {name: round(float(own[row, at]), 6) for at, name in named}
                    for key, own in found.values.items()
                },
            )
        )
    return tuple(rows)


def _slice(outcome: Outcome, found: Measured) -> tuple[Slice, ...]:
    """Return the change by kind of query, of the system that the decision is about against the baseline."""
    column, tags = found.metrics.index(outcome.primary), outcome.tags
    before, after = (found.values[key][:, column] for key in (found.baseline, found.decision.system))
    return slice_queries([tags.get(q.query_id, ()) for q in outcome.queries], before, after, outcome.groups)


def _verdicts(rows: Sequence[QueryResult]) -> dict[Verdict, int]:
    """Count the queries with each verdict under the first reranked system."""
    counts = Counter(row.verdict for row in rows)
    return {verdict: counts[verdict] for verdict in VERDICTS}
