"""An evaluation as HTML: what to do, the ceiling bar, the table of systems, the verdict queue, the notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import urlencode

from rag_inspect.evaluation.document import (
    CeilingBar,
    ComparedRun,
    Comparison,
    EvaluationDocument,
    MetricValue,
    RankedQuery,
    RunSettings,
    SystemResult,
)
from rag_inspect.types import Verdict
from rag_inspect.words import counted

SHOWN = ("recall@5", "mrr@5", "ndcg@10", "hit@1")
QUEUE_ROWS = 300
MAX_LINK = 8_000  # characters; browsers and servers refuse much longer ones
MEANINGS: dict[Verdict, str] = {
    "lost": "the best gold fell out of the passages kept",
    "demoted": "it fell, but is still kept",
    "near_miss": "it is a candidate, but was not kept before or after",
    "unreachable": "it is not among the candidates: no reranker can help",
    "held": "it stayed where it was, among those kept",
    "promoted": "it rose among those kept",
    "rescued": "it was brought in from outside those kept",
}


def advice_html(document: EvaluationDocument) -> str:
    """The line that says what to do, then the other rules that apply, each with the number it looked at."""
    advice = document.advice
    if not advice:
        return _lines('<p class="ri-sentence">No rule has anything to advise here: read the table.</p>')
    rest = "".join(
        f'<p class="ri-aside" title="{escape(line.source)}">{escape(line.text)}</p>' for line in advice[1:]
    )
    looks = f'<p class="ri-aside">It looks at {escape(advice[0].looks_at)} ({escape(advice[0].source)}).</p>'
    return _lines(f'<p class="ri-sentence">{escape(advice[0].text)}</p>{looks}{rest}')


def ceiling_html(document: EvaluationDocument) -> str:
    """recall@n in stacked parts, one bar a system, with the numbers in words."""
    bars = "".join(_bar(bar, system_name(document, bar.system)) for bar in document.ceiling_bars)
    first = document.ceiling_bars[0]
    words = f"{escape(first.metric)}: what is achieved, what a perfect reranker could still recover, what is not among the candidates"
    if first.does_not_fit > 0:
        words += f"; more gold than n: what cannot be among {document.top_n} passages in any order"
    return f'<div class="ri ri-eval"><h3>The ceiling <small>{words}</small></h3>{bars}</div>'


def ceiling_parts(bar: CeilingBar) -> list[tuple[str, float]]:
    """The parts of a bar by the names a reader sees; "more gold than n" only where there is some."""
    parts = [
        ("achieved", bar.achieved),
        ("recoverable", bar.recoverable),
        ("unreachable", bar.unreachable),
    ]
    return [*parts, ("more gold than n", bar.does_not_fit)] if bar.does_not_fit > 0 else parts


def _bar(bar: CeilingBar, system: str) -> str:
    parts = ceiling_parts(bar)
    spoken = ", ".join(f"{name} {share:.1%}" for name, share in parts)
    pieces = "".join(
        f'<span class="{_part(name)}" style="width:{100 * share:.2f}%"><i></i><i>{share:.0%}</i><i>{name}</i></span>'
        for name, share in parts
    )
    legend = "".join(
        f'<span><i class="ri-swatch {_part(name)}"></i>{name} {share:.1%}</span>' for name, share in parts
    )
    return (
        f'<div class="ri-ceiling"><b>{escape(system)}</b>'
        f'<span class="ri-stack" role="img" aria-label="{escape(system)}: {spoken}">{pieces}</span>'
        f'<span class="ri-parts" aria-hidden="true">{legend}</span></div>'
    )


def _part(name: str) -> str:
    """The class with a part's colour."""
    return f"ri-{name.replace(' ', '-')}"


def table_html(document: EvaluationDocument) -> str:
    """One row a system: four metrics with their 95 % intervals, the change, wins, ties, losses, latency.

    A fold below has every metric of the document, those at the chosen cutoffs too, and what each word means.
    """
    primary = document.primary
    names = [name for name in SHOWN if name in document.first_stage.metrics]
    head = "".join(f"<th>{_defined(name, document.tooltips)}</th>" for name in names)
    several = len(document.rerankers) > 1
    meanings = {
        f"Δ {primary}": f"change of {primary} against the first stage, with its paired 95 % bootstrap interval",
        "p": "paired randomisation test" + (", Holm-corrected over the rerankers" if several else ""),
        "W / T / L": "queries on which it is better, equal, worse than the first stage",
        "p50 / p95 ms": "milliseconds a query, first stage included, timed on a few queries one at a time: the median, and what 95 % stay below",
    }
    head += "".join(f"<th>{_defined(name, meanings)}</th>" for name in meanings)
    rows = "".join(
        _system_row(system, system_name(document, system.key), names, primary) for system in document.systems
    )
    return (
        '<div class="ri ri-eval"><table><thead><tr><th>system</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table>"
        f'<p class="ri-aside">{escape(document.corpus)}, split {escape(document.split)}, '
        f"{counted(document.queries, 'judged query', 'judged queries')}, top_k {document.top_k}, "
        f"evaluated {escape(run_date(document.created))}; small: 95 % bootstrap intervals.</p>{_all_metrics(document, meanings)}</div>"
    )


def _all_metrics(document: EvaluationDocument, meanings: Mapping[str, str]) -> str:
    """The fold: one row a metric with its definition and the value of every system; then the other columns' meanings."""
    systems = document.systems
    head = "".join(f"<th>{escape(system_name(document, system.key))}</th>" for system in systems)
    rows = "".join(
        f"<tr><th>{escape(name)} <small>{escape(document.tooltips.get(name, '').partition(': ')[2])}</small></th>"
        f"{''.join(_metric_cell(system.metrics[name]) for system in systems)}</tr>"
        for name in systems[0].metrics
    )
    others = "".join(
        f'<tr><th colspan="{len(systems) + 1}">{escape(name)} <small>{escape(meaning)}</small></th></tr>'
        for name, meaning in meanings.items()
    )
    cutoffs = ", ".join(map(str, document.cutoffs))
    return (
        f"<details><summary>All metrics and what they mean <small>cutoffs {cutoffs}</small></summary><table><thead><tr>"
        f"<th>metric</th>{head}</tr></thead><tbody>{rows}{others}</tbody></table></details>"
    )


def system_name(document: EvaluationDocument, key: str) -> str:
    """The key; the first stage's says what it is, since two short names are easily taken for one another."""
    return f"{key} (first stage)" if key == document.first_stage.key else key


def _defined(name: str, tooltips: Mapping[str, str]) -> str:
    return f'<abbr title="{escape(tooltips.get(name, name))}">{escape(name)}</abbr>'


def _metric_cell(metric: MetricValue) -> str:
    low, high = metric.ci95
    return f"<td>{metric.value:.3f} <small>{low:.2f}–{high:.2f}</small></td>"


def _system_row(system: SystemResult, called: str, names: Sequence[str], primary: str) -> str:
    cells = [f"<th>{escape(called)}</th>", *(_metric_cell(system.metrics[name]) for name in names)]
    change = system.versus_first_stage.get(primary)
    if change:
        low, high = change.ci95
        cells += [
            f"<td>{change.delta:+.3f} <small>{low:+.2f} to {high:+.2f}</small></td>",
            f"<td>{change.p_holm:.3f}</td>" if change.p_holm >= 0.001 else "<td>&lt; 0.001</td>",
            f"<td>{change.wins} / {change.ties} / {change.losses}</td>",
        ]
    else:
        cells.append('<td colspan="3"><small>what the others are compared with</small></td>')
    p50, p95 = system.latency.p50, system.latency.p95
    cells.append(
        "<td>not measured</td>" if p50 is None or p95 is None else f"<td>{p50:,.0f} / {p95:,.0f}</td>"
    )
    return f"<tr>{''.join(cells)}</tr>"


def queue_html(
    settings: RunSettings, system: str, verdict: str, rows: Sequence[RankedQuery], links: bool = True
) -> str:
    """The queries, in the order given, as links into Explore; `verdict` "" shows all of them.

    Without `links` they are text: Explore cannot open a corpus that this app does not have. The settings are the document's, or a running job's.
    """
    chosen = [row for row in rows if not verdict or row.verdicts[system] == verdict]
    items = "".join(_queue_row(settings, system, row, links) for row in chosen[:QUEUE_ROWS])
    more = f", the first {QUEUE_ROWS} shown" if len(chosen) > QUEUE_ROWS else ""
    every = "worst first; a click opens the query in Explore" if links else "worst first"
    words = escape(MEANINGS.get(verdict, every))  # type: ignore[call-overload]
    return (
        f'<div class="ri ri-eval"><p class="ri-aside">{len(chosen):,} of {counted(len(rows))}{more}: {words}</p>'
        f'<ul class="ri-queue">{items}</ul></div>'
    )


def _queue_row(settings: RunSettings, system: str, row: RankedQuery, links: bool) -> str:
    verdict, before, after = row.verdicts[system], row.rank_before, row.ranks[system]
    ranks = f"#{before} → #{after}" if before and after else "not among the candidates"
    view = {"corpus": settings.corpus, "q": row.query, "embedder": settings.embedder,
            "reranker": system, "k": settings.top_k, "n": settings.top_n}  # fmt: skip
    link = urlencode(view)
    href = f' target="_blank" rel="noopener" href="?{escape(link)}"' if links and len(link) < MAX_LINK else ""
    return (
        f'<li><a{href}><span class="ri-verdict ri-{verdict}">{verdict.replace("_", " ")}</span>'
        f'<span class="ri-query">{escape(row.query[:300])}</span><span class="ri-ranks">{ranks}</span></a></li>'
    )


def notes_html(document: EvaluationDocument) -> str:
    """What a reader of these numbers should know."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in document.notes)
    return f'<div class="ri ri-eval"><h3>Notes</h3><ul class="ri-notes">{notes}</ul></div>' if notes else ""


def progress_html(moment: object, share: float | None = None) -> str:
    """How far it is, in words and as a bar."""
    bar = "" if share is None else f'<progress max="1" value="{share:.4f}"></progress>'
    return _lines(f'{bar}<p class="ri-aside">{escape(str(moment))}</p>')


def running_html(means: Mapping[str, Mapping[str, float]], done: int, queries: int) -> str:
    """The means over the queries that are done, one row a system, while the others are still to come."""
    names = list(next(iter(means.values()), {}))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><th>{escape(key)}</th>{''.join(f'<td>{found[name]:.3f}</td>' for name in names)}</tr>"
        for key, found in means.items()
    )
    return (
        f'<div class="ri ri-eval"><table><thead><tr><th>so far</th>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f'<p class="ri-aside">Means over the first {done:,} of {counted(queries)}; intervals come with the last.</p></div>'
    )


def comparison_html(found: Comparison) -> str:
    """Two runs: each metric's difference with its interval, and the queries whose verdict changed."""
    metrics = "".join(
        f"<tr><th>{escape(name)}</th><td>{change.delta:+.3f} <small>{change.ci95[0]:+.3f} to {change.ci95[1]:+.3f}"
        f"</small></td><td>{change.wins} / {change.ties} / {change.losses}</td></tr>"
        for name, change in found.metrics.items()
    )
    changed = "".join(
        f"<li>{escape(row.query[:200])}: {escape(row.verdict_before)} → {escape(row.verdict_after)} "
        f"(rank {row.rank_before or '–'} → {row.rank_after or '–'})</li>"
        for row in found.changed[:QUEUE_ROWS]
    )
    first, second = map(_side, found.runs)
    return (
        f'<div class="ri ri-eval"><h3>{first} → {second} <small>{counted(found.queries)} in both</small></h3>'
        f"<table><thead><tr><th>metric</th><th>difference</th><th>W / T / L</th></tr></thead><tbody>{metrics}</tbody>"
        f'</table><p class="ri-aside">{counted(len(found.changed))} changed verdict (by what the later run kept).</p><ul class="ri-notes">{changed}</ul></div>'
    )


def _side(run: ComparedRun) -> str:
    return escape(
        f"{run.system} on {run.corpus} ({run.split}, top {run.top_k}, {run.top_n} kept), {run_date(run.created)}"
    )


def run_date(created: str) -> str:
    """When a run was made, as 2026-11-23 19:05."""
    return created[:16].replace("T", " ")


def _lines(inside: str) -> str:
    return f'<div class="ri ri-lines">{inside}</div>'
