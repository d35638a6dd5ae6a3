"""Hybrid retrieval: the rankings of several first stages, joined by reciprocal rank fusion.

Source: Cormack, Clarke & Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
Methods", SIGIR 2009, with their k = 60.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from rag_inspect.types import Candidates, Corpus, FirstStage, Hit, Passage, Query, Ranking, Reading, Retriever

K = 60
LEAST_DEPTH = 100


def choose_depth(top_k: int) -> int:
    """Return how deep the parts of a fusion are searched."""
    return max(LEAST_DEPTH, 2 * top_k)


class HybridRetriever:
    """Searches every part at least LEAST_DEPTH deep, and twice as deep as asked; then ranks by the sum of 1 / (K + rank).

    Passages with the same score in a part share its best rank, so equal texts tie.
    """

    def __init__(self, first_stage: FirstStage, corpus: Corpus, parts: Sequence[Retriever]) -> None:
        self.first_stage, self._parts = first_stage, tuple(parts)
        self._order = {passage.passage_id: place for place, passage in enumerate(corpus.passages)}

    def search(self, queries: Sequence[Query], top_k: int) -> list[Candidates]:
        """Find the candidates of each query; `parts` tells where each part has them.

        `timings_ms` has the steps of the parts, only for a single query.
        """
        deep = choose_depth(top_k)
        found = [part.search(queries, deep) for part in self._parts]
        return [
            self._fuse(query, top_k, rankings)
            for query, rankings in zip(queries, zip(*found, strict=True), strict=True)
        ]

    def _fuse(self, query: Query, top_k: int, found: Sequence[Candidates]) -> Candidates:
        began = time.perf_counter()
        fused, best = self._order_fused(found)
        kept, beyond = best[:top_k], best[top_k:]
        passages: dict[str, Passage] = {}
        timings: dict[str, float] = {}
        for candidates in reversed(found):  # the first part comes last: its passages have their vectors
            passages |= candidates.passages
        for candidates in found:
            timings = _add_timings(timings, candidates.timings_ms)
        timings = _add_timings(timings, {"retrieve": (time.perf_counter() - began) * 1000})
        return Candidates(
            query=query,
            first_stage=self.first_stage,
            top_k=top_k,
            ranking=Ranking.of([(passage_id, fused[passage_id]) for passage_id in kept]),
            passages={passage_id: passages[passage_id] for passage_id in kept},
            parts={each.first_stage.key: _list_ranks(each, kept) for each in found},
            tied=sum(fused[passage_id] == fused[kept[-1]] for passage_id in beyond) if kept else 0,
            timings_ms=timings if any(each.timings_ms for each in found) else {},
            notes=tuple(note for each in found for note in each.notes),
        )

    def _order_fused(self, found: Sequence[Candidates]) -> tuple[dict[str, float], list[str]]:
        """Return the score of every passage that a part found, and their ids, best first."""
        fused = fuse_ranks([candidates.ranking for candidates in found])
        return fused, sorted(fused, key=lambda passage_id: (-fused[passage_id], self._order[passage_id]))

    def rank_exactly(self, wanted: Sequence[tuple[Query, Sequence[str]]], top_k: int) -> list[dict[str, int]]:
        """Return the rank of each query's wanted passages among all that a search for `top_k` fuses."""
        found = [part.search([query for query, _ in wanted], choose_depth(top_k)) for part in self._parts]
        fused = [self._order_fused(rankings)[1] for rankings in zip(*found, strict=True)]
        ranks = [{passage_id: rank for rank, passage_id in enumerate(best, 1)} for best in fused]
        return [
            {passage_id: known[passage_id] for passage_id in ids if passage_id in known}
            for known, (_, ids) in zip(ranks, wanted, strict=True)
        ]

    def audit(self, queries: Sequence[Query], top_k: int) -> float | None:
        """Return the lowest share of its parts, each as deep as it is searched for `top_k`."""
        shares = (part.audit(queries, choose_depth(top_k)) for part in self._parts)
        return min((share for share in shares if share is not None), default=None)

    def readings(self, query: str, passages: Sequence[Passage]) -> list[Reading] | None:
        """Return what the part that reads least reads; None if every part reads everything or does not tell.

        A query of which that part knows no token still means something to a part that reads everything.
        """
        told = [part.readings(query, passages) for part in self._parts]
        known = next((readings for readings in told if readings is not None), None)
        if known is None or None not in told:
            return known
        return [replace(each, query=each.query and replace(each.query, unknown=0)) for each in known]


def _add_timings(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return the milliseconds of both, added up by step."""
    return {step: one.get(step, 0.0) + other.get(step, 0.0) for step in {**one, **other}}


def fuse_ranks(rankings: Iterable[Ranking], k: int = K) -> dict[str, float]:
    """Return each passage's sum of 1 / (k + rank) over the rankings that hold it; hits of equal score share a rank."""
    fused: dict[str, float] = {}
    for ranking in rankings:
        for hit, rank in _share_ranks(ranking):
            fused[hit.passage_id] = fused.get(hit.passage_id, 0.0) + 1 / (k + rank)
    return fused


def _share_ranks(ranking: Ranking) -> Iterable[tuple[Hit, int]]:
    """Yield each hit with its rank, or with that of the first hit of the same score."""
    for _, same in groupby(ranking, key=lambda hit: hit.score):
        hits = list(same)
        yield from ((hit, hits[0].rank) for hit in hits)


def _list_ranks(part: Candidates, kept: Sequence[str]) -> Mapping[str, int]:
    """Return the part's rank of each of these passages that it found."""
    ranks = part.ranking.rank_by_id
    return {passage_id: ranks[passage_id] for passage_id in kept if passage_id in ranks}
