"""What if the passage, or the query, read otherwise: the new score and rank, the other candidates held fixed."""

from __future__ import annotations

from rag_inspect.errors import InputError
from rag_inspect.pipeline import clean_query
from rag_inspect.score_cache import ScoreCache
from rag_inspect.scoring import rank, score_pairs
from rag_inspect.types import Passage, Ranking, Reranker, Reranking, WhatIf

LONGEST_EDIT = 20_000  # characters of an edited passage


def ask_what_if(
    search: Reranking,
    passage: Passage,
    reranker: Reranker,
    cache: ScoreCache | None = None,
    *,
    text: str,
    query: str,
) -> WhatIf:
    """Score an edited passage for an edited query; either may be as it was. Nothing enters an index.

    `passage` is a candidate of the complete search, `text` stands for its full text. Raises InputError for an empty edit
    and RerankError.
    """
    first, own = search.candidates, passage.passage_id
    asked, query_notes = clean_query(query)
    edited, notes = _edit(passage, text)
    # With another query, the other candidates are scored again; else their scores are known.
    others = [each for each in first.in_order if each.passage_id != own] if asked != first.query.text else []
    pairs = [(asked, edited), *((asked, each) for each in others)]
    known = {
        place: score for found in score_pairs(reranker, pairs, cache) for place, score in found.scores.items()
    }
    scored = {each.passage_id: known[place] for place, each in enumerate(others, 1)}
    ranked = rank(first.ranking, {**search.ranking.score_by_id, **scored, own: known[0]})
    before = search.ranking
    return WhatIf(
        passage_id=own,
        score=known[0],
        score_before=before.score_by_id[own],
        rank=ranked.rank_by_id[own],
        rank_before=before.rank_by_id[own],
        margin=_find_margin(ranked, own, search.top_n),
        top_n=search.top_n,
        notes=query_notes + notes,
    )


def _edit(passage: Passage, text: str) -> tuple[Passage, tuple[str, ...]]:
    """Return the edited passage, and a note if the edit was cut."""
    if not text.strip():
        raise InputError("the edit is empty; write something, or go back to the original")
    if text == passage.full_text:
        return passage, ()  # with its stored vector
    cut = f"The passage has {len(text):,} characters; the reranker was given the first {LONGEST_EDIT:,}."
    return Passage(passage.passage_id, text[:LONGEST_EDIT]), (cut,) if len(text) > LONGEST_EDIT else ()


def _find_margin(ranked: Ranking, passage_id: str, top_n: int) -> float | None:
    """Return how far a passage is above the first outside the top n, or below the last inside; None if there is none."""
    hits = ranked.hits
    inside = ranked.rank_by_id[passage_id] <= top_n
    at = top_n if inside else top_n - 1
    return ranked.score_by_id[passage_id] - hits[at].score if at < len(hits) else None
