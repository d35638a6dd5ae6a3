"""Plotly figures of a search: the slopegraph of its moves, and cosine against logit."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from rag_inspect.types import Search
from rag_inspect.views.rankings import chip, heading

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Readable on white and on near-black alike; colour means quality, so only gold has one.
GOLD, NEUTRAL, INK = "#c98a1b", "#8a94a3", "#7d8797"


def slopegraph(search: Search) -> Figure:
    """Every passage as a line from its embedding rank to its reranked rank; gold in colour."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for move in search.moves:
        gold = move.passage_id in search.gold
        name = escape(heading(search.passages[move.passage_id])[:70])
        figure.add_scatter(
            x=["Embedding order", "Reranked order"],
            y=[move.before, move.after],
            mode="lines+markers",
            line={"color": GOLD if gold else NEUTRAL, "width": 4 if gold else 1.4},
            marker={"size": 9 if gold else 6},
            hovertext=f"{name}<br>{chip(move)}{' · gold' if gold else ''}",
            hoverinfo="text",
            showlegend=False,
        )
    ranks = len(search.candidates)
    figure.add_hline(
        y=search.top_n + 0.5, line_dash="dot", line_color=INK, annotation_text=f"top {search.top_n}"
    )
    figure.update_yaxes(title="rank", range=[ranks + 0.5, 0.5], dtick=1 if ranks <= 20 else 5)
    return _dressed(figure, max(360, 22 * ranks))


def scatter(search: Search) -> Figure:
    """Each candidate by what the two stages gave it: cosine across, logit up; gold marked."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for gold, name in ((False, "candidate"), (True, "gold")):
        hits = [
            h
            for h in search.candidates
            if (h.passage_id in search.gold) is gold and h.passage_id in search.logits
        ]
        if not hits:
            continue
        figure.add_scatter(
            x=[h.score for h in hits],
            y=[search.logits[h.passage_id] for h in hits],
            mode="markers",
            name=name,
            marker={
                "color": GOLD if gold else NEUTRAL,
                "size": 14 if gold else 9,
                "symbol": "star" if gold else "circle",
            },
            hovertext=[escape(heading(search.passages[h.passage_id])[:70]) for h in hits],
            hoverinfo="text+x+y",
        )
    figure.update_xaxes(title=f"cosine ({search.embedder.key})")
    figure.update_yaxes(title=f"logit ({search.reranker.key})")
    return _dressed(figure, 420)


def _dressed(figure: Figure, height: int) -> Figure:
    figure.update_layout(
        height=height,
        margin={"l": 56, "r": 16, "t": 28, "b": 48},
        font={"color": INK, "family": "system-ui, sans-serif"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.1},
    )
    figure.update_xaxes(gridcolor="rgba(128,136,148,.25)", zeroline=False)
    figure.update_yaxes(gridcolor="rgba(128,136,148,.25)", zeroline=False)
    return figure
