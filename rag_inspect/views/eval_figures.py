"""Plotly figures of an evaluation: frontier, gold flow and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from textwrap import wrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

from rag_inspect.evaluation.document import EvaluationDocument, FrontierPoint
from rag_inspect.views.formats import format_mean, format_mean_range, format_metric, format_ms
from rag_inspect.views.frontier_chart import is_timed
from rag_inspect.views.palette import FALLEN, GOLD, GRID, INK, LINES, NEUTRAL, RISEN
from rag_inspect.views.systems import name_system
from rag_inspect.words import format_count

FLOW_HEIGHT, FLOW_TOP, FLOW_FOOT, FLOW_SIDE = 380, 60, 16, 112  # pixels: the figure and its margins
PHONE_CHARACTERS = 50  # of a line above a figure
NODE_GAP = 22  # pixels between two bands, so that the labels of thin bands do not overlap


def frontier(document: EvaluationDocument) -> Figure:
    """Draw the primary metric at every depth against measured latency, or against depth if a latency is unknown."""
    import plotly.graph_objects as go

    points, primary = document.frontier, document.primary
    timed = is_timed(document)
    figure = go.Figure()
    for number, key in enumerate(dict.fromkeys(point.system for point in points)):
        own = [point for point in points if point.system == key]
        values, colour = [point.metrics[primary] for point in own], LINES[number % len(LINES)]
        figure.add_scatter(
            x=[point.latency_ms if timed else point.depth for point in own], y=values, mode="lines+markers", name=escape(name_system(document, key)),
            line={"color": colour, "width": 2}, marker={"size": 7, "symbol": ["circle-open" if p.interpolated else "circle" for p in own]},
            error_y={
                "type": "data", "symmetric": False, "thickness": 1, "width": 0, "color": _fade(colour),
                "array": [p.ci95[1] - value for p, value in zip(own, values, strict=True)],
                "arrayminus": [value - p.ci95[0] for p, value in zip(own, values, strict=True)],
            },
            hovertext=[_describe_point(point, primary) for point in own], hoverinfo="text",
        )  # fmt: skip
    cheapest = next(point for point in points if point.cheapest)
    figure.add_scatter(
        x=[cheapest.latency_ms if timed else cheapest.depth], y=[cheapest.metrics[primary]], mode="markers", name="recommended",
        marker={"size": 17, "symbol": "circle-open", "color": GOLD, "line": {"width": 3}},
        hovertext=[_describe_point(cheapest, primary)], hoverinfo="text",
    )  # fmt: skip
    figure.update_xaxes(
        title="ms a query, measured" if timed else "depth (latency not measured)", rangemode="tozero"
    )
    figure.update_yaxes(title=format_metric(primary))
    words = "Ring: what the decision recommends. Bars: each point's own 95 % interval."
    if any(point.interpolated for point in points):
        words += " Hollow: latency interpolated."
    lines = wrap(words, PHONE_CHARACTERS)  # plotly wraps none
    figure.add_annotation(
        text="<br>".join(lines), xref="paper", x=0, xanchor="left", yref="paper", y=1, yanchor="bottom", yshift=8, xshift=-52,
        align="left", showarrow=False, font={"size": 12},
    )  # fmt: skip
    top = 46 + 16 * len(lines)
    return _style_figure(figure, 386 + top, top=top)


def _describe_point(point: FrontierPoint, primary: str) -> str:
    cost = "latency not measured" if point.latency_ms is None else f"{format_ms(point.latency_ms)} ms"
    cost += ", interpolated" if point.interpolated else ""
    value, bounds = format_mean(point.metrics[primary]), format_mean_range(point.ci95)
    return (
        f"{escape(point.system)}, depth {point.depth}<br>{format_metric(primary)} {value} {bounds}<br>{cost}"
    )


def gold_flow(document: EvaluationDocument, key: str) -> Figure:
    """Draw queries as ribbons from the rank band of their best gold passage before to the one after."""
    import plotly.graph_objects as go

    flow = document.gold_flow[key]
    bands, names = flow.bands, [*flow.bands[:-1], "not found"]
    cells = [(i, j, count) for i, row in enumerate(flow.counts) for j, count in enumerate(row) if count]
    sides = ("was", sorted({i for i, _, _ in cells})), ("now", sorted({j for _, j, _ in cells}))
    nodes = [(side, band) for side, used in sides for band in used]  # plotly misplaces nodes without a ribbon
    # The best band comes first, so a ribbon to a lower index is gold that rose.
    colours = [RISEN if j < i else FALLEN if j > i else NEUTRAL for i, j, _ in cells]
    totals, heights = _count_bands(flow.counts), _place_nodes(flow.counts, nodes)
    figure = go.Figure(
        go.Sankey(
            arrangement="fixed",
            node={
                "label": [""] * len(nodes), "color": INK, "pad": NODE_GAP, "thickness": 12,
                "x": [0.001 if side == "was" else 0.999 for side, _ in nodes], "y": heights,
                "customdata": [f"{side} {names[band]}: {format_count(totals[side, band])}" for side, band in nodes],
                "hovertemplate": "%{customdata}<extra></extra>",
            },
            link={
                "source": [nodes.index(("was", i)) for i, _, _ in cells], "target": [nodes.index(("now", j)) for _, j, _ in cells],
                "value": [count for _, _, count in cells], "color": [_fade(colour) for colour in colours],
                "customdata": [f"{count} {'rose' if j < i else 'fell' if j > i else 'stayed'}: {bands[i]} → {bands[j]}" for i, j, count in cells],
                "hovertemplate": "%{customdata}<extra></extra>",
            },
        )
    )  # fmt: skip
    for node, height in zip(nodes, heights, strict=True):
        _annotate_margin(figure, node[0], 1 - height, f"{names[node[1]]} ({totals[node]:,})")
    for side, words in (("was", "<b>rank before</b>"), ("now", "<b>rank after</b>")):
        _annotate_margin(figure, side, 1 + 22 / (FLOW_HEIGHT - FLOW_TOP - FLOW_FOOT), words)
    figure = _style_figure(figure, FLOW_HEIGHT, top=FLOW_TOP)
    return figure.update_layout(margin={"l": FLOW_SIDE, "r": FLOW_SIDE, "b": FLOW_FOOT})


def _annotate_margin(figure: Figure, side: str, y: float, words: str) -> None:
    """Write words in the margin beside a column, where no ribbon runs."""
    x, anchor, shift = (0, "right", -12) if side == "was" else (1, "left", 12)
    figure.add_annotation(
        text=words, x=x, y=y, xref="paper", yref="paper", xanchor=anchor, xshift=shift, yanchor="middle",
        showarrow=False, font={"size": 12},
    )  # fmt: skip


def _count_bands(counts: Sequence[Sequence[int]]) -> dict[tuple[str, int], int]:
    """Count the queries in each band, before and after."""
    was = {("was", i): sum(row) for i, row in enumerate(counts)}
    return was | {("now", j): sum(column) for j, column in enumerate(zip(*counts, strict=True))}


def _place_nodes(counts: Sequence[Sequence[int]], nodes: list[tuple[str, int]]) -> list[float]:
    """Return the middle of each node, where 0 is the top. Each node is as tall as plotly draws it."""
    totals, room = _count_bands(counts), FLOW_HEIGHT - FLOW_TOP - FLOW_FOOT
    gap = NODE_GAP / room
    gaps = gap * (max(sum(side == which for side, _ in nodes) for which in ("was", "now")) - 1)
    heights, above = [], {"was": 0.0, "now": 0.0}
    for node in nodes:
        share = totals[node] / sum(map(sum, counts)) * (1 - gaps)
        heights.append(min(0.999, max(0.001, above[node[0]] + share / 2)))
        above[node[0]] += share + gap
    return heights


def _fade(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},.5)"


def thresholds(
    document: EvaluationDocument, key: str, score_name: str, cutoff: float | None = None
) -> Figure:
    """Draw histograms of the scores of gold and of other candidates, as shares of each group; a line marks the cutoff."""
    import plotly.graph_objects as go

    lab = document.thresholds[key]
    edges = lab.edges
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    figure = go.Figure()
    for name, counts, total, colour in (
        ("other candidates", lab.other, lab.junk_total, NEUTRAL),
        ("gold", lab.gold, lab.gold_total, GOLD),
    ):
        figure.add_bar(
            x=middles, y=[count / max(total, 1) for count in counts], width=edges[1] - edges[0], name=f"{name} ({total:,})",
            marker_color=colour, opacity=0.7, customdata=counts,
            hovertemplate=f"{name}: %{{customdata}} at %{{x:.2f}}<extra></extra>",
        )  # fmt: skip
    if cutoff is not None:
        figure.add_vline(
            x=cutoff,
            line={"color": INK, "width": 2, "dash": "dash"},
            annotation_text=f"keep from {cutoff:.2f}",
        )
    figure.update_layout(barmode="overlay", bargap=0)
    figure.update_xaxes(title=escape(f"{score_name} ({key})"))
    figure.update_yaxes(title="share of each group", tickformat=".0%")
    return _style_figure(figure, 380)


def describe_cutoff(document: EvaluationDocument, key: str, score_name: str, step: int) -> str:
    """Describe in one sentence what the cutoff at this step of the slider does."""
    lab = document.thresholds[key]
    at = lab.steps[max(0, min(step, len(lab.steps) - 1))]
    return (
        f"Keeping {score_name}s from {at.cutoff:.2f}: {at.gold_lost:,} of {lab.gold_total:,} gold lost, {at.junk_dropped:,} of "
        f"{lab.junk_total:,} others dropped, {at.queries_empty:,} of {format_count(document.queries)} left empty."
    )


def _style_figure(figure: Figure, height: int, top: int = 44) -> Figure:
    """Set the layout of a figure: room at the top for the label of the page, and the legend below the plot."""
    figure.update_layout(
        height=height, margin={"l": 64, "r": 16, "t": top, "b": 56}, font={"color": INK, "family": "system-ui, sans-serif"},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"},
    )  # fmt: skip
    figure.update_xaxes(gridcolor=GRID, zeroline=False)
    figure.update_yaxes(gridcolor=GRID, zeroline=False)
    return figure
