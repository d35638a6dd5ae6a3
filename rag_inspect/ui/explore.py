"""The Explore tab: one query, what the embedding found, what the reranker did to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from rag_inspect.embedders import EMBEDDERS
from rag_inspect.errors import CorpusError, InputError, ModelError
from rag_inspect.rerankers import RERANKERS
from rag_inspect.types import Search
from rag_inspect.ui.controls import (
    WRITE_LINK,
    Choice,
    depth_sliders,
    first_example,
    from_link,
    model_choices,
    picker_choices,
)
from rag_inspect.ui.errors import shown
from rag_inspect.ui.theme import script
from rag_inspect.views.figures import scatter, slopegraph
from rag_inspect.views.passage import passage_html
from rag_inspect.views.rankings import rankings_html
from rag_inspect.views.sentences import aside_html, sentence_html, timings_html
from rag_inspect.views.snippets import LIBRARIES, snippet
from rag_inspect.workbench import DEFAULT_EMBEDDER, Workbench

LABEL = "Explore"
_HINT = "Click a passage, or press Enter on it, to read it whole."
_html = partial(gr.HTML, apply_default_css=False)
_quiet = {"show_progress": "hidden", "api_visibility": "private"}


def build(bench: Workbench, app: gr.Blocks) -> None:
    """Lay the tab out and wire it."""
    choice, go, stop = _choices(bench)
    with gr.Row(elem_id="picker"):
        back = gr.Button("←", size="sm", min_width=40, scale=0, elem_id="previous-query")
        picker = gr.Dropdown([], label="Eval queries of this corpus", scale=8, elem_id="eval-query")
        forth = gr.Button("→", size="sm", min_width=40, scale=0, elem_id="next-query")
        link = gr.Button("Copy link", size="sm", min_width=110, scale=0)
    story = _html(elem_id="story")
    results = _results()
    sentence, columns, panel, aside, state = results

    @shown
    def arrive(request: gr.Request) -> Iterator[Any]:
        yield from _arrive(bench, dict(request.query_params))

    arrival = app.load(arrive, None, [*choice, picker, story, *results],
                       concurrency_limit=16, **_quiet)  # fmt: skip
    app.load(partial(_model_labels, bench), None, [choice[2], choice[3]], **_quiet)
    run = {"fn": shown(partial(_run, bench)), "inputs": choice, "outputs": results, "concurrency_id": "model",
           "concurrency_limit": 2, "trigger_mode": "always_last", "cancels": [arrival], **_quiet}  # fmt: skip
    query, corpus, embedder, reranker, top_k, top_n = choice
    chosen = corpus.input(shown(partial(_corpus_chosen, bench)), corpus, [query, picker, story], **_quiet)
    picked = picker.input(shown(partial(_query_text, bench)), [corpus, picker], query, **_quiet)
    steps = [
        button.click(shown(partial(_step, bench, by)), [corpus, picker], [query, picker], **_quiet)
        for button, by in ((back, -1), (forth, 1))
    ]
    runs = [event.then(**run) for event in (chosen, picked, *steps)]
    runs.append(gr.on([query.submit, go.click, embedder.input, reranker.input, top_k.release, top_n.release], **run))
    for event in runs:
        event.then(None, choice, None, js=WRITE_LINK, **_quiet)
    stop.click(_stopped, None, aside, cancels=[arrival, *runs], **_quiet)
    link.click(None, None, None, js="() => navigator.clipboard.writeText(window.location.href)", **_quiet)
    columns.row_pick(_pick, state, panel, **_quiet)
    _figures(state, [arrival, *runs])
    _code(state)


def _choices(bench: Workbench) -> tuple[list[Any], gr.Button, gr.Button]:
    with gr.Row(equal_height=True, elem_id="ask"):
        query = gr.Textbox(first_example(bench, bench.default_corpus), label="Query", scale=8, lines=1, max_lines=4,
                           elem_id="query", show_label=False, container=False,
                           placeholder="Ask the corpus something; Enter runs it")  # fmt: skip
        go = gr.Button("Search", variant="primary", size="sm", scale=0, min_width=100)
        stop = gr.Button("Stop", size="sm", scale=0, min_width=70)
    with gr.Row(elem_id="depths"):
        corpus = gr.Dropdown(list(bench.corpora()), value=bench.default_corpus, label="Corpus", min_width=140)
        embedder = gr.Dropdown(model_choices(EMBEDDERS.values(), {}), value=DEFAULT_EMBEDDER,
                               label="First stage (embedder)", min_width=160)  # fmt: skip
        reranker = gr.Dropdown(model_choices(RERANKERS.values(), {}), value=bench.default_reranker,
                               label="Reranker", min_width=160)  # fmt: skip
        top_k, top_n = depth_sliders()
    return [query, corpus, embedder, reranker, top_k, top_n], go, stop


def _results() -> list[Any]:
    sentence = _html(elem_id="sentence")
    aside = _html(elem_id="aside")
    columns = _html(elem_id="rankings", js_on_load=script("rankings.js"))
    panel = _html(aside_html(_HINT), elem_id="passage")
    return [sentence, columns, panel, aside, gr.State(None)]


def _arrive(bench: Workbench, params: dict[str, str]) -> Iterator[Any]:
    """The first screen: the view the link names, or the default example as recorded until the models are warm."""
    choice, trouble = from_link(params, bench)
    corpus = bench.corpus(choice.corpus)
    controls = [*choice.values(), _picker(corpus, choice.query), _story(corpus)]
    recorded = bench.recorded(corpus, choice.query) if bench.warming else None
    recorded = recorded if recorded and _same_view(recorded, choice) else None
    yield [*controls, *(_moment(recorded) if recorded else _waiting(trouble or "starting …"))]
    keep = [gr.skip()] * len(controls)
    while stage := bench.warming:
        words = f"{recorded.reranker.key} {recorded.reranker.revision[:8]}" if recorded else ""
        yield [*keep, *_only(aside=(f"Recorded with {words}, live in a moment: {stage}" if recorded else f"{stage} …"))]
        _pause()
    if choice.query:
        for outputs in _run(bench, *choice.values(), trouble=trouble):
            yield [*keep, *outputs]


def _run(bench: Workbench, *values: Any, trouble: str = "") -> Iterator[Any]:
    """One search as it goes; a model that cannot be had gives way to mini, in so many words."""
    choice = Choice(*values)
    notes = (trouble,) if trouble else ()
    try:
        yield from _moments(bench, choice, notes)
    except InputError as error:
        gr.Warning(str(error))
        yield _only(aside=f"Not run: {error}")
    except ModelError as error:
        if choice.reranker == "mini" or choice.embedder != DEFAULT_EMBEDDER:
            raise
        gr.Warning(f"{error}. Shown with mini instead.")
        yield from _moments(bench, replace(choice, reranker="mini"), (*notes, f"Shown with mini instead: {error}"))


def _moments(bench: Workbench, choice: Choice, notes: tuple[str, ...]) -> Iterator[Any]:
    for moment in bench.search(*choice.values()):
        if isinstance(moment, Search):
            yield _moment(replace(moment, notes=moment.notes + notes))
        else:
            yield _only(aside=f"{moment} …")


def _moment(search: Search) -> list[Any]:
    panel = aside_html(_HINT) if not search.logits else gr.skip()
    return [sentence_html(search), rankings_html(search), panel, timings_html(search), search]


def _waiting(words: str) -> list[Any]:
    return ["", "", aside_html(_HINT), aside_html(words), None]


def _only(aside: str) -> list[Any]:
    return [gr.skip(), gr.skip(), gr.skip(), aside_html(aside), gr.skip()]


def _stopped() -> str:
    return aside_html("Stopped. What had been scored stays in the score cache; Search goes on from there.")


def _same_view(search: Search, choice: Choice) -> bool:
    seen = search.embedder.key, search.reranker.key, search.top_k, search.top_n
    return seen == (choice.embedder, choice.reranker, choice.top_k, choice.top_n)


def _pause() -> None:
    import time

    time.sleep(0.3)


def _model_labels(bench: Workbench) -> list[Any]:
    here = {spec.key: availability for spec, availability in bench.models()}
    return [gr.update(choices=model_choices(table.values(), here)) for table in (EMBEDDERS, RERANKERS)]


def _corpus_chosen(bench: Workbench, name: str) -> list[Any]:
    corpus = bench.corpus(name)
    text = first_example(bench, name)
    return [text, _picker(corpus, text), _story(corpus)]


def _picker(corpus: Any, text: str) -> Any:
    choices = picker_choices(corpus)
    known = corpus.query_by_text.get(text.strip())
    value = known.query_id if known and any(known.query_id == query_id for _, query_id in choices) else None
    listed = len(choices)
    judged = sum(bool(corpus.gold(query.query_id)) for query in corpus.queries)
    label = f"Eval queries of this corpus ({judged:,}{f', the first {listed}' if judged > listed else ''})"
    return gr.update(choices=choices, value=value, label=label if judged else "This corpus has no eval queries")


def _story(corpus: Any) -> str:
    words = corpus.card.story or corpus.card.description
    return aside_html(f"{len(corpus.passages):,} passages. {words}")


def _query_text(bench: Workbench, name: str, query_id: str | None) -> str:
    query = bench.corpus(name).query_by_id.get(query_id or "")
    if query is None:
        raise CorpusError(f'{name} has no query "{query_id}"; choose one of the list')
    return query.text


def _step(bench: Workbench, by: int, name: str, query_id: str | None) -> list[Any]:
    corpus = bench.corpus(name)
    ids = [query_id for _, query_id in picker_choices(corpus)]
    if not ids:
        raise CorpusError(f"{name} has no eval queries to step through; type a query instead")
    place = (ids.index(query_id) + by) % len(ids) if query_id in ids else 0
    return [corpus.query_by_id[ids[place]].text, ids[place]]


def _pick(search: Search | None, event: gr.EventData) -> str:
    passage_id = event._data.get("passage_id") if isinstance(event._data, dict) else None
    if search is None or not isinstance(passage_id, str):
        return aside_html(_HINT)
    return passage_html(search, passage_id)


def _figures(state: gr.State, events: list[Any]) -> None:
    with gr.Accordion("Slopegraph and score scatter", open=False) as drawer:
        with gr.Row():
            plots = [gr.Plot(label=label, min_width=320) for label in ("Every move", "Cosine against logit")]
        with gr.Row():
            for kind in ("png", "svg"):
                gr.Button(f"Save both as {kind.upper()}", size="sm").click(
                    None, None, None, js=f"() => {{ {script('save_figures.js')}; save('{kind}'); }}", **_quiet
                )
    opened = gr.State(False)

    def draw(search: Search | None, wanted: bool) -> list[Any]:
        if not (wanted and search and search.reranked):
            return [gr.skip(), gr.skip()]
        return [slopegraph(search), scatter(search)]

    drawer.expand(lambda: True, None, opened, **_quiet).then(draw, [state, opened], plots, **_quiet)
    drawer.collapse(lambda: False, None, opened, **_quiet)
    for event in events:
        event.then(draw, [state, opened], plots, **_quiet)


def _code(state: gr.State) -> None:
    with gr.Accordion("Use in your code", open=False) as drawer:
        library = gr.Dropdown(list(LIBRARIES), label="Library", value=next(iter(LIBRARIES)))
        code = gr.Code(language="python", label="Pinned to this model's revision, with these settings")

    def write(search: Search | None, chosen: str) -> str:
        return snippet(search, chosen, RERANKERS["base"]) if search else "# run a search first"

    for happening in (drawer.expand, library.input, state.change):
        happening(write, [state, library], code, **_quiet)
