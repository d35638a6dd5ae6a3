"""The drawers below Explore's columns: figures of the search, and code that repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from rag_inspect.rerankers import RERANKERS
from rag_inspect.types import Reranking
from rag_inspect.ui.theme import read_script
from rag_inspect.views.figures import scatter, slopegraph
from rag_inspect.views.snippets import LIBRARIES, choose_library, describe_snippet, write_snippet

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_HUB_MODEL = RERANKERS["base"]


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
