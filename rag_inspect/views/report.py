"""report.html: an evaluation as a single page without scripts or external files, to read or to print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from rag_inspect.evaluation.document import EvaluationDocument, QueryResult, sort_worst_first
from rag_inspect.metrics import HEADLINE, parse
from rag_inspect.types import VERDICTS
from rag_inspect.views.ceiling import describe_parts, lay_out_bars
from rag_inspect.views.evaluation import describe_verdict
from rag_inspect.views.formats import format_ms
from rag_inspect.views.frontier_chart import lay_out_chart
from rag_inspect.views.systems import describe_comparison, describe_gold, describe_systems
from rag_inspect.views.templates import render
from rag_inspect.words import format_count

MAX_BYTES = 4_500_000  # of listed queries, so that the report stays under 6 MB; per_query.csv has all queries
MAX_CHARACTERS = 400  # of a query
_ROW_BYTES = 120  # of one row, without the query and its id


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of text; the first cell of each row is its heading."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def report_html(document: EvaluationDocument, score_names: Mapping[str, str]) -> str:
    """Render the report. All text is escaped, and the page loads nothing.

    `score_names`: reranker key -> the name of its score.
    """
    key = document.decision.system
    ranked = sort_worst_first(document.per_query, key)
    listed = _fit_queries(ranked)
    return render(
        "report.html",
        **describe_systems(document),
        others=describe_comparison(document),
        title=f"{document.corpus}: is the reranker worth it?",
        summary=_summarise(document),
        definitions=[parse(name).tooltip for name in HEADLINE],
        bars=lay_out_bars(document),
        parts=describe_parts(document),
        chart=lay_out_chart(document),
        best=_describe_ringed(document),
        verdicts=_count_verdicts(document),
        meanings={_write_verdict(name): describe_verdict(name, document.top_n) for name in VERDICTS},
        flows=_lay_out_flows(document),
        thresholds=_lay_out_thresholds(document, score_names),
        ranked_by=key,
        queries=[
            (row, row.rank_before(key), row.query[:MAX_CHARACTERS], row.query_id[:60]) for row in listed
        ],
        models=list(dict.fromkeys(system.system.model for system in document.systems)),
        left=len(ranked) - len(listed),
    )


def _summarise(document: EvaluationDocument) -> str:
    first_stages, rerankers = (" and ".join(keys) for keys in (document.first_stages, document.rerankers))
    queries = format_count(document.queries, "judged query", "judged queries")
    return (
        f"{queries} (split {document.split}{describe_gold(document)}) over {document.passages:,} passages; the first {document.top_k} by "
        f"{first_stages}, reranked by {rerankers}"
    )


def _describe_ringed(document: EvaluationDocument) -> str:
    """Describe the ringed point."""
    point = next(point for point in document.frontier if point.cheapest)
    where = f"depth {point.depth} of {point.system}" if point.depth else f"{point.system} alone"
    return where if point.latency_ms is None else f"{where}, {format_ms(point.latency_ms)} ms a query"


def _write_verdict(verdict: str) -> str:
    return verdict.replace("_", " ")


def _count_verdicts(document: EvaluationDocument) -> _Table:
    rows = []
    for system in document.reranked:
        counts = Counter(row.verdicts[system.key] for row in document.per_query)
        rows.append((system.key, *(f"{counts[verdict]:,}" for verdict in VERDICTS)))
    return _Table(("system", *map(_write_verdict, VERDICTS)), tuple(rows))


def _lay_out_flows(document: EvaluationDocument) -> list[_Table]:
    return [
        _Table(
            (f"{key}: before ↓ after →", *flow.bands),
            tuple(
                (band, *(f"{count:,}" for count in counts))
                for band, counts in zip(flow.bands, flow.counts, strict=True)
            ),
        )
        for key, flow in document.gold_flow.items()
    ]


def _lay_out_thresholds(document: EvaluationDocument, score_names: Mapping[str, str]) -> list[_Table]:
    tables = []
    for key, lab in document.thresholds.items():
        head = (
            f"{key}: keep {score_names[key]}s from",
            "gold lost",
            "other candidates dropped",
            "queries left empty",
        )
        rows = [
            (
                f"{step.cutoff:.2f}",
                f"{step.gold_lost:,} of {lab.gold_total:,}",
                f"{step.junk_dropped:,} of {lab.junk_total:,}",
                f"{step.queries_empty:,}",
            )
            for step in lab.steps[::4]
        ]
        tables.append(_Table(head, tuple(rows)))
    return tables


def _fit_queries(ranked: list[QueryResult]) -> list[QueryResult]:
    """Return as many rows as fit into MAX_BYTES."""
    room = MAX_BYTES
    for at, row in enumerate(ranked):
        words = escape(row.query[:MAX_CHARACTERS] + row.query_id[:60])  # count the bytes after escaping
        room -= len(words.encode("utf-8", "replace")) + _ROW_BYTES
        if room < 0:
            return ranked[:at]
    return ranked
