"""report.html: one evaluation as one page without scripts or outside files, for a screen and for paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from html import escape

from rag_inspect.evaluation.document import CeilingBar, EvaluationDocument, FrontierPoint, worst_first
from rag_inspect.types import VERDICTS
from rag_inspect.views.evaluation import ceiling_parts, system_name
from rag_inspect.views.palette import FAINT, LINES, PARTS
from rag_inspect.words import counted

HEADLINE = ("recall@5", "mrr@5", "ndcg@10", "hit@1")
MAX_BYTES = 4_500_000  # of queries listed, worst first, so that the whole stays under 6 MB; per_query.csv has them all
MAX_CHARACTERS = 400  # of one query's text

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; max-width: 1060px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-size: 13px; } caption { text-align: left; padding: .3rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .5rem; text-align: right; vertical-align: top; }
th:first-child, td:first-child, .words { text-align: left; } .words { display: inline-block; min-width: 14rem; overflow-wrap: anywhere; }
.range { opacity: .75; font-size: 11px; white-space: nowrap; } .advice { border-left: 4px solid #2f6f9f; padding: .4rem .8rem; background: var(--soft); }
.bar { display: flex; height: 26px; border-radius: 4px; overflow: hidden; margin: .2rem 0; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.bar span { display: block; } .scroll { overflow-x: auto; } .scroll svg { min-width: 640px; } h1, h2, p, li { overflow-wrap: anywhere; } svg text { fill: currentColor; font-size: 12px; } small { opacity: .8; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } tr { break-inside: avoid; } h2 { break-after: avoid; } thead { display: table-header-group; } }
"""


def report_html(document: EvaluationDocument) -> str:
    """The whole page; every word that came from a corpus is escaped, and the page may load nothing."""
    title = f"{document.corpus}: is the reranker worth it?"
    sections = (_summary, _table, _ceiling, _frontier, _verdicts, _flow, _thresholds, _queries, _about)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f"{''.join(section(document) for section in sections)}</main></body></html>\n"
    )


def _summary(document: EvaluationDocument) -> str:
    systems = " and ".join(system.key for system in document.rerankers)
    what = (
        f"{counted(document.queries, 'judged query', 'judged queries')} (split {document.split}) over {document.passages:,} passages; the first "
        f"{document.top_k} by {document.first_stage.key}, reranked by {systems}; {document.created}."
    )
    lines = [
        f'<p class="advice">{escape(advice.text)}<br><small>looks at {escape(advice.looks_at)}; {escape(advice.source)}</small></p>'
        for advice in document.advice
    ]
    return f"<p>{escape(what)}</p>{''.join(lines)}"


def _table(document: EvaluationDocument) -> str:
    primary = document.primary
    head = ["system", *HEADLINE, f"Δ {primary}", "p (Holm)", "wins / ties / losses", "p50 ms", "p95 ms"]
    rows = []
    for system in document.systems:
        change = system.versus_first_stage.get(primary)
        cells = [
            escape(system_name(document, system.key)),
            *(_interval(system.metrics[name].value, system.metrics[name].ci95) for name in HEADLINE),
        ]
        cells += [_interval(change.delta, change.ci95, "+"), f"{change.p_holm:.4f}"] if change else ["", ""]
        cells.append(f"{change.wins} / {change.ties} / {change.losses}" if change else "")
        rows.append([*cells, _ms(system.latency.p50), _ms(system.latency.p95)])
    defined = "".join(f"<li>{escape(document.tooltips[name])}</li>" for name in HEADLINE)
    note = "Brackets: 95 % interval (paired bootstrap). p: paired randomisation test."
    return f"<h2>Metrics</h2>{_html_table(head, rows, note)}<ul>{defined}</ul>"


def _ceiling(document: EvaluationDocument) -> str:
    bars = "".join(_bar(bar, system_name(document, bar.system)) for bar in document.ceiling_bars)
    quiet = "; more gold than n is what cannot be among so few passages in any order"
    fourth = quiet if document.ceiling_bars[0].does_not_fit > 0 else ""
    return (
        f"<h2>Ceiling</h2><p>{escape(document.ceiling_bars[0].metric)} in parts: achieved, recoverable by a perfect "
        f"reranker over the same candidates, unreachable because the gold is not among them{fourth}.</p>{bars}"
    )


def _bar(bar: CeilingBar, system: str) -> str:
    shares = [(name, share, PARTS.get(name, FAINT)) for name, share in ceiling_parts(bar)]
    parts = "".join(
        f'<span style="width:{100 * share:.3f}%;background:{colour}"></span>' for _, share, colour in shares
    )
    words = ", ".join(f"{name} {share:.1%}" for name, share, _ in shares)
    legend = ", ".join(
        f'<span style="color:{colour}">■</span> {name} {share:.1%}' for name, share, colour in shares
    )
    return f'<div><b>{escape(system)}</b>: {legend}<div class="bar" role="img" aria-label="{escape(system)}: {words}">{parts}</div></div>'


def _frontier(document: EvaluationDocument) -> str:
    points, primary = document.frontier, document.primary
    timed = all(point.latency_ms is not None for point in points)
    cheapest = next(point for point in points if point.cheapest)
    where = f"depth {cheapest.depth} of {cheapest.system}" if cheapest.depth else "the first stage alone"
    cost = f" at {cheapest.latency_ms:,.0f} ms a query" if cheapest.latency_ms is not None else ""
    axis = "ms a query, first stage included" if timed else "depth (the latency was not measured)"
    return (
        f"<h2>Depth and latency</h2><p>{escape(primary)} when only the first candidates are reranked, against {axis}. Cheapest "
        f"within noise of the best: {escape(where)}{cost} (ringed); within noise: "
        f"0 lies in the paired 95 % interval of best minus point.</p>{_chart(document, timed)}"
    )


def _chart(document: EvaluationDocument, timed: bool) -> str:
    """A line a system, as SVG; against depth where it is not `timed`."""
    points, primary, axis = document.frontier, document.primary, "latency_ms" if timed else "depth"

    def across(point: FrontierPoint) -> float:
        return (point.latency_ms or 0.0) if timed else point.depth

    x = _scale([across(point) for point in points], 60, 900)
    y = _scale([point.metrics[primary] for point in points], 270, 20)
    systems = list(dict.fromkeys(point.system for point in points))
    drawn = []
    for number, system in enumerate(systems):
        own, colour = (
            [point for point in points if point.system == system],
            LINES[number % len(LINES)],
        )
        places = [(x(across(point)), y(point.metrics[primary]), point) for point in own]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py, _ in places)
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for px, py, point in places:
            label = f"{system}, depth {point.depth}: {primary} {point.metrics[primary]:.3f}"
            drawn.append(
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"><title>{escape(label)}</title></circle>'
            )
            if point.cheapest:
                drawn.append(
                    f'<circle cx="{px:.1f}" cy="{py:.1f}" r="8" fill="none" stroke="{colour}" stroke-width="2"/>'
                )
        drawn.append(
            f'<text x="{min(places[-1][0] + 8, 905):.1f}" y="{places[-1][1]:.1f}">{escape(system_name(document, system))}</text>'
        )
    low, high = sorted(map(across, points)), sorted(point.metrics[primary] for point in points)
    ticks = [(60, 292, low[0]), (860, 292, low[-1])]
    drawn += [f'<text x="{px}" y="{py}">{value:,.0f}</text>' for px, py, value in ticks]
    drawn += [f'<text x="4" y="{py}">{value:.3f}</text>' for py, value in ((274, high[0]), (24, high[-1]))]
    frame = '<path d="M56 16V276H900" fill="none" stroke="currentColor" opacity=".4"/>'
    return f'<div class="scroll"><svg viewBox="0 0 1000 300" width="100%" role="img" aria-label="quality against {axis}">{frame}{"".join(drawn)}</svg></div>'


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = min(values), max(values)
    return lambda value: start + (end - start) * ((value - low) / (high - low) if high > low else 0.5)


def _verdicts(document: EvaluationDocument) -> str:
    head = ["reranker", *VERDICTS]
    rows = []
    for system in document.rerankers:
        counts = Counter(row.verdicts[system.key] for row in document.per_query)
        rows.append([escape(system.key), *(str(counts[verdict]) for verdict in VERDICTS)])
    note = (
        f"By the best gold's rank, kept means top {document.top_n}. lost, rescued: out of it, into it; demoted, promoted, held: "
        "inside it; near_miss: stays below it; unreachable: not among the candidates."
    )
    return f"<h2>Verdicts</h2>{_html_table(head, rows, note)}"


def _flow(document: EvaluationDocument) -> str:
    tables = []
    for key, flow in document.gold_flow.items():
        head = [f"{key}: before ↓ after →", *flow.bands]
        rows = [
            [escape(band), *map(str, counts)] for band, counts in zip(flow.bands, flow.counts, strict=True)
        ]
        tables.append(_html_table(head, rows, ""))
    return f"<h2>Where the gold went</h2><p>Queries by the rank of their best gold.</p>{''.join(tables)}"


def _thresholds(document: EvaluationDocument) -> str:
    tables = []
    for key, lab in document.thresholds.items():
        head = [f"{key}: keep logits from", "gold lost", "other candidates dropped", "queries left empty"]
        rows = [
            [
                f"{s.cutoff:.2f}",
                f"{s.gold_lost} of {lab.gold_total}",
                f"{s.junk_dropped} of {lab.junk_total}",
                str(s.queries_empty),
            ]
            for s in lab.steps[::4]
        ]
        tables.append(_html_table(head, rows, ""))
    words = "A cutoff holds for this model and this corpus only: logits do not compare across either."
    return f"<h2>Cutoffs on the logit</h2><p>{words}</p>{''.join(tables)}"


def _queries(document: EvaluationDocument) -> str:
    key = document.rerankers[0].key
    ranked = worst_first(document.per_query, key)
    rows: list[list[str]] = []
    room = MAX_BYTES
    for row in ranked:
        cells = [f'<span class="words">{escape(row.query[:MAX_CHARACTERS])}</span>', escape(row.query_id[:60]), row.verdict,
                 str(row.rank_before or "–"), str(row.rank_after or "–")]  # fmt: skip
        room -= sum(len(cell.encode("utf-8", "replace")) + len("<td></td>") for cell in cells) + len(
            "<tr></tr>"
        )
        if room < 0:
            break
        rows.append(cells)
    left = len(ranked) - len(rows)
    note = f"Best gold's rank under {key}, worst first." + (
        f" {left:,} more are in per_query.csv." if left else ""
    )
    return f"<h2>Queries</h2>{_html_table(['query', 'id', 'verdict', 'before', 'after'], rows, note)}"


def _about(document: EvaluationDocument) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in document.notes)
    models = "".join(
        f"<li>{escape(s.key)}: {escape(s.system.model)} at {escape(s.system.revision)}</li>"
        for s in document.systems
    )
    versions = ", ".join(f"{name} {number}" for name, number in document.versions.items())
    return f"<h2>What to know of these numbers</h2><ul>{notes}</ul><h2>Made with</h2><ul>{models}<li>{escape(versions)}</li></ul>"


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Cells are HTML already; the head and the caption are words."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table>{said}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _interval(value: float, bounds: Sequence[float], sign: str = "") -> str:
    return f'{value:{sign}.3f}<br><span class="range">[{bounds[0]:{sign}.3f}, {bounds[1]:{sign}.3f}]</span>'


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"
