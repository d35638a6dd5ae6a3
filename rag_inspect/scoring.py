"""Pairs to scores, through the cache, and scores to an order: the one place that sorts what a reranker says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag_inspect.errors import RerankError
from rag_inspect.score_cache import ScoreCache
from rag_inspect.types import Pair, Ranking, Reranker


@dataclass(frozen=True)
class Scored:
    """A batch of scores by the pair's place, and whether they came from the cache."""

    scores: Mapping[int, float]
    cached: bool


def score_pairs(
    reranker: Reranker, pairs: Sequence[Pair], cache: ScoreCache | None = None
) -> Iterator[Scored]:
    """Scores of the pairs: first all that the cache knows, then batch by batch what the model had to read.

    Equal pairs are read once. Each batch is in the cache before it is yielded; closing the iterator stops
    the work there. Raises RerankError, naming the model, at a score that is not finite.
    """
    known = cache.get(reranker.fingerprint, pairs) if cache else {}
    if known:
        yield Scored(known, cached=True)
    places: dict[tuple[str, str], list[int]] = {}
    for place, (query, passage) in enumerate(pairs):
        if place not in known:
            places.setdefault((query, passage.full_text), []).append(place)
    groups = list(places.values())
    todo = [pairs[group[0]] for group in groups]
    for batch in reranker.score_pairs(todo) if todo else ():
        for at, score in batch.items():
            if not math.isfinite(score):
                raise RerankError(
                    f"{reranker.spec.key} ({reranker.spec.model}) gave {score} for passage "
                    f'"{todo[at][1].passage_id}"; no order can be made of it, so try another reranker'
                )
        if cache:
            cache.put(reranker.fingerprint, [(todo[at], score) for at, score in batch.items()])
        yield Scored({place: score for at, score in batch.items() for place in groups[at]}, cached=False)


def lacks_scores(reranker: Reranker, pairs: Sequence[Pair], cache: ScoreCache | None = None) -> bool:
    """Whether the model has to read any of these pairs; it has not to where the cache knows them all."""
    return len(cache.get(reranker.fingerprint, pairs) if cache else ()) < len(pairs)


def rank(candidates: Ranking, scores: Mapping[str, float]) -> Ranking:
    """The candidates that have a score, best first; equal scores keep the first stage's order.

    Raises RerankError at a score that is not finite.
    """
    scored = [hit.passage_id for hit in candidates if hit.passage_id in scores]
    for passage_id in scored:
        if not math.isfinite(scores[passage_id]):
            raise RerankError(
                f'passage "{passage_id}" has the score {scores[passage_id]}; no order can be made of it'
            )
    ordered = sorted(scored, key=lambda passage_id: -scores[passage_id])
    return Ranking.of([(passage_id, scores[passage_id]) for passage_id in ordered])


def order_columns(scores: np.ndarray, depth: int | None = None) -> np.ndarray:
    """Columns by falling score, row by row: int of the shape of `scores`, (n, K). NaN, past the end, comes last.

    Equal scores keep the first stage's order, and so do the columns from `depth` on, behind the others.
    """
    falling = np.where(np.isnan(scores), np.inf, -scores)
    if depth is not None:
        falling = np.where(np.arange(scores.shape[-1]) < depth, falling, np.inf)
    return np.argsort(falling, axis=-1, kind="stable")
