"""The Explore tab: one query, what the first stage found, and what the reranker did to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from rag_inspect.options import FIRST_STAGE
from rag_inspect.rerankers import RERANKERS
from rag_inspect.types import Reranking
from rag_inspect.ui import drawers, passage_panel, search_stream
from rag_inspect.ui.controls import (
    COPY_LINK,
    SEARCHES,
    TELL_CONTROLS,
    WRITE_LINK,
    depth_sliders,
    describe_corpus,
    fold_html,
    model_choices,
    stage_choices,
    stage_update,
    update_rerankers,
    watch_choice,
)
from rag_inspect.ui.errors import show_errors
from rag_inspect.ui.picker import find_query_text, first_example, picker_update, show_picked, step
from rag_inspect.ui.theme import read_script
from rag_inspect.workbench import Workbench

LABEL = "Explore"
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_html = partial(gr.HTML, apply_default_css=False)


@dataclass(kw_only=True)
class _Page:
    """The components of the tab."""

    query: gr.Textbox
    go: gr.Button
    stop: gr.Button
    corpus: gr.Dropdown
    first_stage: gr.Dropdown
    reranker: gr.Dropdown
    top_k: gr.Slider
    top_n: gr.Slider
    back: gr.Button
    picker: gr.Dropdown
    forth: gr.Button
    link: gr.Button
    story: gr.HTML
    sentence: gr.HTML
    aside: gr.HTML
    rankings: gr.HTML
    panel: passage_panel.Panel
    search: gr.State
    timer: gr.Timer

    @property
    def choice(self) -> list[Any]:
        return [self.query, self.corpus, self.first_stage, self.reranker, self.top_k, self.top_n]

    @property
    def results(self) -> list[Any]:
        return [self.sentence, self.aside, self.rankings, self.panel.passage, self.search]

    @property
    def found(self) -> list[Any]:
        """The outputs of a search: a reranker that is not here is replaced in the list, too."""
        return [*self.results, self.reranker]


def build(bench: Workbench, app: gr.Blocks, tab: gr.Tab) -> list[Any]:
    """Lay out the tab and connect its events; returns the component that must exist while another tab is open."""
    page = _lay_out(bench)
    searches = _wire(page, bench, app)
    page.link.click(None, [*page.choice, page.picker], None, js=COPY_LINK, **_QUIET)

    passage_panel.wire(page.panel, page.rankings, page.search, page.stop, bench)
    drawers.build_finder(bench, page.search, page.panel.passage)
    told = TELL_CONTROLS % "explore"
    gr.on([part.change for part in page.choice], None, page.choice, None, js=told, **_QUIET)
    drawers.build_figures(page.search, searches)
    drawers.build_code(page.search, searches)
    return [page.timer]


def _lay_out_settings(bench: Workbench) -> dict[str, Any]:
    """Lay out the inputs of a search; returns them by their names in `_Page`."""
    with gr.Row(equal_height=True, elem_id="ask"):
        query = gr.Textbox(
            first_example(bench, bench.default_corpus).text,
            label="Query",
            placeholder="Ask the corpus something; Enter runs it",
            scale=8,
            lines=1,
            max_lines=4,
            show_label=False,
            container=False,
            elem_id="query",
        )
        go = gr.Button("Search", variant="primary", size="sm", scale=0, min_width=100)
        stop = gr.Button("Stop", size="sm", scale=0, min_width=70, elem_id="stop")
    _html(fold_html("explore"))
    with gr.Row(elem_id="settings"):
        corpus = gr.Dropdown([], label="Corpus", min_width=140)  # filled at load
        first_stage = gr.Dropdown(stage_choices({}), value=FIRST_STAGE, label="First stage", min_width=160)
        reranker = gr.Dropdown(
            model_choices(RERANKERS.values(), {}),
            value=bench.default_reranker,
            label="Reranker",
            min_width=160,
        )
        top_k, top_n = depth_sliders()
    return {
        "query": query, "go": go, "stop": stop, "corpus": corpus, "first_stage": first_stage,
        "reranker": reranker, "top_k": top_k, "top_n": top_n,
    }  # fmt: skip


def _lay_out(bench: Workbench) -> _Page:
    settings = _lay_out_settings(bench)
    with gr.Row(elem_id="picker"):
        back = gr.Button("← Previous", size="sm", min_width=90, scale=0, elem_id="previous-query")
        picker = gr.Dropdown([], label="Eval queries of this corpus", scale=8, elem_id="eval-query")
        forth = gr.Button("Next →", size="sm", min_width=90, scale=0, elem_id="next-query")
        link = gr.Button("Copy link", size="sm", min_width=110, scale=0, elem_id="copy-link")
    return _Page(
        **settings,
        back=back,
        picker=picker,
        forth=forth,
        link=link,
        story=_html(elem_id="story"),
        sentence=_html(elem_id="sentence"),
        aside=_html(elem_id="aside"),
        rankings=_html(elem_id="rankings", js_on_load=read_script("rankings.js")),
        panel=passage_panel.lay_out(),
        search=gr.State(None),
        timer=gr.Timer(0.5, active=False, render=False),
    )


def _wire(page: _Page, bench: Workbench, app: gr.Blocks) -> list[Any]:
    """Connect all events; returns those that end in a search."""
    running = search_stream.Running(on_space=bench.settings.on_space)
    arrival, warm = _wire_arrival(page, bench, app, running)
    app.load(partial(update_rerankers, bench), None, page.reranker, **_QUIET)
    searching = [
        page.query.submit,
        page.go.click,
        watch_choice(page.first_stage).change,
        watch_choice(page.reranker).change,
        page.top_k.release,
        page.top_n.release,
        _wire_query_choice(page, bench).change,
        warm.change,
    ]

    def end(request: gr.Request) -> gr.Timer:
        running.end(request)
        return gr.Timer(active=False)  # the first search is this one now

    @show_errors  # not named "search": gradio names the endpoint after the function, and /search belongs to the API
    def answer(request: gr.Request, *values: Any) -> Iterator[Any]:
        with running.search(request) as run:
            yield from search_stream.stream_search(bench, *values, run=run)

    ended = gr.on(
        searching, end, None, page.timer, cancels=[arrival], trigger_mode="multiple", queue=False, **_QUIET
    )
    # After it, not beside it: the listeners of a state's change run at the same time, and a late end would end the
    # search that it makes room for. One listener for all events: two would stream two searches into the same columns.
    run = ended.then(
        answer,
        [*page.choice, page.picker],
        page.found,
        trigger_mode="always_last",
        **SEARCHES,
        **_QUIET,
    )
    shown = show_errors(partial(show_picked, bench)), [page.corpus, page.query, page.picker], page.picker
    run.then(*shown, **_QUIET).then(None, [*page.choice, page.picker], None, js=WRITE_LINK, **_QUIET)
    _wire_stop(page, bench, running)
    return [arrival, run]


def _wire_stop(page: _Page, bench: Workbench, running: search_stream.Running) -> None:
    """Connect Stop: it answers at once, and only then ends the search."""

    def announce_stop(request: gr.Request) -> list[Any]:
        return search_stream.announce_stop(bench, running, request)

    def stop(request: gr.Request, said: str, shown: Reranking | None) -> Any:
        return search_stream.stop_search(running, request, said, shown)

    announced = page.stop.click(announce_stop, None, [page.aside, page.timer], **_QUIET)
    announced.then(stop, [page.aside, page.search], page.aside, queue=False, **_QUIET)


def _wire_arrival(
    page: _Page, bench: Workbench, app: gr.Blocks, running: search_stream.Running
) -> tuple[Any, gr.State]:
    """Connect the first screen; returns its event, and a state that changes when the models are warm after it."""

    @show_errors
    def arrive(request: gr.Request) -> Iterator[Any]:
        with running.search(request) as run:
            yield from search_stream.arrive(bench, dict(request.query_params), run)

    shown = [*page.choice, page.picker, page.story, *page.results, page.timer]
    arrival, warm = app.load(arrive, None, shown, concurrency_limit=None, **_QUIET), gr.State(0)
    wait = show_errors(partial(search_stream.wait_for_models, bench))
    page.timer.tick(wait, [page.search, page.query], [page.aside, page.timer, warm], **_QUIET)
    return arrival, warm


def _wire_query_choice(page: _Page, bench: Workbench) -> gr.State:
    """Connect the choice of a corpus, of an eval query, and of the next one. The state returned changes after each."""
    place, asked = [page.corpus, page.picker], gr.State(0)
    corpus = watch_choice(page.corpus).change(
        show_errors(partial(_fill_from_corpus, bench)),
        [page.corpus, page.first_stage],
        [page.query, page.picker, page.story, page.first_stage],
        **_QUIET,
    )
    query = watch_choice(page.picker).change(
        show_errors(partial(find_query_text, bench)), place, page.query, **_QUIET
    )
    steps = [
        button.click(show_errors(partial(step, bench, by)), place, [page.query, page.picker], **_QUIET)
        for button, by in ((page.back, -1), (page.forth, 1))
    ]
    for event in (corpus, query, *steps):
        event.success(lambda: time.time_ns(), None, asked, **_QUIET)
    return asked


def _fill_from_corpus(bench: Workbench, name: str, first_stage: str) -> list[Any]:
    corpus = bench.corpus(name)
    query, stages = first_example(bench, name), stage_update(bench, name, first_stage)
    return [query.text, picker_update(corpus, query.text, query.query_id), describe_corpus(corpus), stages]
