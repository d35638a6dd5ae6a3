"""The panel of one passage on Explore: what it is, where it is in the whole corpus, and why its score is what it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from rag_inspect.admission import Asker
from rag_inspect.options import check_text
from rag_inspect.types import Explanation, Passage, Reranking
from rag_inspect.ui import search_stream
from rag_inspect.ui.askers import read_asker
from rag_inspect.ui.controls import SEARCHES
from rag_inspect.ui.errors import show_errors
from rag_inspect.views.explanation import explained_html, outcome_html
from rag_inspect.views.passage import located_html, passage_html
from rag_inspect.views.sentences import aside_html
from rag_inspect.workbench import Workbench

# The number of the passage in the open panel; 0 if it was closed meanwhile.
OPENED = "search => [search, Number(document.querySelector('#passage .ri-passage')?.dataset.passage || 0)]"
EDITED = """(search) => {
  const panel = document.querySelector('#passage .ri-passage'), read = (part) => panel?.querySelector(part)?.value ?? '';
  return [search, Number(panel?.dataset.passage || 0), read('.ri-edit-text'), read('.ri-edit-query')];
}"""
_html = partial(gr.HTML, apply_default_css=False)
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(kw_only=True)
class Panel:
    """The components of the panel: what is shown in it, and the buttons that page.js presses for those inside it."""

    passage: gr.HTML
    located: gr.HTML
    explain: gr.Button
    explained: gr.HTML
    what_if: gr.Button
    outcome: gr.HTML


def lay_out() -> Panel:
    """Lay out the panel; all of it but `passage` is hidden, and page.js moves it into the open panel."""
    return Panel(
        passage=_html(aside_html(search_stream.HINT), elem_id="passage"),
        located=_html(elem_id="located"),
        explain=gr.Button("Explain", elem_id="explain"),
        explained=_html(elem_id="explained"),
        what_if=gr.Button("What if", elem_id="what-if"),
        outcome=_html(elem_id="outcome"),
    )


def wire(panel: Panel, rankings: gr.HTML, search: gr.State, stop: gr.Button, bench: Workbench) -> None:
    """Connect the rows: a click opens the panel of a passage, then says where it is in the whole corpus.

    The buttons in the panel are pressed here by page.js: why its score is what it is, and what an edit would do.
    """
    listeners = _Listeners(bench)
    number, text, query = gr.Number(0, visible=False), *(gr.Textbox(visible=False) for _ in range(2))
    edited = [search, number, text, query]
    panel.what_if.click(
        show_errors(listeners.ask_what_if), edited, panel.outcome, js=EDITED, **SEARCHES, **_QUIET
    )
    asked = {"inputs": [search, number], "js": OPENED, **SEARCHES, **_QUIET}
    explaining = panel.explain.click(
        show_errors(listeners.show_why), outputs=panel.explained, trigger_mode="multiple", **asked
    )
    opened = rankings.row_pick(_open_passage, search, panel.passage, cancels=[explaining], **_QUIET)
    opened.then(show_errors(listeners.locate), outputs=panel.located, **asked)
    stop.click(None, None, None, cancels=[explaining], **_QUIET)


class _Listeners:
    """`number` is that of the passage in the open panel, 0 if it was closed meanwhile."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench

    def locate(self, reranking: Reranking | None, number: object, request: gr.Request) -> Any:
        passage = _find_passage(reranking, number)
        if reranking is None or passage is None or not reranking.complete:
            return gr.skip()
        who = read_asker(request, on_space=self.bench.settings.on_space)
        return located_html(reranking, self.bench.locate(reranking, passage.passage_id, who))

    def show_why(self, reranking: Reranking | None, number: object, request: gr.Request) -> Iterator[Any]:
        passage = _find_passage(reranking, number)
        if reranking is None or passage is None or not reranking.complete:
            yield gr.skip()
            return
        who = read_asker(request, on_space=self.bench.settings.on_space)
        yield from stream_explanation(self.bench, reranking, passage.passage_id, who)

    def ask_what_if(
        self, reranking: Reranking | None, number: object, text: str, query: str, request: gr.Request
    ) -> Any:
        passage = _find_passage(reranking, number)
        if reranking is None or passage is None or not reranking.complete:
            return gr.skip()
        who = read_asker(request, on_space=self.bench.settings.on_space)
        for name, value in (("text", text), ("query", query)):
            check_text(name, value)
        found = self.bench.ask_what_if(reranking, passage.passage_id, text=text, query=query, who=who)
        return outcome_html(reranking, found, time.time_ns())


def stream_explanation(bench: Workbench, search: Reranking, passage_id: str, who: Asker) -> Iterator[str]:
    """Yield the explanation of a candidate of a complete search, growing; beside it, once it is whole, its rival's."""
    explained: list[Explanation] = []
    for each in filter(None, (passage_id, find_rival(search, passage_id))):
        before = tuple(explained)
        for moment in bench.explain(search, each, who):
            if isinstance(moment, Explanation):
                explained = [*before, moment]
                yield explained_html(search, explained)


def find_rival(search: Reranking, passage_id: str) -> str | None:
    """Return the passage just above this one in the reranked order; of the first, the one just below; None if alone."""
    ids = search.ranking.passage_ids
    rank = search.ranking.rank_by_id[passage_id]
    at = rank - 2 if rank > 1 else 1
    return ids[at] if at < len(ids) else None


def _open_passage(reranking: Reranking | None, event: gr.EventData) -> str:
    """Show the passage that was clicked."""
    number = event._data.get("number") if isinstance(event._data, dict) else None
    passage = _find_passage(reranking, number)
    return passage_html(reranking, passage) if reranking and passage else aside_html(search_stream.HINT)


def _find_passage(reranking: Reranking | None, number: object) -> Passage | None:
    """Return the candidate with this rank in the first stage; None for what a page may send else."""
    found = reranking.candidates.in_order if reranking else []
    return found[number - 1] if type(number) is int and 0 < number <= len(found) else None
