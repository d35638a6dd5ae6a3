"""The eval queries of a corpus: which are listed, which one is in the query box, and the next one."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rag_inspect.errors import CorpusError
from rag_inspect.types import Corpus, Query, fold_text
from rag_inspect.workbench import Workbench

LISTED_QUERIES = 500  # shown in the picker; tens of thousands stall a browser


def first_example(bench: Workbench, corpus: str) -> Query:
    """Return the corpus's first example query, else its first query, else one without words."""
    try:
        chosen = bench.corpus(corpus)
    except CorpusError:
        return Query("", "")
    known = [
        chosen.query_by_id[query_id] for query_id in chosen.card.examples if query_id in chosen.query_by_id
    ]
    return next(iter((*known, *chosen.queries)), Query("", ""))


def picker_choices(corpus: Corpus, picked: str | None = None) -> list[tuple[str, str]]:
    """Return (text, query_id) of the judged queries, examples first, and of the `picked` one if it is another.

    Queries of one text show their ids.
    """
    examples = [corpus.query_by_id[q] for q in corpus.card.examples if q in corpus.query_by_id]
    first = {query.query_id for query in examples}
    rest = (query for query in corpus.queries if query.query_id not in first and corpus.gold(query.query_id))
    listed = [*examples, *rest][:LISTED_QUERIES]
    known = corpus.query_by_id.get(picked or "")
    if known and known not in listed:
        listed.append(known)
    return [
        (
            f"{query.text[:160]} ({query.query_id})"
            if len(corpus.find_queries(query.text)) > 1
            else query.text[:160],
            query.query_id,
        )
        for query in listed
    ]


def picker_update(corpus: Corpus, text: str, picked: str | None = None) -> Any:
    """Fill the picker with the corpus's judged queries and show the one in the query box."""
    picked = find_picked(corpus, text, picked)
    judged = sum(bool(corpus.gold(query.query_id)) for query in corpus.queries)
    listed = f", first {LISTED_QUERIES} shown" if judged > LISTED_QUERIES else ""
    label = (
        f"Eval queries of this corpus ({judged:,}{listed})" if judged else "This corpus has no eval queries"
    )
    return gr.update(choices=picker_choices(corpus, picked), value=picked, label=label)


def find_picked(corpus: Corpus, text: str, picked: str | None = None) -> str | None:
    """Return the id of the query in the query box: the `picked` one while the text is its own, else the only one like it."""
    known = corpus.query_by_id.get(picked or "")
    if known and fold_text(text) == fold_text(known.text):
        return known.query_id
    same = corpus.find_queries(text)
    return same[0].query_id if len(same) == 1 else None


def find_query_text(bench: Workbench, name: str, query_id: str | None) -> str:
    """Return the text of an eval query. Raises CorpusError."""
    query = bench.corpus(name).query_by_id.get(query_id or "")
    if query is None:
        raise CorpusError(f'{name} has no query "{query_id}"; choose one from the list')
    return query.text


def show_picked(bench: Workbench, name: str, text: str, picked: str | None) -> Any:
    """Show in the picker the query in the query box; send the list again only if it lacks the query."""
    corpus = bench.corpus(name)
    found = find_picked(corpus, text, picked)
    listed = found is None or found in (query_id for _, query_id in picker_choices(corpus))
    return gr.update(value=found) if listed else picker_update(corpus, text, found)


def step(bench: Workbench, by: int, name: str, query_id: str | None) -> list[Any]:
    """Return the text and the id of the eval query `by` places after this one. Raises CorpusError if there is none."""
    corpus = bench.corpus(name)
    ids = [query_id for _, query_id in picker_choices(corpus)]
    if not ids:
        raise CorpusError(f"{name} has no eval queries to step through; type a query instead")
    place = (ids.index(query_id) + by) % len(ids) if query_id in ids else 0
    return [corpus.query_by_id[ids[place]].text, ids[place]]
