"""An evaluation as HTML: what to do, the ceiling bar, the table of systems, the verdict queue, the notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import urlencode

from rag_inspect.types import Verdict

Document = Mapping[str, Any]

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


def advice_html(document: Document) -> str:
    """The line that says what to do, then the other rules that apply, each with the number it looked at."""
    advice = document["advice"]
    if not advice:
        return _lines('<p class="ri-sentence">No rule has anything to advise here: read the table.</p>')
    rest = "".join(
        f'<p class="ri-aside" title="{escape(line["source"])}">{escape(line["text"])}</p>'
        for line in advice[1:]
    )
    looks = f'<p class="ri-aside">It looks at {escape(advice[0]["looks_at"])} ({escape(advice[0]["source"])}).</p>'
    return _lines(f'<p class="ri-sentence">{escape(advice[0]["text"])}</p>{looks}{rest}')


def ceiling_html(document: Document) -> str:
    """recall@n in three stacked parts, one bar a system, with the numbers in words."""
    bars = "".join(_bar(bar) for bar in document["ceiling_bars"])
    metric = document["ceiling_bars"][0]["metric"]
    words = f"{escape(metric)}: what is achieved, what a perfect reranker could still recover, what no reranker can reach"
    return f'<div class="ri ri-eval"><h3>The ceiling <small>{words}</small></h3>{bars}</div>'


def _bar(bar: Mapping[str, Any]) -> str:
    parts = [(name, bar[name]) for name in ("achieved", "recoverable", "unreachable")]
    spoken = ", ".join(f"{name} {share:.1%}" for name, share in parts)
    pieces = "".join(
        f'<span class="ri-{name}" style="width:{100 * share:.2f}%" title="{name} {share:.1%}">'
        f"{f'{name} {share:.0%}' if share > 0.14 else f'{share:.0%}' if share > 0.04 else ''}</span>"
        for name, share in parts
    )
    return (
        f'<div class="ri-ceiling"><b>{escape(bar["system"])}</b>'
        f'<span class="ri-stack" role="img" aria-label="{escape(bar["system"])}: {spoken}">{pieces}</span></div>'
    )


def table_html(document: Document) -> str:
    """One row a system: the four metrics with their 95 % intervals, the change, wins, ties, losses, latency."""
    primary = document["primary"]
    names = [name for name in SHOWN if name in document["systems"][0]["metrics"]]
    head = "".join(f"<th>{_defined(name, document['tooltips'])}</th>" for name in names)
    holm = "p_holm" if len(document["systems"]) > 2 else "p_value"
    p_title = "paired randomisation test" + (
        ", Holm-corrected over the rerankers" if holm == "p_holm" else ""
    )
    rows = "".join(_system_row(system, names, primary, holm) for system in document["systems"])
    return (
        '<div class="ri ri-eval"><table><thead><tr><th>system</th>'
        f'{head}<th><abbr title="change of {primary} against the first stage, with its paired 95 % bootstrap interval">'
        f'Δ {primary}</abbr></th><th><abbr title="{p_title}">p</abbr></th>'
        '<th><abbr title="queries on which it is better, equal, worse than the first stage">W / T / L</abbr></th>'
        '<th><abbr title="measured milliseconds a query, first stage included">p50 / p95 ms</abbr></th>'
        f"</tr></thead><tbody>{rows}</tbody></table>"
        f'<p class="ri-aside">{escape(document["corpus"])}, split {escape(document["split"])}, '
        f"{document['queries']:,} judged queries, top_k {document['top_k']}; small: 95 % bootstrap intervals.</p></div>"
    )


def _defined(name: str, tooltips: Mapping[str, str]) -> str:
    return f'<abbr title="{escape(tooltips.get(name, name))}">{escape(name)}</abbr>'


def _system_row(system: Mapping[str, Any], names: Sequence[str], primary: str, p_name: str) -> str:
    cells = [f"<th>{escape(system['key'])}</th>"]
    for name in names:
        metric = system["metrics"][name]
        cells.append(
            f"<td>{metric['value']:.3f} <small>{metric['ci95'][0]:.2f}–{metric['ci95'][1]:.2f}</small></td>"
        )
    change = system.get("versus_first_stage", {}).get(primary)
    if change:
        low, high = change["ci95"]
        cells += [
            f"<td>{change['delta']:+.3f} <small>{low:+.2f} to {high:+.2f}</small></td>",
            f"<td>{change[p_name]:.3f}</td>" if change[p_name] >= 0.001 else "<td>&lt; 0.001</td>",
            f"<td>{change['wins']} / {change['ties']} / {change['losses']}</td>",
        ]
    else:
        cells.append('<td colspan="3"><small>the first stage</small></td>')
    p50, p95 = (system["latency_ms"][name] for name in ("p50", "p95"))
    cells.append("<td>not measured</td>" if p50 is None else f"<td>{p50:,.0f} / {p95:,.0f}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def queue_html(document: Document, system: str, verdict: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The queries, in the order given, as links into Explore; `verdict` "" shows all of them.

    Of the document it takes corpus, embedder, top_k and top_n, so that the rows of a running job can be shown too.
    """
    chosen = [row for row in rows if not verdict or row["verdicts"][system] == verdict]
    items = "".join(_queue_row(document, system, row) for row in chosen[:QUEUE_ROWS])
    more = f", the first {QUEUE_ROWS} shown" if len(chosen) > QUEUE_ROWS else ""
    words = escape(MEANINGS.get(verdict, "worst first; a click opens the query in Explore"))  # type: ignore[call-overload]
    return (
        f'<div class="ri ri-eval"><p class="ri-aside">{len(chosen):,} of {len(rows):,} queries{more}: {words}</p>'
        f'<ul class="ri-queue">{items}</ul></div>'
    )


def _queue_row(document: Document, system: str, row: Mapping[str, Any]) -> str:
    verdict, before, after = row["verdicts"][system], row["rank_before"], row["ranks"][system]
    ranks = f"#{before} → #{after}" if before and after else "not among the candidates"
    view = {"corpus": document["corpus"], "q": row["query"], "embedder": document["embedder"]["key"],
            "reranker": system, "k": document["top_k"], "n": document["top_n"]}  # fmt: skip
    link = urlencode(view)
    href = f' target="_blank" rel="noopener" href="?{escape(link)}"' if len(link) < MAX_LINK else ""
    return (
        f'<li><a{href}><span class="ri-verdict ri-{verdict}">{verdict.replace("_", " ")}</span>'
        f'<span class="ri-query">{escape(row["query"][:300])}</span><span class="ri-ranks">{ranks}</span></a></li>'
    )


def notes_html(document: Document) -> str:
    """What a reader of these numbers should know."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in document["notes"])
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
        f'<p class="ri-aside">Means over the first {done:,} of {queries:,} queries; intervals come with the last.</p></div>'
    )


def comparison_html(found: Mapping[str, Any]) -> str:
    """Two runs: each metric's difference with its interval, and the queries whose verdict changed."""
    metrics = "".join(
        f"<tr><th>{escape(name)}</th><td>{change['delta']:+.3f} <small>{change['ci95'][0]:+.3f} to {change['ci95'][1]:+.3f}"
        f"</small></td><td>{change['wins']} / {change['ties']} / {change['losses']}</td></tr>"
        for name, change in found["metrics"].items()
    )
    changed = "".join(
        f"<li>{escape(row['query'][:200])}: {escape(row['verdict_before'])} → {escape(row['verdict_after'])} "
        f"(rank {row['rank_before'] or '–'} → {row['rank_after'] or '–'})</li>"
        for row in found["changed"][:QUEUE_ROWS]
    )
    first, second = (escape(f"{run['system']} on {run['corpus']}, {_when(run)}") for run in found["runs"])
    return (
        f'<div class="ri ri-eval"><h3>{first} → {second} <small>{found["queries"]:,} queries in both</small></h3>'
        f"<table><thead><tr><th>metric</th><th>difference</th><th>W / T / L</th></tr></thead><tbody>{metrics}</tbody>"
        f'</table><p class="ri-aside">{len(found["changed"]):,} queries changed verdict.</p><ul class="ri-notes">{changed}</ul></div>'
    )


def _when(run: Mapping[str, Any]) -> str:
    """2026-11-23 19:05, of an ISO time."""
    return str(run["created"])[:16].replace("T", " ")


def _lines(inside: str) -> str:
    return f'<div class="ri ri-lines">{inside}</div>'
