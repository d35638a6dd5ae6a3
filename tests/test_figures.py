"""The figures of a search, of any moment and any words."""

from dataclasses import replace

import pytest

from rag_inspect.views.figures import scatter, slopegraph
from tests.searches import HOSTILE, MINI, MOMENTS, make_reranking


@pytest.mark.parametrize("draw", [slopegraph, scatter])
@pytest.mark.parametrize("moment", MOMENTS)
def test_figures_of_any_moment_and_any_words(draw, moment):
    for words in ("plain", *HOSTILE.values()):
        figure = draw(make_reranking(words, moment)).to_plotly_json()
        for trace in figure["data"]:
            texts = (
                trace["hovertext"] if isinstance(trace["hovertext"], tuple | list) else [trace["hovertext"]]
            )
            assert all("<" not in text.replace("<br>", "") and len(text) < 1000 for text in texts)


def test_the_slopegraph_joins_both_ranks():
    search = make_reranking()
    traces = slopegraph(search).to_plotly_json()["data"]
    assert [tuple(trace["y"]) for trace in traces] == [(move.before, move.after) for move in search.moves]
    assert len({trace["line"]["color"] for trace in traces}) == 2


def test_the_scatter_sets_gold_apart():
    search = make_reranking()
    traces = scatter(search).to_plotly_json()["data"]
    assert [(trace["name"], len(trace["x"])) for trace in traces] == [("candidate", 4), ("gold", 2)]


def test_the_axes_are_called_what_the_scores_are():
    search = make_reranking(reranker=replace(MINI, key="<b>"))
    layout = scatter(search).to_plotly_json()["layout"]
    assert layout["xaxis"]["title"]["text"] == "cosine (fixed)"
    assert layout["yaxis"]["title"]["text"] == "mini score (&lt;b&gt;)"
