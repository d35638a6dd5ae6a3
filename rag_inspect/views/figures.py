"""Plotly figures of a search: a slopegraph of the moves and a scatter plot of the scores of both stages."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from rag_inspect.types import Reranking
from rag_inspect.views.formats import name_order
from rag_inspect.views.palette import GOLD, GRID, INK, NEUTRAL
from rag_inspect.views.rankings import format_move, title_passage

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def slopegraph(reranking: Reranking) -> Figure:
    """Draw each passage as a line from its rank in the first stage to its reranked rank; only gold has a colour."""
    import plotly.graph_objects as go

    figure, candidates = go.Figure(), reranking.candidates
    gold_ids, order = candidates.gold, name_order(candidates.first_stage)
    for move in reranking.moves:
        gold = move.passage_id in gold_ids
        name = escape(title_passage(candidates.passages[move.passage_id])[:70])
        figure.add_scatter(
            x=[f"{order[:1].upper()}{order[1:]} order", "Reranked order"],
            y=[move.before, move.after],
            mode="lines+markers",
            line={"color": GOLD if gold else NEUTRAL, "width": 4 if gold else 1.4},
            marker={"size": 9 if gold else 6},
            hovertext=f"{name}<br>{format_move(move)}{' · gold' if gold else ''}",
            hoverinfo="text",
            showlegend=False,
        )
    ranks = len(candidates)
    figure.add_hline(
        y=reranking.top_n + 0.5, line_dash="dot", line_color=INK, annotation_text=f"top {reranking.top_n}"
    )
    figure.update_yaxes(title="rank", range=[ranks + 0.5, 0.5], dtick=1 if ranks <= 20 else 5)
    return _style_figure(figure, max(360, 22 * ranks))


def scatter(reranking: Reranking) -> Figure:
    """Plot each candidate by its first-stage score (x) and its reranker score (y); gold is marked."""
    import plotly.graph_objects as go

    figure, candidates = go.Figure(), reranking.candidates
    scores, gold_ids = reranking.ranking.score_by_id, candidates.gold
    for gold, name in ((False, "candidate"), (True, "gold")):
        found = [hit for hit in candidates.ranking if (hit.passage_id in gold_ids) is gold]
        hits = [hit for hit in found if hit.passage_id in scores]
        if not hits:
            continue
        figure.add_scatter(
            x=[hit.score for hit in hits],
            y=[scores[hit.passage_id] for hit in hits],
            mode="markers",
            name=name,
            marker={
                "color": GOLD if gold else NEUTRAL,
                "size": 14 if gold else 9,
                "symbol": "star" if gold else "circle",
            },
            hovertext=[escape(title_passage(candidates.passages[hit.passage_id])[:70]) for hit in hits],
            hoverinfo="text+x+y",
        )
    stage, spec = candidates.first_stage, reranking.reranker
    figure.update_xaxes(title=escape(f"{stage.score_name} ({stage.key})"))
    figure.update_yaxes(title=escape(f"{spec.score_name} ({spec.key})"))
    return _style_figure(figure, 420)


def _style_figure(figure: Figure, height: int) -> Figure:
    figure.update_layout(
        height=height,
        margin={"l": 56, "r": 16, "t": 28, "b": 48},
        font={"color": INK, "family": "system-ui, sans-serif"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.1},
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False)
    figure.update_yaxes(gridcolor=GRID, zeroline=False)
    return figure
