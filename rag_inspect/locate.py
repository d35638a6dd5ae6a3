"""Where is passage X: its true rank in the corpus for each first stage, and what keeps it out of the top n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rag_inspect.types import Corpus, Passage, Reranking, Retriever, fold_text

Cause = Literal["kept", "demoted", "not_lifted", "index_missed", "first_stage_missed", "not_in_corpus"]
CAUSES: Mapping[Cause, str] = {
    "kept": "It is in the top {n}.",
    "demoted": "The first stage had it in the top {n}; the reranker moved it below.",
    "not_lifted": "It is among the candidates; the reranker did not lift it into the top {n}.",
    "index_missed": "Its true rank is within top_k, but the index did not return it: search it with more effort.",
    "first_stage_missed": "The first stage ranks it below top_k, so no reranker sees it.",
    "not_in_corpus": "The corpus has no such passage.",
}
"""Every cause, in words with {n} for top_n."""
FOUND = 20  # passages that a search for words lists


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where one passage is for one query.

    exact_ranks: first stage -> true rank in the whole corpus, None if that stage does not rank it. exact_rank: that of
    the search's own first stage. first_stage_rank and reranked_rank: None if it is not among the candidates.
    """

    passage_id: str
    exact_ranks: Mapping[str, int | None]
    exact_rank: int | None
    first_stage_rank: int | None
    reranked_rank: int | None
    top_n: int
    cause: Cause

    @property
    def words(self) -> str:
        """The cause in words."""
        return CAUSES[self.cause].format(n=self.top_n)

    def to_json(self) -> dict[str, Any]:
        """Return the object `where` of `explain --json`."""
        names = ("exact_rank", "first_stage_rank", "reranked_rank", "top_n", "cause")
        return {name: getattr(self, name) for name in names} | {"exact_ranks": dict(self.exact_ranks)}


def locate(
    search: Reranking, corpus: Corpus, passage_id: str, retrievers: Mapping[str, Retriever]
) -> Location:
    """Locate a passage for a complete search. `retrievers` has the search's own first stage, and any to compare with.

    Raises RetrievalError.
    """
    candidates, own = search.candidates, search.candidates.first_stage.key
    exact: dict[str, int | None] = dict.fromkeys(retrievers)
    if passage_id in corpus.passage_by_id:
        for key, retriever in retrievers.items():
            [ranks] = retriever.rank_exactly([(candidates.query, [passage_id])])
            exact[key] = ranks.get(passage_id)
    before = candidates.ranking.rank_by_id.get(passage_id)
    after = search.ranking.rank_by_id.get(passage_id)
    cause: Cause = "not_in_corpus"
    if passage_id in corpus.passage_by_id:
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


def find_passages(corpus: Corpus, text: str, most: int = FOUND) -> list[Passage]:
    """Find passages by id, else by words that their id, title or text holds; those with the words in the title first."""
    text = fold_text(text)
    if known := corpus.passage_by_id.get(text):
        return [known]
    words = text.lower()
    if not words:
        return []
    titled = [p for p in corpus.passages if words in p.title.lower() or words in p.passage_id.lower()]
    seen = {passage.passage_id for passage in titled}
    rest = (p for p in corpus.passages if p.passage_id not in seen and words in fold_text(p.text).lower())
    for passage in rest:
        if len(titled) >= most:
            break
        titled.append(passage)
    return titled[:most]


def count_reached(ranks: Sequence[int | None], top_k: int) -> int:
    """Count the passages with a true rank within top_k."""
    return sum(rank is not None and rank <= top_k for rank in ranks)
