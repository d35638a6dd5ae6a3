"""Score pairs through the cache, and sort by score. Only this module sorts a reranker's scores."""

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
    """A batch of scores by the pair's place; `cached` tells whether they came from the cache."""

    scores: Mapping[int, float]
    cached: bool


def score_pairs(
    reranker: Reranker, pairs: Sequence[Pair], cache: ScoreCache | None = None
) -> Iterator[Scored]:
    """Yield the scores of all pairs: first those in the cache, then the model's, batch by batch.

    The model reads equal pairs once. Each batch is in the cache before it is yielded; closing the iterator stops
    the work. Raises RerankError, which names the model, at a score that is not finite.
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
                    f'"{todo[at][1].passage_id}"; expected a finite score, so try another reranker'
                )
        if cache:
            cache.put(reranker.fingerprint, [(todo[at], score) for at, score in batch.items()])
        yield Scored({place: score for at, score in batch.items() for place in groups[at]}, cached=False)


def lacks_scores(reranker: Reranker, pairs: Sequence[Pair], cache: ScoreCache | None = None) -> bool:
    """Return True if the cache lacks a score for any of these pairs, so that the model must read it."""
    return len(cache.get(reranker.fingerprint, pairs) if cache else ()) < len(pairs)


def rank(candidates: Ranking, scores: Mapping[str, float]) -> Ranking:
    """Sort the candidates that have a score, best first; equal scores keep the first stage's order.

    Raises RerankError at a score that is not finite.
    """
    scored = [hit.passage_id for hit in candidates if hit.passage_id in scores]
    for passage_id in scored:
        if not math.isfinite(scores[passage_id]):
            raise RerankError(
                f'passage "{passage_id}" has the score {scores[passage_id]}; expected a finite number'
            )
    ordered = sorted(scored, key=lambda passage_id: -scores[passage_id])
    return Ranking.of([(passage_id, scores[passage_id]) for passage_id in ordered])


def order_columns(scores: np.ndarray, depth: int | None = None) -> np.ndarray:
    """Return each row's column numbers by descending score: int, of the shape of `scores`, (n, K).

    Equal scores keep the first stage's order. So do the columns from `depth` on, which come after the others.
    NaN marks the places past the end of a ranking; they come last.
    """
    falling = np.where(np.isnan(scores), np.inf, -scores)
    if depth is not None:
        falling = np.where(np.arange(scores.shape[-1]) < depth, falling, np.inf)
    return np.argsort(falling, axis=-1, kind="stable")
