"""Where is passage X: its true rank in the corpus for each first stage, and what keeps it out of the top n."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from rag_inspect.errors import InputError
from rag_inspect.pipeline import rank_exactly
from rag_inspect.types import Cause, Corpus, Location, Passage, Reranking, Retriever, fold_text

FOUND = 20  # passages that a search for words lists
NEAREST_AMONG = 50_000  # ids that are compared with one that is not there


def locate(
    search: Reranking, corpus: Corpus, passage_id: str, retrievers: Mapping[str, Retriever]
) -> Location:
    """Locate a passage for a complete search. `retrievers` has the search's own first stage, and any to compare with.

    Raises RetrievalError.
    """
    candidates, own = search.candidates, search.candidates.first_stage.key
    query, before = candidates.query, candidates.ranking.rank_by_id.get(passage_id)
    exact: dict[str, int | None] = dict.fromkeys(retrievers)
    kept = query.query_id in candidates.ranking.rank_by_id  # else it was left out, if it is a passage
    if passage_id in corpus.passage_by_id:
        for key, retriever in retrievers.items():
            [ranks] = rank_exactly(retriever, corpus, [(query, [passage_id])], candidates.top_k, kept)
            exact[key] = ranks.get(passage_id)
    after = search.ranking.rank_by_id.get(passage_id)
    cause: Cause = "not_in_corpus"
    if passage_id == query.query_id and passage_id in corpus.queries_as_passages and not kept:
        cause = "left_out"
    elif passage_id in corpus.passage_by_id:
        cause = name_cause(exact[own], before, after, candidates.top_k, search.top_n)
    return Location(
        passage_id=passage_id,
        exact_ranks=exact,
        exact_rank=exact[own],
        first_stage_rank=before,
        reranked_rank=after,
        top_n=search.top_n,
        cause=cause,
    )


def name_cause(exact: int | None, before: int | None, after: int | None, top_k: int, top_n: int) -> Cause:
    """Name what became of a passage of the corpus; see CAUSES."""
    if before is None or after is None:
        return "index_missed" if exact is not None and exact <= top_k else "first_stage_missed"
    if after <= top_n:
        return "kept"
    return "demoted" if before <= top_n else "not_lifted"


def find_passage(corpus: Corpus, passage_id: str) -> Passage:
    """Return the passage with this id. Raises InputError, which names the nearest ids, if there is none."""
    if found := corpus.passage_by_id.get(passage_id):
        return found
    some = list(corpus.passage_by_id)[:NEAREST_AMONG]
    near = difflib.get_close_matches(passage_id[:200], some, n=3, cutoff=0.5)
    nearest = f"the nearest ids are {', '.join(near)}" if near else "no id is like it"
    raise InputError(f'{corpus.name} has no passage "{passage_id[:80]}"; {nearest}')


def find_passages(corpus: Corpus, text: str, most: int = FOUND) -> list[Passage]:
    """Find passages by id, else by words that their id, title and text hold, in any order; those in the title first."""
    if known := corpus.passage_by_id.get(text) or corpus.passage_by_id.get(fold_text(text)):
        return [known]
    words = fold_text(text).lower().split()
    if not words:
        return []
    titled, rest = list[Passage](), list[Passage]()
    for passage in corpus.passages:
        head = fold_text(f"{passage.passage_id} {passage.title}").lower()
        if all(word in head for word in words):
            titled.append(passage)
        elif len(rest) < most and all(
            word in head or word in fold_text(passage.text).lower() for word in words
        ):
            rest.append(passage)
    return [*titled, *rest][:most]
