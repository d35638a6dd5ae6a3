"""From an Outcome to the document that `eval --json` prints and the page, the report and the exports draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from rag_inspect.evaluation.advice import advise, clear, counted, shown
from rag_inspect.evaluation.frontier import frontier, gold_flow, thresholds
from rag_inspect.evaluation.outcome import Latency, Outcome, System, document_of
from rag_inspect.metrics import HEADLINE, Metric, metrics_at, parse
from rag_inspect.pipeline import judge
from rag_inspect.significance import differences, holm, intervals
from rag_inspect.types import Verdict


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A finished evaluation: what was found, the document made of it, and the id it is kept under ("": it is not)."""

    outcome: Outcome
    document: dict[str, Any]
    run_id: str = ""

    def to_json(self) -> dict[str, Any]:
        """The stable document of `eval --json` and the API's /eval."""
        return {**self.document, "run_id": self.run_id}


WORST_FIRST: tuple[Verdict, ...] = (
    "lost",
    "demoted",
    "near_miss",
    "unreachable",
    "held",
    "promoted",
    "rescued",
)


def assess(outcome: Outcome, more_metrics: Sequence[str] = ()) -> dict[str, Any]:
    """Every number of the evaluation as one JSON document: DESIGN's contract, and what the page needs beside it.

    systems[0] is the first stage; `verdicts`, and rank_after and verdict of a per_query row, are those of the
    first reranker, and each system has its own besides.
    """
    metrics = metrics_at(outcome.cutoffs, [f"mrr@{outcome.top_n}", f"recall@{outcome.top_n}", *more_metrics])
    values = {
        s.key: np.stack([m.values(outcome.judged_by(outcome.reranker_of(s.key))) for m in metrics], axis=1)
        for s in outcome.systems
    }
    systems = [_system(outcome, system, metrics, values) for system in outcome.systems]
    _correct(systems, metrics)
    _compare(systems, values, metrics.index(parse(f"mrr@{outcome.top_n}")), outcome)
    rows = _per_query(outcome, metrics, values)
    main = outcome.rerankers[0].key
    document = {
        "corpus": outcome.corpus,
        "split": outcome.split,
        "embedder": {"key": outcome.systems[0].key, "revision": outcome.systems[0].revision},
        "top_k": outcome.top_k,
        "top_n": outcome.top_n,
        "cutoffs": list(outcome.cutoffs),
        "queries": len(outcome.queries),
        "distinct_queries": int(outcome.groups.max()) + 1,
        "left_out": {name: outcome.counts.get(name, 0) for name in ("unjudged", "without_gold")},
        "passages": outcome.passage_count,
        "primary": f"mrr@{outcome.top_n}",
        "systems": systems,
        "ceiling": _ceiling(outcome, metrics),
        "ceiling_bars": [_bar(outcome, s.key) for s in outcome.systems],
        "verdicts": _verdicts(rows, main),
        "frontier": frontier(outcome, parse(f"mrr@{outcome.top_n}")),
        "gold_flow": {s.key: gold_flow(outcome, s.key) for s in outcome.rerankers},
        "thresholds": {s.key: thresholds(outcome, s.key) for s in outcome.rerankers},
        "per_query": rows,
        "scored_pairs": outcome.counts.get("scored_pairs", 0),
        "cached_pairs": outcome.counts.get("cached_pairs", 0),
        "created": outcome.created,
        "versions": dict(outcome.versions),
        "tooltips": {str(metric): metric.tooltip for metric in metrics},
    }
    document["advice"] = advise(document, outcome)
    document["notes"] = [*outcome.notes, *_notes(document, outcome)]
    return document


def _system(
    outcome: Outcome, system: System, metrics: Sequence[Metric], values: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    own, first = values[system.key], values[outcome.first_stage.key]
    bounds, latency = intervals(own, groups=outcome.groups), outcome.latency.get(system.key, Latency())
    described = document_of(system) | {
        "metrics": {
            str(m): {"value": float(own[:, at].mean()), "ci95": bounds[at].tolist()}
            for at, m in enumerate(metrics)
        },
        "latency_ms": {"p50": latency.p50, "p95": latency.p95},
        "latency_measured": {"queries": latency.queries, "source": latency.source},
    }
    if outcome.reranker_of(system.key):
        changes = differences(first, own, outcome.groups)
        described["versus_first_stage"] = {
            str(m): change.to_json() for m, change in zip(metrics, changes, strict=True)
        }
    return described


def _correct(systems: Sequence[dict[str, Any]], metrics: Sequence[Metric]) -> None:
    """Holm's correction over the rerankers, metric by metric, as `p_holm` beside each `p_value`."""
    rows = [system["versus_first_stage"] for system in systems if "versus_first_stage" in system]
    for name in map(str, metrics):
        for row, adjusted in zip(rows, holm([row[name]["p_value"] for row in rows]), strict=True):
            row[name]["p_holm"] = adjusted


def _compare(
    systems: Sequence[dict[str, Any]], values: Mapping[str, np.ndarray], at: int, outcome: Outcome
) -> None:
    """Each reranker's change on the primary metric (column `at`) against the best one, as `versus_best`; None: its own."""
    best = max(systems[1:], key=lambda system: float(values[system["key"]][:, at].mean()))["key"]
    for system in systems[1:]:
        both = values[best][:, [at]], values[system["key"]][:, [at]]
        change = {"system": best, **differences(*both, outcome.groups)[0].to_json()}
        system["versus_best"] = None if system["key"] == best else change


def _ceiling(outcome: Outcome, metrics: Sequence[Metric]) -> dict[str, float]:
    """What a perfect reranker would reach over these candidates; first of all recall@top_k."""
    best = outcome.judged.best_first
    depth = Metric("recall", outcome.top_k)
    return {str(metric): float(metric.values(best).mean()) for metric in dict.fromkeys([depth, *metrics])}


def _bar(outcome: Outcome, key: str) -> dict[str, Any]:
    """recall@top_n achieved, recoverable by a perfect reranker, unreachable (not among the candidates); the sum is 1.

    Where a query has more gold than top_n, the fourth part is what no order of the whole corpus could hold.
    """
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
    return {
        "system": key,
        "metric": str(metric),
        **{name: float(part.mean()) for name, part in parts.items()},
    }


def _per_query(
    outcome: Outcome, metrics: Sequence[Metric], values: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    before = outcome.judged.first_gold
    after = {system.key: outcome.judged_by(system.key).first_gold for system in outcome.rerankers}
    shown = [(at, str(metric)) for at, metric in enumerate(metrics)]
    rows = []
    for row, query in enumerate(outcome.queries):
        grades = outcome.qrels[query.query_id]
        ranks = {key: int(found[row]) or None for key, found in after.items()}
        verdicts = {key: judge(int(before[row]) or None, rank, outcome.top_n) for key, rank in ranks.items()}
        rows.append(
            {
                "query_id": query.query_id,
                "query": query.text,
                "gold": sorted(pid for pid, grade in grades.items() if grade > 0),
                "rank_before": int(before[row]) or None,
                "rank_after": next(iter(ranks.values())),
                "verdict": next(iter(verdicts.values())),
                "ranks": ranks,
                "verdicts": verdicts,
                "metrics": {
                    key: {name: round(float(own[row, at]), 6) for at, name in shown}
                    for key, own in values.items()
                },
            }
        )
    return rows


def _verdicts(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, int]:
    counted = Counter(row["verdicts"][key] for row in rows)
    return {verdict: counted[verdict] for verdict in get_args(Verdict)}


def worst_first(rows: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """Rows by verdict, what the reranker lost at the top; among equals, the longest fall first."""

    def place(row: Mapping[str, Any]) -> tuple[int, int]:
        fall = (row["ranks"][key] or 0) - (row["rank_before"] or 0)
        return WORST_FIRST.index(row["verdicts"][key]), -fall

    return sorted(rows, key=place)


def _notes(document: Mapping[str, Any], outcome: Outcome) -> list[str]:
    """What a reader of these numbers should know of the eval set."""
    counts, n = outcome.counts, len(outcome.queries)
    said = {
        "unjudged": ("query has no judgements in this split and was left out",
                     "queries have no judgements in this split and were left out"),
        "without_gold": ("query is judged, but nothing is relevant to it; it was left out",
                         "queries are judged, but nothing is relevant to them; they were left out"),
        "unknown_gold": ("gold id is not in the corpus; no system can find it, and it counts as not found",
                         "gold ids are not in the corpus; no system can find them, and they count as not found"),
        "repeated": ("query repeats the text of another; intervals and p count each text once",
                     "queries repeat the text of another; intervals and p count each text once"),
        "twin_gold": ("gold passage has a twin of the same text that is not gold; whoever ranks the twin first loses by it",
                      "gold passages have a twin of the same text that is not gold; whoever ranks the twin first loses by it"),
    }  # fmt: skip
    notes = [f"{counted(counts[name], *words)}." for name, words in said.items() if counts.get(name)]
    for name, count in counts.items():
        if name.startswith("cut_gold:") and count:
            long = counted(count, "gold passage is", "gold passages are")
            notes.append(
                f"{long} longer than {name.partition(':')[2]} reads; {'its' if count == 1 else 'their'} end was not seen."
            )
    reached, names = outcome.places.shape[1], document["systems"][0]["metrics"]
    deeper = [name for name in names if parse(name).cutoff > reached]
    if deeper and reached < outcome.passage_count:
        notes.append(
            f"Only {reached} candidates were retrieved: {', '.join(deeper)} count{'s' if len(deeper) == 1 else ''} what is among these."
        )
    if document["distinct_queries"] == 1:
        notes.append("One query tells nothing about others: its intervals span the whole scale.")
    for system in document["systems"][1:]:
        change = system["versus_first_stage"][document["primary"]]
        if not clear(change) and document["distinct_queries"] > 1:
            notes.append(
                f"{counted(n, 'query', 'queries')} can show a change of {change['resolvable']:.3f} in {document['primary']} "
                f"(8 times in 10); {system['key']}'s {shown(change)} is within noise."
            )
        if system["latency_measured"]["source"] == "unknown":
            notes.append(f"The latency of {system['key']} was not measured.")
        elif system["latency_measured"]["source"] == "sample":
            timed = counted(system["latency_measured"]["queries"], "query", "queries")
            notes.append(f"One query at a time, {system['key']} was timed on {timed}.")
    if len(outcome.rerankers) > 1:
        notes.append(
            "Several rerankers were compared: p_holm is corrected for that (Holm 1979), p_value is not; the advice goes by p_holm."
        )
    return notes


def headline(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table: one row a system, with the four metrics everyone asks for."""
    return [
        {"system": s["key"], **{name: s["metrics"][name] for name in HEADLINE}, "latency_ms": s["latency_ms"]}
        for s in document["systems"]
    ]
