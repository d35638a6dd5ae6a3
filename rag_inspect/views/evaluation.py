"""The HTML of an evaluation: advice, ceiling bars, table of systems, verdict queue, notes, comparison of two runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from rag_inspect.evaluation.document import Comparison, EvaluationDocument, RankedQuery, RunSettings
from rag_inspect.evaluation.systems import split_key
from rag_inspect.metrics import GOLD_GRADE
from rag_inspect.types import Verdict
from rag_inspect.views.ceiling import describe_parts, lay_out_bars
from rag_inspect.views.formats import format_ranks
from rag_inspect.views.systems import describe_comparison, describe_gold, describe_systems
from rag_inspect.views.templates import render
from rag_inspect.words import format_count, format_duration

QUEUE_ROWS = 300
MAX_LINK = 8_000  # characters; browsers and servers refuse much longer ones
MEANINGS: Mapping[Verdict, str] = {
    "lost": "the best gold passage dropped out of the top {n}",
    "demoted": "the best gold passage dropped, but stayed in the top {n}",
    "near_miss": "the best gold passage is a candidate, but was outside the top {n} before and after",
    "unreachable": "no gold passage is among the candidates, so no reranker can help",
    "held": "the best gold passage kept its rank in the top {n}",
    "promoted": "the best gold passage rose within the top {n}",
    "rescued": "the best gold passage entered the top {n}",
}


@dataclass(frozen=True, slots=True)
class _QueueRow:
    verdict: Verdict
    label: str
    query: str
    ranks: str
    link: str


def caption_html(document: EvaluationDocument, of: Sequence[object] | None = None) -> str:
    """What these are the results of; `of` is what the form said (see static/page.js), None if it cannot say it."""
    models = " → ".join((", ".join(document.first_stages), ", ".join(document.rerankers)))
    depths = f"top_k {document.top_k}, top_n {document.top_n}"
    words = f"{document.corpus} ({document.split}) · {models} · {depths}{describe_gold(document)}"
    return render("eval_caption.html", words=words, of=json.dumps(of) if of is not None else "")


def describe_record(document: EvaluationDocument) -> str:
    """When and with what it was recorded, and what a run of the same would be."""
    models = ", ".join(f"{key} {revision[:8]}".strip() for key, revision in _list_models(document))
    pairs = document.queries * document.top_k * len(document.reranked)
    times = [system.latency.p50 for system in document.reranked]
    took = sum(time or 0 for time in times) * document.queries / 1000
    about = f", about {format_duration(took)} at the recorded pace" if all(times) else ""
    return (
        f"Recorded on {document.created[:10]} with {models}; nothing has run here. Evaluate would score up to "
        f"{format_count(pairs, 'pair', 'pairs')} of {format_count(document.queries)}{about}."
    )


def _list_models(document: EvaluationDocument) -> list[tuple[str, str]]:
    """Return (key, revision) of each first stage and each reranker, once."""
    models = [system.system.model for system in document.systems if system.kind != "fused"]
    return list(dict.fromkeys((model.key, model.revision) for model in models))


def advice_html(document: EvaluationDocument) -> str:
    """Render the decision, counted in queries and in words, then the other lines of advice."""
    return render("advice.html", advice=document.advice, decision=document.decision)


def ceiling_html(document: EvaluationDocument) -> str:
    """Render one ceiling bar per system, with its numbers."""
    return render("ceiling.html", bars=lay_out_bars(document), words=describe_parts(document))


def table_html(document: EvaluationDocument) -> str:
    """Render one row per system: four metrics with 95 % intervals, change, p, wins / ties / losses, latency.

    A collapsed part below lists all metrics and explains each.
    """
    return render(
        "metrics.html",
        **describe_systems(document),
        queries=format_count(document.queries, "judged query", "judged queries"),
        gold=describe_gold(document),
        others=describe_comparison(document),
    )


def slices_html(document: EvaluationDocument) -> str:
    """Render the change by kind of query, the worst first; "" if there are no slices."""
    if not document.slices:
        return ""
    decision = document.decision
    return render("slices.html", slices=document.slices, decision=decision, metric=decision.metric)


def queue_html(
    settings: RunSettings, system: str, verdict: str, rows: Sequence[RankedQuery], links: bool = True
) -> str:
    """Render the queries with this verdict ("" for all) as links into Explore, in the given order.

    Without `links` they are plain text: Explore cannot open a corpus that this app does not have. The settings are
    those of a document or of a running job.
    """
    chosen = [row for row in rows if not verdict or row.verdicts[system] == verdict]
    meanings = {name: describe_verdict(name, settings.top_n) for name in MEANINGS}
    texts = Counter(row.query for row in rows)
    also = ", which marks gold from grade 1" if settings.gold_grade > GOLD_GRADE else ""
    order = f"{system} against {split_key(system)[0]}, worst first"
    every = f"{order}; click a query to open it in a new tab of Explore{also}" if links else order
    return render(
        "queue.html",
        rows=[_queue_row(settings, system, row, links, texts[row.query] > 1) for row in chosen[:QUEUE_ROWS]],
        found=len(chosen),
        queries=format_count(len(rows)),
        most=QUEUE_ROWS if len(chosen) > QUEUE_ROWS else 0,
        words=meanings.get(verdict, every),  # type: ignore[call-overload]
        meanings=meanings,
    )


def describe_verdict(verdict: Verdict, top_n: int) -> str:
    """Explain a verdict."""
    return MEANINGS[verdict].format(n=top_n)


def _queue_row(
    settings: RunSettings, system: str, row: RankedQuery, links: bool, repeated: bool
) -> _QueueRow:
    """A query whose text is `repeated` by another shows its id."""
    verdict, (first_stage, reranker) = row.verdicts[system], split_key(system)
    view = {"corpus": settings.corpus, "query_id": row.query_id, "q": row.query, "first_stage": first_stage,
            "reranker": reranker, "k": settings.top_k, "n": settings.top_n}  # fmt: skip
    link = urlencode(view)
    if len(link) >= MAX_LINK:  # the id is enough, as long as the corpus does not change
        link = urlencode({name: value for name, value in view.items() if name != "q"})
    return _QueueRow(
        verdict=verdict,
        label=verdict.replace("_", " "),
        query=f"{row.query[:300]} ({row.query_id[:80]})" if repeated else row.query[:300],
        ranks=format_ranks(row.rank_before(system), row.ranks[system]),
        link=link if links and len(link) < MAX_LINK else "",
    )


def notes_html(document: EvaluationDocument) -> str:
    """Render the notes, or "" if there are none."""
    return render("notes.html", notes=document.notes) if document.notes else ""


def progress_html(moment: object, share: float | None = None) -> str:
    """Render progress as words, and as a bar if the share is known."""
    return render("progress.html", words=str(moment), share="" if share is None else f"{share:.4f}")


def running_html(means: Mapping[str, Mapping[str, float]], done: int, queries: int) -> str:
    """Render the means over the queries done so far, one row per system."""
    names = list(next(iter(means.values()), {}))
    return render("running.html", names=names, means=means, done=done, queries=format_count(queries))


def comparison_html(found: Comparison) -> str:
    """Render the comparison of two runs: each metric in both, its difference, and the queries whose verdict changed."""
    return render(
        "comparison.html",
        runs=found.runs,
        queries=format_count(found.queries),
        identical=found.identical,
        other_gold=found.other_gold,
        metrics=found.metrics,
        changed=format_count(len(found.changed)),
        rows=found.changed[:QUEUE_ROWS],
    )
