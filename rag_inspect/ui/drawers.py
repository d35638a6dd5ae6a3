"""The drawers below Explore's columns: a passage found by id or words, figures of the search, code that repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from rag_inspect.errors import InputError
from rag_inspect.locate import find_passage, find_passages
from rag_inspect.rerankers import RERANKERS
from rag_inspect.types import Reranking
from rag_inspect.ui.askers import read_asker
from rag_inspect.ui.errors import show_errors
from rag_inspect.ui.search_stream import HINT
from rag_inspect.ui.theme import read_script
from rag_inspect.views.figures import scatter, slopegraph
from rag_inspect.views.passage import passage_html
from rag_inspect.views.rankings import title_passage
from rag_inspect.views.sentences import aside_html
from rag_inspect.views.snippets import LIBRARIES, choose_library, describe_snippet, write_snippet
from rag_inspect.workbench import Workbench

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_HUB_MODEL = RERANKERS["base"]


def build_finder(bench: Workbench, state: gr.State, panel: gr.HTML) -> None:
    """Add a search for any passage of the corpus; the panel shows where it is, and what keeps it out of the top n."""
    with gr.Accordion("Find a passage", open=False):
        text = gr.Textbox(
            label="Its id, or words from it", placeholder="Enter looks in the whole corpus", max_length=200
        )
        found = gr.Radio([], label="Passages", visible=False)

    def find(reranking: Reranking | None, words: str) -> Any:
        if reranking is None:
            raise InputError("run a search first: where a passage is depends on the query")
        corpus = bench.corpus(reranking.candidates.corpus)
        passages = find_passages(corpus, words)
        if not passages:
            raise InputError(f"{corpus.name} has no passage with this id or these words; try fewer words")
        choices = [(f"{title_passage(each)} ({each.passage_id})"[:160], each.passage_id) for each in passages]
        one = choices[0][1] if len(choices) == 1 else None
        return gr.update(choices=choices, value=one, visible=True, label=f"Passages ({len(choices)})")

    def show(reranking: Reranking | None, passage_id: str | None, request: gr.Request) -> Any:
        if reranking is None or passage_id is None or not reranking.complete:
            return gr.skip()
        passage = find_passage(bench.corpus(reranking.candidates.corpus), passage_id)
        who = read_asker(request, on_space=bench.settings.on_space)
        return passage_html(reranking, passage, bench.locate(reranking, passage_id, who))

    shown = {
        "fn": show_errors(show),
        "inputs": [state, found],
        "outputs": panel,
        "concurrency_limit": None,
        **_QUIET,
    }
    # What was found before is no answer to what is asked now.
    cleared = text.submit(lambda: aside_html(HINT), None, panel, **_QUIET)
    cleared.then(show_errors(find), [state, text], found, **_QUIET).success(**shown)
    found.input(**shown)


def build_figures(state: gr.State, searches: Sequence[Any]) -> None:
    """Add the slopegraph and the scatter plot, drawn when the drawer opens and after each search while it is open."""
    with gr.Accordion("Slopegraph and score scatter", open=False) as drawer:
        with gr.Row():
            plots = [
                gr.Plot(label=label, min_width=320)
                for label in ("Every move", "Both scores of every passage")
            ]
        with gr.Row():
            for kind in ("png", "svg"):
                save = f"() => {{ {read_script('save_figures.js')}; save('{kind}'); }}"
                gr.Button(f"Save both as {kind.upper()}", size="sm").click(
                    None, None, None, js=save, **_QUIET
                )
    opened = gr.State(False)

    def draw(reranking: Reranking | None, wanted: bool) -> list[Any]:
        if not (wanted and reranking and reranking.complete):
            return [gr.skip(), gr.skip()]
        return [slopegraph(reranking), scatter(reranking)]

    drawer.expand(lambda: True, None, opened, **_QUIET).then(draw, [state, opened], plots, **_QUIET)
    drawer.collapse(lambda: False, None, opened, **_QUIET)
    for event in searches:
        event.then(draw, [state, opened], plots, **_QUIET)


def build_code(state: gr.State, searches: Sequence[Any]) -> None:
    """Add the search as Python code to copy, for a library that can load the reranker, or the one that was chosen."""
    with gr.Accordion("Use in your code", open=False) as drawer:
        library = gr.Dropdown(list(LIBRARIES), label="Library", value=next(iter(LIBRARIES)))
        text = gr.Code(language="python", label="Run a search first")
    chosen = gr.State(False)

    def write(reranking: Reranking | None, name: str, by_user: bool) -> list[Any]:
        if reranking is None:
            return [name, "# run a search first"]
        name = name if by_user else choose_library(reranking)
        label = describe_snippet(reranking, name, _HUB_MODEL)
        return [name, gr.update(value=write_snippet(reranking, name, _HUB_MODEL), label=label)]

    shown: dict[str, Any] = {"inputs": [state, library, chosen], "outputs": [library, text], **_QUIET}
    drawer.expand(write, **shown)
    library.input(lambda: True, None, chosen, **_QUIET).then(write, **shown)
    for event in searches:
        event.then(write, **shown)
