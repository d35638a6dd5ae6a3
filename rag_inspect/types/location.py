"""Where one passage is for one query, and what keeps it out of the top n."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Cause = Literal[
    "kept", "demoted", "not_lifted", "index_missed", "first_stage_missed", "left_out", "not_in_corpus"
]  # fmt: skip
CAUSES: Mapping[Cause, str] = {
    "kept": "It is in the top {n}.",
    "demoted": "The first stage had it in the top {n}; the reranker moved it below.",
    "not_lifted": "It is among the candidates; the reranker did not lift it into the top {n}.",
    "index_missed": "Its true rank is within top_k, but the index did not return it: search it with more effort.",
    "first_stage_missed": "The first stage ranks it below top_k, so no reranker sees it.",
    "left_out": "It is the query itself (it has the query's id), so it was left out of the candidates.",
    "not_in_corpus": "The corpus has no such passage.",
}
"""Every cause, in words with {n} for top_n."""


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
        if self.cause == "first_stage_missed" and self.exact_rank is None:
            return "The first stage does not rank it at all, so no reranker sees it."
        return CAUSES[self.cause].format(n=self.top_n)

    def to_json(self) -> dict[str, Any]:
        """Return the object `where` of `explain --json`."""
        names = ("exact_rank", "first_stage_rank", "reranked_rank", "top_n", "cause")
        return {name: getattr(self, name) for name in names} | {"exact_ranks": dict(self.exact_ranks)}
