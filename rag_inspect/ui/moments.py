"""A search as the page sees it: generators that yield the Explore tab's outputs, moment by moment."""

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
from rag_inspect.ui.controls import control_values, corpora_update, from_link, picker_update, story_html
from rag_inspect.views.rankings import rankings_html
from rag_inspect.views.sentences import aside_html, sentence_html, timings_html
from rag_inspect.workbench import Workbench

Outputs = list[Any]
"""[sentence, timings, rankings, passage panel, the Search itself]: the order of Explore's results."""

HINT = "Click a passage, or press Enter on it, to read it whole."


class Running:
    """The search at work in each browser tab, so that the next one asked for there can end it.

    The page sends no second search before the first has ended: without this, the last of several choices would wait
    until the indexes of those before it are whole.
    """

    def __init__(self) -> None:
        self._ends: dict[str | None, threading.Event] = {}

    def end(self, request: gr.Request) -> None:
        """End what runs in this tab, at its next moment."""
        if found := self._ends.get(request.session_hash):
            found.set()

    @contextmanager
    def search(self, request: gr.Request) -> Iterator[Callable[[], bool]]:
        """While a search of this tab runs: whether it has to end."""
        end = self._ends[request.session_hash] = threading.Event()
        try:
            yield end.is_set
        finally:
            if self._ends.get(request.session_hash) is end:
                del self._ends[request.session_hash]


def arrive(bench: Workbench, params: Mapping[str, str]) -> Iterator[Outputs]:
    """The first screen: the view a link names, or the default example as recorded until the models are warm.

    Yields the six controls, the query picker and the story, then the results; the six first, so that another corpus
    can be chosen where this one cannot be read.
    """
    choice, trouble = from_link(params, bench)
    query, _, *rest = control_values(choice)
    yield [query, corpora_update(bench, choice.corpus), *rest, *[gr.skip()] * 7]
    corpus = bench.corpus(choice.corpus)
    controls = [*[gr.skip()] * 6, picker_update(corpus, choice.query), story_html(corpus)]
    recorded = bench.recorded(corpus, choice.query) if bench.warming else None
    if recorded and _settings(recorded) != control_values(choice)[2:]:
        recorded = None
    yield controls + (
        _outputs(recorded)
        if recorded
        else ["", aside_html(trouble or "starting …"), "", aside_html(HINT), None]
    )
    keep = [gr.skip()] * len(controls)
    while stage := bench.warming:
        where = (
            f"Recorded with {recorded.reranker.key} {recorded.reranker.revision[:8]}, live in a moment: "
            if recorded
            else ""
        )
        yield keep + _only_aside(f"{where}{stage} …")
        time.sleep(0.3)
    if choice.query:
        for outputs in run(bench, *control_values(choice), note=trouble):
            found = outputs[-1]
            if not (
                recorded and isinstance(found, Reranking) and not found.complete
            ):  # it is better than half a ranking
                yield keep + outputs


def run(
    bench: Workbench, *values: Any, note: str = "", ended: Callable[[], bool] = lambda: False
) -> Iterator[Outputs]:
    """One search as it goes, until `ended`. What goes wrong is said beside the box; what is on the page stays."""
    try:
        for outputs in _or_with_mini(bench, _read_controls(*values), (note,) if note else ()):
            if ended():
                return
            yield outputs
    except RagInspectError as error:
        gr.Warning(escape(str(error)))
        yield _only_aside(f"{'Not run' if isinstance(error, InputError) else 'Failed'}: {error}")


def _read_controls(
    query: str, corpus: str, embedder: str, reranker: str, top_k: int, top_n: int
) -> SearchOptions:
    """What the six controls of Explore ask for. Raises InputError or ModelError."""
    return SearchOptions(
        query=query, corpus=corpus, embedder=embedder, reranker=reranker, top_k=top_k, top_n=top_n
    )


def stopped() -> str:
    """The word on a search that was stopped."""
    return aside_html("Stopped. What had been scored is in the score cache; Search goes on from there.")


def _or_with_mini(bench: Workbench, choice: SearchOptions, notes: tuple[str, ...]) -> Iterator[Outputs]:
    """A reranker that cannot be had gives way to mini, in so many words."""
    try:
        yield from _moments(bench, choice, notes)
    except ModelError as error:
        if choice.reranker == "mini" or choice.embedder != EMBEDDER:
            raise
        gr.Warning(escape(f"{error}. Shown with mini instead."))
        yield from _moments(
            bench, replace(choice, reranker="mini"), (*notes, f"Shown with mini instead: {error}")
        )


def _moments(bench: Workbench, choice: SearchOptions, notes: tuple[str, ...]) -> Iterator[Outputs]:
    for moment in bench.search(choice):
        if isinstance(moment, Reranking):
            yield _outputs(replace(moment, notes=moment.notes + notes))
        else:
            yield _only_aside(f"{moment} …")


def _outputs(search: Reranking) -> Outputs:
    panel = (
        gr.skip() if len(search.ranking) else aside_html(HINT)
    )  # closed by the next search, not by the end of this one
    return [sentence_html(search), timings_html(search), rankings_html(search), panel, search]


def _only_aside(words: str) -> Outputs:
    return [gr.skip(), aside_html(words), gr.skip(), gr.skip(), gr.skip()]


def _settings(search: Reranking) -> tuple[Any, ...]:
    first = search.candidates
    return first.first_stage.key, search.reranker.key, first.top_k, search.top_n
