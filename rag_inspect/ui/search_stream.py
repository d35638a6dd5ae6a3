"""Stream a search to the Explore tab: generators that yield the tab's outputs as they become known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from rag_inspect.errors import InputError, ModelError, RagInspectError
from rag_inspect.options import EMBEDDER, SearchOptions
from rag_inspect.types import Reranking
from rag_inspect.ui.controls import (
    control_values,
    corpora_update,
    find_picked,
    from_link,
    picker_update,
    story_html,
)
from rag_inspect.views.rankings import rankings_html
from rag_inspect.views.sentences import aside_html, sentence_html, timings_html
from rag_inspect.workbench import Workbench

Outputs = list[Any]
"""[sentence, timings, rankings, passage panel, the Reranking itself]: the order of Explore's results."""

HINT = "Click a passage, or press Enter on it, to read all of it."


class Running:
    """The running search of each browser tab, so that the next search there can end it.

    The page sends no second search before the first has ended: without this, the last of several choices would wait
    until every corpus chosen before it is indexed.
    """

    def __init__(self) -> None:
        self._ends: dict[str | None, threading.Event] = {}

    def end(self, request: gr.Request) -> None:
        """Tell this tab's search to end; it does before its next output."""
        if found := self._ends.get(request.session_hash):
            found.set()

    @contextmanager
    def search(self, request: gr.Request) -> Iterator[Callable[[], bool]]:
        """Register a search of this tab; yields a function that says whether the search has to end."""
        end = self._ends[request.session_hash] = threading.Event()
        try:
            yield end.is_set
        finally:
            if self._ends.get(request.session_hash) is end:
                del self._ends[request.session_hash]


def arrive(bench: Workbench, params: Mapping[str, str], who: str | None = None) -> Iterator[Outputs]:
    """Stream the first screen: the view a link names, or the default example, recorded until the models are warm.

    Yields the six controls, the query picker and the story, then the results. The controls come first, so that the
    user can choose another corpus if this one cannot be read.
    """
    choice, trouble = from_link(params, bench)
    query, _, *rest = control_values(choice)
    yield [query, corpora_update(bench, choice.corpus), *rest, *[gr.skip()] * 7]
    corpus = bench.corpus(choice.corpus)
    picker = picker_update(corpus, choice.query, choice.query_id)
    controls = [*[gr.skip()] * 6, picker, story_html(corpus)]
    recorded = bench.recorded(corpus, choice.query_id) if bench.warming else None
    if recorded and _read_settings(recorded) != control_values(choice)[2:]:
        recorded = None
    yield controls + (
        _draw_outputs(recorded)
        if recorded
        else ["", aside_html(trouble or "starting …"), "", aside_html(HINT), None]
    )
    keep = [gr.skip()] * len(controls)
    while stage := bench.warming:
        yield keep + _write_aside(_describe_warming(f"{stage} …", recorded))
        time.sleep(0.3)
    if choice.query:
        for outputs in stream_search(bench, *control_values(choice), choice.query_id, who=who, note=trouble):
            found = outputs[-1]
            # The record is better than half a ranking.
            if not (recorded and isinstance(found, Reranking) and not found.complete):
                yield keep + outputs


def _describe_warming(stage: str, recorded: Reranking | None) -> str:
    if recorded is None:
        return stage
    model = f"{recorded.reranker.key} {recorded.reranker.revision[:8]}"
    return f"Recorded with {model}; live results follow. {stage[:1].upper()}{stage[1:]}"


def stream_search(
    bench: Workbench,
    *values: Any,
    who: str | None = None,
    note: str = "",
    ended: Callable[[], bool] = lambda: False,
) -> Iterator[Outputs]:
    """Stream one search of the browser tab `who` until `ended`. An error is reported beside the query box; the page keeps its results."""
    try:
        for outputs in _fall_back_on_mini(
            bench, _read_controls(bench, *values), who, (note,) if note else ()
        ):
            if ended():
                return
            yield outputs
    except RagInspectError as error:
        gr.Warning(escape(str(error)))
        yield _write_aside(f"{'Not run' if isinstance(error, InputError) else 'Failed'}: {error}")


def _read_controls(
    bench: Workbench,
    query: str,
    corpus: str,
    embedder: str,
    reranker: str,
    top_k: int,
    top_n: int,
    picked: str | None,
) -> SearchOptions:
    """Read the six controls of Explore and the picked eval query. Raises CorpusError, InputError or ModelError."""
    options = SearchOptions(
        query=query, corpus=corpus, embedder=embedder, reranker=reranker, top_k=top_k, top_n=top_n
    )
    return replace(options, query_id=find_picked(bench.corpus(corpus), query, picked))


def write_stopped() -> str:
    """Render the message about a search that was stopped."""
    return aside_html("Stopped. Scores so far are kept; press Search to continue.")


def _fall_back_on_mini(
    bench: Workbench, choice: SearchOptions, who: str | None, notes: tuple[str, ...]
) -> Iterator[Outputs]:
    """Search; if the reranker is not available, search with mini instead and say so."""
    try:
        yield from _stream_outputs(bench, choice, who, notes)
    except ModelError as error:
        if choice.reranker == "mini" or choice.embedder != EMBEDDER:
            raise
        gr.Warning(escape(f"{error}. Showing mini instead."))
        yield from _stream_outputs(
            bench, replace(choice, reranker="mini"), who, (*notes, f"Showing mini instead: {error}")
        )


def _stream_outputs(
    bench: Workbench, choice: SearchOptions, who: str | None, notes: tuple[str, ...]
) -> Iterator[Outputs]:
    for moment in bench.search(choice, who or ""):
        if isinstance(moment, Reranking):
            yield _draw_outputs(replace(moment, notes=moment.notes + notes))
        else:
            yield _write_aside(f"{moment} …")


def _draw_outputs(search: Reranking) -> Outputs:
    # A new search closes the panel; its end leaves the panel as it is.
    panel = gr.skip() if len(search.ranking) else aside_html(HINT)
    return [sentence_html(search), timings_html(search), rankings_html(search), panel, search]


def _write_aside(words: str) -> Outputs:
    return [gr.skip(), aside_html(words), gr.skip(), gr.skip(), gr.skip()]


def _read_settings(search: Reranking) -> tuple[Any, ...]:
    first = search.candidates
    return first.first_stage.key, search.reranker.key, first.top_k, search.top_n
