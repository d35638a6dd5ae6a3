"""Stream a search to the Explore tab: generators that yield the tab's outputs as they become known."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import gradio as gr

from rag_inspect.admission import OURSELVES, Asker
from rag_inspect.errors import InputError, ModelError, RagInspectError
from rag_inspect.options import FIRST_STAGE, SearchOptions
from rag_inspect.retrieval import find_first_stage
from rag_inspect.types import Reranking
from rag_inspect.ui.askers import read_asker
from rag_inspect.ui.controls import (
    control_values,
    corpora_update,
    describe_corpus,
    from_link,
    stage_update,
)
from rag_inspect.ui.picker import find_picked, picker_update
from rag_inspect.views.rankings import rankings_html
from rag_inspect.views.sentences import aside_html, sentence_html, timings_html
from rag_inspect.workbench import Workbench

Outputs = list[Any]
"""[sentence, timings, rankings, passage panel, the Reranking itself, the reranker's list]: what a search fills."""

HINT = "Click a passage, or press Enter on it, to read all of it."
BUILT_IN = (FIRST_STAGE, "bm25")  # what reads texts for a first stage that is always here
STOPPING = "Stopping …"
_RERANKER = 3  # its place among the six controls


@dataclass
class Run:
    """One search of a browser tab: who asks, whether another one has taken its place, or the user stopped it."""

    who: Asker = OURSELVES
    superseded: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)


class Running:
    """The running search of each browser tab, so that the next search there can end it, and Stop can stop it.

    The page sends no second search before the first has ended: without this, the last of several choices would wait
    until every corpus chosen before it is indexed.
    """

    def __init__(self, *, on_space: bool) -> None:
        self._on_space = on_space
        self._runs: dict[str | None, Run] = {}

    def end(self, request: gr.Request) -> None:
        """Tell this tab's search to end; it does before its next output."""
        if found := self._runs.get(request.session_hash):
            found.superseded.set()

    def has_search(self, request: gr.Request) -> bool:
        """Return True while this tab's search runs."""
        return request.session_hash in self._runs

    def stop(self, request: gr.Request) -> bool:
        """Tell this tab's search to stop; it says so itself, after its next output. Return False if none is running."""
        found = self._runs.get(request.session_hash)
        if found:
            found.stopped.set()
        return found is not None

    @contextmanager
    def search(self, request: gr.Request) -> Iterator[Run]:
        """Register a search of this tab."""
        run = self._runs[request.session_hash] = Run(read_asker(request, on_space=self._on_space))
        try:
            yield run
        finally:
            if self._runs.get(request.session_hash) is run:
                del self._runs[request.session_hash]


def arrive(bench: Workbench, params: Mapping[str, str], run: Run) -> Iterator[Outputs]:
    """Stream the first screen: the view a link names, or the default example, recorded while the models warm up.

    Yields the six controls, the query picker and the story, then the results without the reranker's list, which is
    one of the controls, then the timer. The controls come first, so that the user can choose another corpus if this
    one cannot be read. While the models warm up, the search is left to the timer's `wait_for_models`.
    """
    choice, trouble = from_link(params, bench)
    query, _, first_stage, *rest = control_values(choice)
    stages = stage_update(bench, choice.corpus, first_stage)
    yield [query, corpora_update(bench, choice.corpus), stages, *rest, *[gr.skip()] * 8]
    corpus = bench.corpus(choice.corpus)
    picker = picker_update(corpus, choice.query, choice.query_id)
    controls = [*[gr.skip()] * 6, picker, describe_corpus(corpus)]
    warming = bench.warming is not None
    recorded = _find_example(bench, choice) if warming else None
    first = (
        _draw_outputs(recorded)[:-1]
        if recorded
        else ["", aside_html(trouble or "starting …"), "", aside_html(HINT), None]
    )
    yield [*controls, *first, gr.Timer(active=warming)]
    if warming:
        if trouble:
            gr.Warning(escape(trouble))
        return
    keep = [gr.skip()] * len(controls)
    if choice.query:
        for *results, reranker in stream_search(
            bench, *control_values(choice), choice.query_id, note=trouble, run=run
        ):
            yield [*keep[:_RERANKER], reranker, *keep[_RERANKER + 1 :], *results, gr.skip()]


def wait_for_models(bench: Workbench, shown: Reranking | None, query: str) -> list[Any]:
    """Return the quiet line, the timer, and a new moment once the first search can run.

    Asked again and again while the models warm up: a stream for each tab that waits would use up the six connections
    that browsers allow, and the seventh tab would stay blank.
    """
    if stage := bench.warming:
        return [aside_html(_describe_loading(f"{stage} …", shown)), gr.skip(), gr.skip()]
    if not query.strip():
        return ["", gr.Timer(active=False), gr.skip()]
    return [gr.skip(), gr.Timer(active=False), time.time_ns()]


def announce_stop(bench: Workbench, running: Running, request: gr.Request) -> list[Any]:
    """Return the quiet line and the timer for Stop: this tab's search goes on to its next output."""
    off = gr.Timer(active=False)
    if running.has_search(request):
        return [aside_html(STOPPING), off]
    if bench.warming:  # only the wait for the first search was there to stop
        return [_write_stopped(None)[1], off]
    gr.Info("No search is running.")
    return [gr.skip(), off]


def stop_search(running: Running, request: gr.Request, said: str, shown: Reranking | None) -> Any:
    """Stop this tab's search once the quiet line announces it, which would otherwise replace the search's last word.

    If the search ended by itself meanwhile, return the line that belongs to its result.
    """
    if running.stop(request) or said != aside_html(STOPPING):
        return gr.skip()
    return timings_html(shown) if shown else aside_html("The search ended before it could be stopped.")


def stream_search(bench: Workbench, *values: Any, note: str = "", run: Run) -> Iterator[Outputs]:
    """Stream one search until it is over, stopped, or superseded by another one.

    However it ends, the sentence above the columns is this search's. The columns of an earlier one stay, greyed.
    """
    last: Outputs | None = None
    try:
        options = _read_controls(bench, *values)
        for outputs in _fall_back_on_mini(bench, options, run.who, (note,) if note else ()):
            if run.superseded.is_set():
                return
            yield (last := outputs)
            if run.stopped.is_set():
                break
    except RagInspectError as error:
        words = f"{'Not run' if isinstance(error, InputError) else 'Failed'}: {error}"
        yield ["", aside_html(words, alert=True), *[gr.skip()] * 4]
        return
    if run.stopped.is_set() and not _is_over(last):
        yield _write_stopped(last)


def _read_controls(
    bench: Workbench,
    query: str,
    corpus: str,
    first_stage: str,
    reranker: str,
    top_k: int,
    top_n: int,
    picked: str | None,
) -> SearchOptions:
    """Read the six controls of Explore and the picked eval query. Raises CorpusError, InputError or ModelError."""
    options = SearchOptions(
        query=query, corpus=corpus, first_stage=first_stage, reranker=reranker, top_k=top_k, top_n=top_n
    )
    return replace(options, query_id=find_picked(bench.corpus(corpus), query, picked))


def _find_example(bench: Workbench, choice: SearchOptions) -> Reranking | None:
    """Return the recorded search with exactly these settings; None if there is none."""
    found = bench.find_recorded(bench.corpus(choice.corpus), choice.query_id)
    return found if found and _read_settings(found) == control_values(choice)[2:] else None


def _describe_loading(stage: str, recorded: Reranking | None) -> str:
    if recorded is None:
        return stage
    model = f"{recorded.reranker.key} {recorded.reranker.revision[:8]}"
    return f"Recorded with {model}; live results follow. {stage[:1].upper()}{stage[1:]}"


def _fall_back_on_mini(
    bench: Workbench, choice: SearchOptions, who: Asker, notes: tuple[str, ...]
) -> Iterator[Outputs]:
    """Search; if the reranker is not available, search with mini instead, say so, and choose mini in the list."""
    try:
        yield from _stream_outputs(bench, choice, who, notes)
    except ModelError as error:
        if choice.reranker == "mini" or find_first_stage(choice.first_stage).reader not in BUILT_IN:
            raise
        gr.Warning(escape(f"{error}. Showing mini instead."))
        told = (*notes, f"Showing mini instead: {error}")
        for outputs in _stream_outputs(bench, replace(choice, reranker="mini"), who, told):
            yield [*outputs[:-1], "mini"]


def _stream_outputs(
    bench: Workbench, choice: SearchOptions, who: Asker, notes: tuple[str, ...]
) -> Iterator[Outputs]:
    """Search; while something loads, show the recorded search with these settings, if there is one."""
    loading, recorded = False, None
    for moment in bench.search(choice, who):
        if isinstance(moment, Reranking):
            if moment.complete or not recorded:  # the record is better than half a ranking
                yield _draw_outputs(replace(moment, notes=moment.notes + notes))
            continue
        if not loading:
            loading, recorded = True, _find_example(bench, choice)
            if recorded:
                yield _draw_outputs(recorded)
        yield _write_aside(_describe_loading(f"{moment} …", recorded), gr.skip() if recorded else "")


def _draw_outputs(search: Reranking) -> Outputs:
    # A new search closes the panel; its end leaves the panel as it is.
    panel = gr.skip() if len(search.ranking) else aside_html(HINT)
    return [sentence_html(search), timings_html(search), rankings_html(search), panel, search, gr.skip()]


def _write_aside(words: str, sentence: Any = None) -> Outputs:
    """Only the quiet line, and the sentence above it if one is given."""
    above = gr.skip() if sentence is None else sentence
    return [above, aside_html(words), *[gr.skip()] * 4]


def _write_stopped(last: Outputs | None) -> Outputs:
    """Say that the search was stopped, and how far it came."""
    found = last[4] if last else None
    if not isinstance(found, Reranking) or not len(found.ranking):
        return _write_aside("Stopped before anything was scored. Press Search to run it again.", "")
    done = f"{len(found.ranking)} of {len(found.candidates)} passages scored"
    return _write_aside(f"Stopped: {done}. These scores are kept; press Search to continue.", "")


def _is_over(outputs: Outputs | None) -> bool:
    found = outputs[4] if outputs else None
    return isinstance(found, Reranking) and found.complete


def _read_settings(search: Reranking) -> tuple[Any, ...]:
    first = search.candidates
    return first.first_stage.key, search.reranker.key, first.top_k, search.top_n
