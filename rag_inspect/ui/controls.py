"""The controls of Explore (query, corpus, models, depths) and the link that reopens a view."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import gradio as gr

from rag_inspect.corpora.candidates import list_recorded
from rag_inspect.errors import CorpusError, ModelError
from rag_inspect.options import FIRST_STAGE, TOP_K, TOP_N, SearchOptions
from rag_inspect.rerankers import RERANKERS
from rag_inspect.retrieval import FIRST_STAGES, find_first_stage
from rag_inspect.types import Availability, Corpus, FirstStage, ModelSpec, Query, fold_text
from rag_inspect.ui.picker import find_picked, first_example
from rag_inspect.views.sentences import story_html
from rag_inspect.words import format_count
from rag_inspect.workbench import Workbench

# Gradio's queue holds no search back: the workbench admits or refuses it at once, and searches that compute take turns
# there. So searches that wait for a download never stop the next one.
SEARCHES: dict[str, Any] = {"concurrency_limit": None}
PAGE_TOP_K, PAGE_TOP_N = (5, 50), (1, 20)  # lowest and highest value of the sliders
WRITE_LINK = """(query, corpus, first_stage, reranker, k, n, id) => {
  const link = new URL(window.location.href);
  Object.entries({q: query, corpus, first_stage, reranker, k, n}).forEach(([name, value]) => link.searchParams.set(name, value));
  if (id) link.searchParams.set('query_id', id); else link.searchParams.delete('query_id');
  link.searchParams.delete('embedder');
  if (String(link).length < 8000) history.replaceState(null, '', link);
}"""

TELL_CONTROLS = "(...values) => window.riControls('%s', ...values)"
"""Tell page.js what the controls of a tab say, so that results of other settings are greyed."""


def fold_html(tab: str) -> str:
    """Render the button that shows the controls of a tab on a phone; page.js writes what they say into it."""
    return f'<button type="button" class="ri-fold" data-tab="{tab}" aria-expanded="false">Settings <span></span></button>'


COPY_LINK = (
    f"""async (...view) => {{
  ({WRITE_LINK})(...view);  // nothing has written it yet if nobody has searched
"""
    + """  await window.riCopy(document.querySelector('#copy-link'), window.location.href);
}"""
)

# Per dropdown: remember its value when it gets the focus; later, return the new value, or null if it is the same.
_REMEMBER = "value => { (window.riHeld ||= {})[%d] = value; return []; }"
_COMPARE = """value => {
  const held = (window.riHeld ||= {});
  if (held[%d] === value) return null;
  return held[%d] = value;
}"""


def watch_choice(dropdown: gr.Dropdown) -> gr.State:
    """Return a state that changes once each time the user chooses another value in the dropdown.

    Gradio 6.31 fires a Dropdown's own `input` twice for a choice by mouse, and once when the list loses the focus
    without a choice. Its `change` also fires when the program sets the value.
    """
    chosen_at, dropdown_id = gr.State(0), dropdown._id
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    dropdown.focus(None, dropdown, None, js=_REMEMBER % dropdown_id, **quiet)
    dropdown.input(
        lambda value: gr.skip() if value is None else time.time_ns(),
        dropdown,
        chosen_at,
        js=_COMPARE % (dropdown_id, dropdown_id),
        concurrency_limit=1,  # of two at the same time, both would report the state as changed
        **quiet,
    )
    return chosen_at


def control_values(options: SearchOptions) -> tuple[Any, ...]:
    """Return the values of Explore's six controls, in their order."""
    first = options.query, options.corpus, options.first_stage, options.reranker
    return *first, options.top_k, options.kept


def from_link(params: Mapping[str, str], bench: Workbench) -> tuple[SearchOptions, str]:
    """Read the view a link names; return it with a message about everything that had to be replaced."""
    trouble: list[str] = []

    def read_choice(kind: str, table: Mapping[str, object], default: str) -> str:
        value = params.get(kind) or default
        if value in table:
            return value
        trouble.append(f'Unknown {kind} "{value[:80]}"; showing {default}.')
        return default

    name = read_choice("corpus", bench.corpora(), bench.default_corpus)
    first_stage = _read_first_stage(params, bench, name, trouble)
    reranker = read_choice("reranker", RERANKERS, bench.default_reranker)
    top_k = _clamp(params.get("k"), *PAGE_TOP_K, TOP_K)
    if params.get("k", str(top_k)) != str(top_k):
        trouble.append(f"top_k must be {PAGE_TOP_K[0]} to {PAGE_TOP_K[1]} on this page; showing {top_k}.")
    most = min(PAGE_TOP_N[1], top_k)
    top_n = _clamp(params.get("n"), PAGE_TOP_N[0], most, TOP_N)
    if params.get("n", str(top_n)) != str(top_n):
        trouble.append(
            f"top_n must be {PAGE_TOP_N[0]} to {most} with top_k {top_k} on this page; showing {top_n}."
        )
    query, unknown = _read_query(params, bench, name)
    options = SearchOptions(
        query=query.text, query_id=query.query_id or None, corpus=name, first_stage=first_stage, reranker=reranker,
        top_k=top_k, top_n=top_n,
    )  # fmt: skip
    return options, " ".join(trouble + unknown)


def _read_first_stage(params: Mapping[str, str], bench: Workbench, corpus: str, trouble: list[str]) -> str:
    """Read the first stage that a link names; older links call it the embedder."""
    value = params.get("first_stage") or params.get("embedder") or FIRST_STAGE
    try:
        stage = find_first_stage(value)
        if stage.kind != "recorded" or stage.key in list_recorded_stages(bench, corpus):
            return stage.key
        trouble.append(f'{corpus} has no recorded candidates "{value[:80]}"; showing {FIRST_STAGE}.')
    except ModelError:
        trouble.append(f'Unknown first stage "{value[:80]}"; showing {FIRST_STAGE}.')
    return FIRST_STAGE


def list_recorded_stages(bench: Workbench, corpus: str) -> list[str]:
    """List the first stages that are recorded beside a corpus, such as `recorded:yesterday`."""
    try:
        return [f"recorded:{name}" for name in list_recorded(bench.corpus(corpus))]
    except CorpusError:
        return []


def _read_query(params: Mapping[str, str], bench: Workbench, name: str) -> tuple[Query, list[str]]:
    """Read the query that a link names by `query_id`, by its text `q`, or by neither: then the first example."""
    text, query_id = params.get("q", "").strip(), params.get("query_id", "")
    try:
        corpus = bench.corpus(name)
    except CorpusError:
        return Query("", text), []
    known = corpus.query_by_id.get(query_id)
    if known and (not text or fold_text(text) == fold_text(known.text)):
        return known, []
    query = Query(find_picked(corpus, text) or "", text) if text else first_example(bench, name)
    if not query_id:
        return query, []
    shown = "the text of the link" if text else "the first example"
    return query, [f'{name} has no query "{query_id[:80]}" with this text; showing {shown}.']


def corpora_update(bench: Workbench, corpus: str | None = None) -> Any:
    """Update the list of corpora and show this one, or the default if there is no corpus with that name.

    Gradio checks a choice against the list it last sent to the session, so every page gets the list when it loads.
    """
    names = list(bench.corpora())
    default = bench.default_corpus if bench.default_corpus in names else None
    return gr.update(choices=names, value=corpus if corpus in names else default)


def describe_corpus(corpus: Corpus) -> str:
    """Render the size of the corpus and what it is about."""
    size = format_count(len(corpus.passages), "passage", "passages")
    return story_html(size, corpus.card.story or corpus.card.description)


def model_label(spec: ModelSpec, here: Availability | None) -> str:
    """Name a model and where it is: `base · on disk`, `base · download 1.1 GB`, `base · not on disk, no hub`.

    `rag-inspect models` prints why the hub cannot be used: the reason is long, and the same for every model.
    """
    if spec.source == "builtin":
        return f"{spec.key} · built in"
    if here is None:
        return f"{spec.key} · {spec.model.split('/')[-1]}"
    if here.on_disk:
        return f"{spec.key} · on disk"
    size = f"download {spec.download_bytes / 1e9:.1f} GB"
    return f"{spec.key} · {size}" if here.available else f"{spec.key} · not on disk, no hub"


def model_choices(specs: Iterable[ModelSpec], here: Mapping[str, Availability]) -> list[tuple[str, str]]:
    """(label, key) for a dropdown."""
    return [(model_label(spec, here.get(spec.key)), spec.key) for spec in specs]


def stage_choices(
    here: Mapping[str, Availability], recorded: Iterable[str] = (), chosen: str = FIRST_STAGE
) -> list[tuple[str, str]]:
    """(label, key) of each first stage for a dropdown: those of every corpus, the recorded ones, and the chosen one."""
    keys = dict.fromkeys([*FIRST_STAGES, *recorded, chosen])
    return [(_label_stage(find_first_stage(key), here), key) for key in keys]


def _label_stage(stage: FirstStage, here: Mapping[str, Availability]) -> str:
    if stage.kind == "dense" and stage.embedder:
        return model_label(stage.embedder, here.get(stage.key))
    if stage.kind == "hybrid":
        return f"hybrid · {' + '.join(part.key for part in stage.parts)}"
    return f"{stage.key} · {'words, no model' if stage.kind == 'bm25' else 'came with the corpus'}"


def stage_update(bench: Workbench, corpus: str, chosen: str) -> Any:
    """Update the list of first stages for this corpus; a recorded one that it lacks becomes the default."""
    here = {spec.key: availability for spec, availability in bench.models()}
    recorded = list_recorded_stages(bench, corpus)
    value = chosen if find_first_stage(chosen).kind != "recorded" or chosen in recorded else FIRST_STAGE
    return gr.update(choices=stage_choices(here, recorded, value), value=value)


def update_rerankers(bench: Workbench) -> Any:
    """Update a dropdown of rerankers: which are on disk, and how much the others would download."""
    here = {spec.key: availability for spec, availability in bench.models()}
    return gr.update(choices=model_choices(RERANKERS.values(), here))


def _clamp(value: str | None, low: int, high: int, default: int) -> int:
    try:
        return max(low, min(high, int(value or default)))
    except ValueError:
        return min(default, high)


def depth_sliders() -> tuple[gr.Slider, gr.Slider]:
    """Return the sliders for top_k and top_n."""
    return (
        gr.Slider(*PAGE_TOP_K, value=TOP_K, step=1, label="top_k candidates", min_width=150),
        gr.Slider(*PAGE_TOP_N, value=TOP_N, step=1, label="top_n kept", min_width=150),
    )
